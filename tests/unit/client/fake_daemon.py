# SPDX-License-Identifier: Apache-2.0
"""A daemon for tests of the client and meshctl: a thread per session around the real session machine.

It keeps what it is sent and gives what it was loaded with. A test replaces single answers by `replies`, and makes the
daemon hang up by `hang_up_on`.
"""

import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from meshd.control.errors import ControlError
from meshd.control.frames import Request
from meshd.control.methods import introspection
from meshd.control.server_session import HelloInfo, ServerSession

Reply = Callable[[dict[str, Any]], Any]

STATUS = {
    "node": "dtn://dpop1/",
    "version": "0.1.0",
    "uptime_s": 3661.0,
    "pid": 42,
    "clock": {"trusted": True, "time_ms": 1_767_323_045_000},
    "store": {"bundles": 3, "bytes": 2048, "quota_bytes": 1 << 33, "known": 9},
    "links": {"up": 1, "total": 2},
    "tls": {"satcom0": "require"},
    "queued": {"bundles": 2, "bytes": 1536},
    "emcon": {"profile": "quiet", "postures": {"satcom0": "RX_ONLY"}},
    "messages": {"queued": 1, "forwarded": 0, "delivered": 4, "expired": 0, "refused": 0},
    "memory_bytes": 40 << 20,
}
EMCON = {
    "profile": "quiet",
    "by": "root",
    "reason": None,
    "since_ms": 1_767_323_045_000,
    "until_ms": None,
    "source": "order",
    "profiles": ["quiet-radio", "open"],
    "schedule": None,
    "bearers": [
        {
            "bearer": "satcom0",
            "device": "sat0",
            "radiating": True,
            "posture": "RX_ONLY",
            "gate": {"open": False, "tx_frames": 0, "blocked_frames": 7},
            "restriction": None,
            "problem": None,
        }
    ],
}
BUNDLE = {
    "id": "dtn://dpop1/inbox@1.0",
    "ref": "3f9a1c0be2d4",
    "source": "dtn://dpop1/inbox",
    "destination": "dtn://home/inbox",
    "precedence": "FLASH",
    "size_bytes": 1536,
    "state": "queued",
    "expiry_ms": 1_767_323_045_000,
    "received_ms": 1_767_323_045_000,
    "part": {"index": 0, "last": False},
    "message_ref": "3f9a1c0be2d4",
}
HISTORY = [{"time_ms": 1_767_323_045_000, "what": "queued for satcom0"}]


def received(ref: str, size_bytes: int) -> dict[str, Any]:
    """The answer to `recv.next` about a message."""
    return {
        "message": f"dtn://dpop1/inbox@{ref}.0",
        "ref": ref,
        "source": "dtn://dpop1/inbox",
        "destination": "dtn://home/inbox",
        "precedence": "ROUTINE",
        "size_bytes": size_bytes,
        "created_ms": 0,
        "expiry_ms": 1,
    }


class FakeDaemon:
    """Listens at `path` until `stop`; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replies: dict[str, Reply] = {}
        self.hang_up_on: deque[str] = deque()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.sent: dict[int, bytearray] = {}
        self.inbox: list[tuple[dict[str, Any], bytes]] = []
        self.confirmed: list[str] = []
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start()

    def __enter__(self) -> "FakeDaemon":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._threads.append(threading.Thread(target=self._accept))
        self._threads[-1].start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self.drop_sessions()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def drop_sessions(self) -> None:
        """Close every session, as a daemon that ends does; new ones are welcome."""
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def refuse(self, method: str, name: str, message: str = "no") -> None:
        """Let a method fail from now on."""

        def fail(_params: dict[str, Any]) -> Any:
            raise ControlError(name, message)

        self.replies[method] = fail

    def load(self, ref: str, data: bytes) -> None:
        """Put a message into the inbox."""
        self.inbox.append((received(ref, len(data)), data))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        machine = ServerSession(HelloInfo("dtn://dpop1/", "0.1.0"), 0.0)
        with connection:
            try:
                while data := connection.recv(1 << 20):
                    machine.receive_data(data, 0.0)
                    while (event := machine.next_event()) is not None:
                        if not isinstance(event, Request) or not self._answer(machine, event):
                            return
                    while output := machine.data_to_send(0.0):
                        connection.sendall(output)
            except OSError:
                return

    def _answer(self, machine: ServerSession, request: Request) -> bool:
        self.calls.append((request.method, request.params))
        if self.hang_up_on and self.hang_up_on[0] == request.method:
            self.hang_up_on.popleft()
            return False
        default = getattr(self, "_do_" + request.method.replace(".", "_"), None)
        reply = self.replies.get(request.method, default)
        assert reply is not None, request.method
        try:
            result = reply(request.params)
            for event in result.pop("notify", ()) if isinstance(result, dict) else ():
                assert machine.notify("event", event)
            machine.respond(request.id, result)
        except ControlError as error:
            machine.respond_error(request.id, error)
        return True

    def _do_introspect(self, _params: dict[str, Any]) -> Any:
        return introspection()

    def _do_status(self, _params: dict[str, Any]) -> Any:
        return STATUS

    def _do_emcon_status(self, _params: dict[str, Any]) -> Any:
        return EMCON

    def _do_bundles_show(self, _params: dict[str, Any]) -> Any:
        return {**BUNDLE, "flags": ["a", "b"], "lifetime_ms": 5, "next_hops": [], "history": HISTORY}

    def _do_bundles_list(self, _params: dict[str, Any]) -> Any:
        return {"bundles": [BUNDLE], "total": 5}

    def _do_send_message(self, params: dict[str, Any]) -> Any:
        submission = self._do_send_open(params)
        self._do_send_data({**submission, "data": params["data"]})
        return self._do_send_close(submission)

    def _do_send_open(self, _params: dict[str, Any]) -> Any:
        self.sent[len(self.sent) + 1] = bytearray()
        return {"submission": len(self.sent)}

    def _do_send_data(self, params: dict[str, Any]) -> Any:
        self.sent[params["submission"]] += params["data"]
        return {}

    def _do_send_close(self, params: dict[str, Any]) -> Any:
        size_bytes = len(self.sent[params["submission"]])
        return {"message": BUNDLE["id"], "ref": BUNDLE["ref"], "parts": 1, "size_bytes": size_bytes, "state": "queued"}

    def _do_send_abort(self, params: dict[str, Any]) -> Any:
        del self.sent[params["submission"]]
        return {}

    def _do_message_wait(self, params: dict[str, Any]) -> Any:
        return {"message": params["message"], "ref": BUNDLE["ref"], "state": "delivered", "reason": None}

    def _do_recv_open(self, params: dict[str, Any]) -> Any:
        return {"receiver": 1, "endpoint": f"dtn://home/{params['endpoint']}"}

    def _do_recv_next(self, params: dict[str, Any]) -> Any:
        if not self.inbox:
            raise ControlError("timeout", "no message came")
        message, data = self.inbox[0]
        return message | {"data": data} if len(data) <= params["data_max_bytes"] else message

    def _do_recv_read(self, params: dict[str, Any]) -> Any:
        end = params["offset"] + params["size_bytes"]
        return {"data": self.inbox[0][1][params["offset"] : end]}

    def _do_recv_confirm(self, params: dict[str, Any]) -> Any:
        assert self.inbox[0][0]["message"] == params["message"]
        self.inbox.pop(0)
        self.confirmed.append(params["message"])
        return {}

    def _do_recv_close(self, _params: dict[str, Any]) -> Any:
        return {}
