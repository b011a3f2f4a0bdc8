# SPDX-License-Identifier: Apache-2.0
"""`Client`: meshd for Python programs, plain and synchronous. meshctl and the gateways use nothing else.

    with Client() as client:
        print(client.status()["node"])
        sent = client.send_bytes("dtn://home/inbox", b"hello")

One method for each method of the control protocol; files and streams are in `transfer`. A call raises ControlError
when the daemon refuses, DaemonUnreachable when it is gone, ReplyTimeout when it does not answer. After the last two
the client is closed: make a new one.
"""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self, cast

from meshd.client.connection import Connection, default_socket
from meshd.client.replies import (
    BundleList,
    Event,
    Explanation,
    HelloReply,
    MessageState,
    ReceivedMessage,
    ReloadReply,
    SentMessage,
    pick,
)
from meshd.control.words import AUDIT_LISTED_MAX, DATA_SIZE_MAX_BYTES

REPLY_TIMEOUT_S: Final = 30.0
LONG_POLL_MARGIN_S: Final = 10.0
"""The daemon keeps the time of a long poll; the client waits this much longer before it gives up on the daemon."""
BREAK_TIMEOUT_S: Final = 90.0
"""Longer than any window."""
PLAN_TIMEOUT_S: Final = 300.0
"""A long contact plan takes its time to be read and checked."""
AUDIT_TIMEOUT_S: Final = 300.0
"""So does a long audit log."""
EVENT_METHOD: Final = "event"


class Client:
    """A session with the daemon at `path` (None: $MESHD_SOCKET or the system's place). A context manager."""

    def __init__(
        self, path: str | None = None, *, name: str = "meshd.client", timeout_s: float = REPLY_TIMEOUT_S
    ) -> None:
        """Connect. `name` is for the daemon's journal; `timeout_s` is how long an answer may take."""
        self._timeout_s = timeout_s
        self._connection = Connection(path or default_socket(), name, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session. What was opened and not closed is dropped by the daemon."""
        self._connection.close()

    @property
    def hello(self) -> HelloReply:
        """What the daemon said about itself when the session began."""
        return cast("HelloReply", self._connection.hello)

    def call(self, method: str, params: dict[str, Any] | None = None, timeout_s: float | None = None) -> Any:
        """Call any method by name and return its result; `timeout_s` replaces the client's own."""
        return self.finish(self.start(method, params or {}), timeout_s)

    def start(self, method: str, params: dict[str, Any]) -> int:
        """Send a request without waiting; several may be on their way."""
        return self._connection.start(method, params, self._timeout_s)

    def finish(self, request_id: int, timeout_s: float | None = None) -> Any:
        """Wait for the answer to what `start` sent."""
        return self._connection.finish(request_id, self._timeout_s if timeout_s is None else timeout_s)

    def _long_poll(self, method: str, params: dict[str, Any], timeout_s: float | None) -> Any:
        """Call a method that waits for something to happen, `timeout_s` long or (None) for ever."""
        request_id = self.start(method, {**params, "timeout_s": timeout_s})
        return self._connection.finish(request_id, None if timeout_s is None else timeout_s + LONG_POLL_MARGIN_S)

    def introspect(self) -> dict[str, Any]:
        """The methods, errors and version of the daemon."""
        return cast("dict[str, Any]", self.call("introspect"))

    def status(self) -> dict[str, Any]:
        """How the node is."""
        return cast("dict[str, Any]", self.call("status"))

    def peers(self) -> list[dict[str, Any]]:
        """The neighbours."""
        return cast("list[dict[str, Any]]", self.call("peers")["peers"])

    def set_silent(self, node: str, until_ms: int | None = None) -> None:
        """Say that a neighbour is silent on order."""
        self.call("peers.set_silent", {"node": node, "until_ms": until_ms})

    def clear_silent(self, node: str) -> None:
        """Say that it is not."""
        self.call("peers.clear_silent", {"node": node})

    def links(self) -> list[dict[str, Any]]:
        """The links."""
        return cast("list[dict[str, Any]]", self.call("links")["links"])

    def send_open(
        self,
        destination: str,
        *,
        precedence: str = "ROUTINE",
        lifetime_ms: int | None = None,
        size_bytes: int | None = None,
        report: bool = True,
        endpoint: str = "inbox",
    ) -> int:
        """Begin a message; returns the submission for `send_data`, `send_close` and `send_abort`."""
        params = {
            "destination": destination,
            "precedence": precedence,
            "lifetime_ms": lifetime_ms,
            "size_bytes": size_bytes,
            "report": report,
            "endpoint": endpoint,
        }
        return int(self.call("send.open", params)["submission"])

    def send_data(self, submission: int, data: bytes, timeout_s: float | None = None) -> None:
        """Add at most 1 MiB to the message."""
        self.call("send.data", {"submission": submission, "data": data}, timeout_s)

    def send_close(self, submission: int, timeout_s: float | None = None) -> SentMessage:
        """End the message. When this returns it is stored for good."""
        reply = self.call("send.close", {"submission": submission}, timeout_s)
        return SentMessage(*pick(reply, SentMessage._fields))

    def send_abort(self, submission: int) -> None:
        """Drop a message that was begun."""
        self.call("send.abort", {"submission": submission})

    def send_bytes(
        self,
        destination: str,
        data: bytes,
        *,
        precedence: str = "ROUTINE",
        lifetime_ms: int | None = None,
        report: bool = True,
        endpoint: str = "inbox",
    ) -> SentMessage:
        """Send a small message (at most 1 MiB) in one go. When this returns it is stored for good."""
        params = {
            "destination": destination,
            "precedence": precedence,
            "lifetime_ms": lifetime_ms,
            "report": report,
            "endpoint": endpoint,
            "data": data,
        }
        return SentMessage(*pick(self.call("send.message", params), SentMessage._fields))

    def wait_message(self, message: str, state: str = "delivered", timeout_s: float | None = None) -> MessageState:
        """Wait until a message is `forwarded` or `delivered`, or will never be. ControlError `timeout`."""
        reply = self._long_poll("message.wait", {"message": message, "state": state}, timeout_s)
        return MessageState(*pick(reply, MessageState._fields))

    def recv_open(self, endpoint: str = "inbox") -> int:
        """Become the receiver of an application endpoint; returns the receiver for the other `recv` methods."""
        return int(self.call("recv.open", {"endpoint": endpoint})["receiver"])

    def recv_next(self, receiver: int, timeout_s: float | None = None, *, data_max_bytes: int = 0) -> ReceivedMessage:
        """Wait for a message; the same again until it is confirmed. ControlError `timeout`.

        Content of one bundle of at most `data_max_bytes` (1 MiB) is in `data` then and need not be read.
        """
        reply = self._long_poll("recv.next", {"receiver": receiver, "data_max_bytes": data_max_bytes}, timeout_s)
        return ReceivedMessage(*pick(reply, ReceivedMessage._fields))

    def recv_read(self, receiver: int, message: str, offset: int, size_bytes: int) -> bytes:
        """Read a piece of at most 1 MiB."""
        params = {"receiver": receiver, "message": message, "offset": offset, "size_bytes": size_bytes}
        return cast("bytes", self.call("recv.read", params)["data"])

    def recv_confirm(self, receiver: int, message: str) -> None:
        """Say that the message is safe here; the daemon forgets it."""
        self.call("recv.confirm", {"receiver": receiver, "message": message})

    def recv_close(self, receiver: int) -> None:
        """Stop receiving."""
        self.call("recv.close", {"receiver": receiver})

    def bundles(self, *, limit: int = 1000, destination: str | None = None, state: str | None = None) -> BundleList:
        """The bundles that the node holds."""
        params = {"limit": limit, "destination": destination, "state": state}
        return cast("BundleList", self.call("bundles.list", params))

    def show_bundle(self, bundle: str) -> dict[str, Any]:
        """All about one bundle."""
        return cast("dict[str, Any]", self.call("bundles.show", {"bundle": bundle}))

    def explain_bundle(self, bundle: str) -> Explanation:
        """Why a bundle is where it is."""
        return cast("Explanation", self.call("bundles.explain", {"bundle": bundle}))

    def cancel_bundle(self, bundle: str) -> int:
        """Delete a bundle, or all parts of a message; returns how many bundles went."""
        return int(self.call("bundles.cancel", {"bundle": bundle})["cancelled"])

    def routes(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ways that a bundle could take from here: parameters of `routes.list`."""
        return cast("dict[str, Any]", self.call("routes.list", params))

    def contacts(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The contact plan, as much of it as `contacts.list` is asked for."""
        return cast("dict[str, Any]", self.call("contacts.list", params))

    def add_contact(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add a contact to the plan: parameters of `contacts.add`."""
        return cast("dict[str, Any]", self.call("contacts.add", params))

    def remove_contacts(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove contacts from the plan: parameters of `contacts.remove`."""
        return cast("dict[str, Any]", self.call("contacts.remove", params))

    def import_contacts(self, data: bytes, **params: Any) -> dict[str, Any]:
        """Add a plan to the plan: parameters of `contacts.import`. All of it or, with a ControlError, nothing."""
        for start in range(0, max(len(data), 1), DATA_SIZE_MAX_BYTES):
            piece = data[start : start + DATA_SIZE_MAX_BYTES]
            is_last = start + DATA_SIZE_MAX_BYTES >= len(data)
            reply = self.call("contacts.import", {**params, "data": piece, "is_last": is_last}, PLAN_TIMEOUT_S)
        return cast("dict[str, Any]", reply)

    def export_contacts(self, form: str = "toml", nodes: Sequence[str] | None = None) -> tuple[bytes, list[str]]:
        """The plan as text, and what the form leaves out of it."""
        data = b""
        while True:
            params = {"form": form, "nodes": None if nodes is None else list(nodes), "offset": len(data)}
            reply = self.call("contacts.export", params, PLAN_TIMEOUT_S)
            data += reply["data"]
            if not reply["data"] or len(data) >= reply["size_bytes"]:
                return data, reply["warnings"]

    def emcon(self) -> dict[str, Any]:
        """The emission control in force."""
        return cast("dict[str, Any]", self.call("emcon.status"))

    def set_emcon(self, profile: str, **order: Any) -> dict[str, Any]:
        """Order a profile: parameters of `emcon.set`; returns what is in force then."""
        return cast("dict[str, Any]", self.call("emcon.set", {"profile": profile, **order}))

    def schedule_emcon(self, rows: Sequence[str], **order: Any) -> dict[str, Any]:
        """Order a schedule: parameters of `emcon.schedule`; returns what is in force then."""
        return cast("dict[str, Any]", self.call("emcon.schedule", {"rows": list(rows), **order}))

    def preview_emcon(self, profile: str, **schedule: Any) -> dict[str, Any]:
        """What an order would change: parameters of `emcon.preview`."""
        return cast("dict[str, Any]", self.call("emcon.preview", {"profile": profile, **schedule}))

    def break_silence(self, bearers: Sequence[str], **order: Any) -> dict[str, Any]:
        """Parameters of `emcon.break`; returns when silence holds again."""
        return cast("dict[str, Any]", self.call("emcon.break", {"bearers": list(bearers), **order}, BREAK_TIMEOUT_S))

    def emcon_plan(self, node: str | None = None) -> dict[str, Any]:
        """When this node and others, or one of them, may send by their plans."""
        return cast("dict[str, Any]", self.call("emcon.plan", {"node": node}))

    def verify_emcon(self) -> dict[str, Any]:
        """Whether the counters of gate, device and node agree with the postures."""
        return cast("dict[str, Any]", self.call("emcon.verify"))

    def audit_entries(self, last: int, since_ms: int | None = None) -> list[dict[str, Any]]:
        """The newest entries of the audit log, at most so many, the oldest of them first."""
        entries: list[dict[str, Any]] = []
        before: int | None = None
        while len(entries) < last:
            limit = min(last - len(entries), AUDIT_LISTED_MAX)
            reply = self.call("audit.list", {"limit": limit, "before": before, "since_ms": since_ms}, AUDIT_TIMEOUT_S)
            entries += reply["entries"]
            if not reply["more"] or not reply["entries"]:
                break
            before = reply["entries"][-1]["number"]
        return entries[::-1]

    def verify_audit(self, head: str | None = None) -> dict[str, Any]:
        """Check the audit log's hash chain, and that the row that `head` names is in it."""
        return cast("dict[str, Any]", self.call("audit.verify", {"head": head}, AUDIT_TIMEOUT_S))

    def subscribe(self, kinds: Sequence[str] | None = None, replay: int = 0) -> None:
        """Ask for events; `next_event` fetches them."""
        self.call("events.subscribe", {"kinds": None if kinds is None else list(kinds), "replay": replay})

    def next_event(self, timeout_s: float | None = None) -> Event | None:
        """Wait for an event; None when none came in time."""
        while (notification := self._connection.next_notification(timeout_s)) is not None:
            if notification.method == EVENT_METHOD:
                return Event(*pick(notification.params, Event._fields))
        return None

    def events(self, kinds: Sequence[str] | None = None, replay: int = 0) -> Iterator[Event]:
        """Subscribe and yield events for ever."""
        self.subscribe(kinds, replay)
        while (event := self.next_event()) is not None:
            yield event

    def reload(self) -> ReloadReply:
        """Let the daemon read its configuration again."""
        return cast("ReloadReply", self.call("reload"))
