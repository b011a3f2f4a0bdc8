# SPDX-License-Identifier: Apache-2.0
"""One connection of the AAP 2.0 socket: tasks around the session machine, and its requests to the daemon's logic.

What a client sends becomes `send.*` of the ControlHandler, what a subscriber gets comes by `recv.*`: an AAP 2.0
application has the same promises as one on the control socket. A payload is answered with SUCCESS when its message is
durable; a message is confirmed when the subscriber has answered for it, and stays with the node otherwise.
"""

import fcntl
import math
import termios
from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Final, assert_never

import trio

from meshd.bundle.eid import Eid
from meshd.bundle.record import parse_bundle_id_text
from meshd.control import aap2_session as aap2
from meshd.control.aap2_messages import AduFlag, AuthType, BundleAdu, ConnectionConfig, Status
from meshd.control.errors import ControlError
from meshd.control.methods import METHODS
from meshd.control.params import check_params
from meshd.daemon.aap2_endpoints import Aap2Endpoints
from meshd.daemon.control_handler import ControlHandler
from meshd.daemon.control_peer import Peer
from meshd.daemon.submissions import local_endpoint
from meshd.node.echo import is_echo

RECEIVE_MAX_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 256 * 1024
"""Of a payload on its way to a subscriber."""
STALLED_S: Final = 60.0
"""A client that takes nothing for so long is dropped."""
LAST_WORDS_S: Final = 1.0
_INT_BYTES: Final = 4

Report = Callable[[str, dict[str, Any]], None]

_STATUSES: Final = {
    "bad_params": Status.INVALID_REQUEST,
    "not_found": Status.NOT_FOUND,
    "unauthorised": Status.UNAUTHORIZED,
    "timeout": Status.TIMEOUT,
    "refused_by_policy": Status.INVALID_REQUEST,
}
"""Every other error is an ERROR."""
_TAKEN: Final = frozenset((Status.SUCCESS, Status.ACK))


class Aap2Connection:
    """Serves one client until it ends; also the SessionHandle that the daemon's logic gets."""

    def __init__(
        self,
        stream: trio.SocketStream,
        session_id: int,
        peer: Peer,
        may_use: bool,
        own_node: Eid,
        handler: ControlHandler,
        endpoints: Aap2Endpoints,
        report: Report,
    ) -> None:
        """Own the stream. `may_use`: the peer may send and receive at all."""
        self.peer = peer
        self.id = session_id
        self._stream = stream
        self._may_use = may_use
        self._own_node = own_node
        self._handler = handler
        self._endpoints = endpoints
        self._report = report
        self._machine = aap2.Aap2Session(own_node.uri, trio.current_time())
        self._nursery: trio.Nursery | None = None
        self._sending = trio.Lock()
        self._timer_changed = trio.Event()
        self._endpoint: Eid | None = None
        self._submission: int | None = None
        self._problem: ControlError | None = None
        """Why the payload that is arriving is refused."""
        self._answer: Status | None = None
        self._answered = trio.Event()

    def notify(self, method: str, params: dict[str, Any]) -> bool:
        """AAP 2.0 has no notifications."""
        del method, params
        return False

    async def serve(self) -> None:
        """Run the session to its end. The handler's `session_closed` is called whatever the end was."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._watch_timer)
                await self._flush()
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self._stream.socket.close()
            self._endpoints.release(self)
            self._handler.session_closed(self)

    # Tasks.

    async def _read(self) -> None:
        """Deal with what the client sends, one thing after the other, until it is gone or the session has ended."""
        while self._machine.state is not aap2.SessionState.ENDED:
            try:
                data = await self._stream.receive_some(RECEIVE_MAX_BYTES)
            except trio.BrokenResourceError:
                return
            if not data:
                return
            self._machine.receive_data(data, trio.current_time())
            await self._take_events()

    async def _watch_timer(self) -> None:
        while True:
            self._timer_changed = trio.Event()
            deadline = self._machine.get_timer()
            with trio.CancelScope(deadline=math.inf if deadline is None else deadline):
                await self._timer_changed.wait()
            self._machine.handle_timer(trio.current_time())
            await self._take_events()

    async def _flush(self) -> None:
        """Hand the machine's bytes to the socket; drop a client that takes none for long."""
        self._timer_changed.set()
        async with self._sending:
            while data := self._machine.data_to_send(trio.current_time()):
                try:
                    with trio.fail_after(STALLED_S):
                        await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.TooSlowError):
                    self._stop()
                    return

    def _stop(self) -> None:
        assert self._nursery is not None, "it runs"
        self._nursery.cancel_scope.cancel()

    async def _take_events(self) -> None:
        while (event := self._machine.next_event()) is not None:
            match event:
                case aap2.ConfigRequested(config):
                    await self._configure(config)
                case aap2.AduBegun(adu):
                    await self._begin(adu)
                case aap2.AduPiece(data):
                    await self._add(data)
                case aap2.AduEnded():
                    self._machine.respond(await self._finish(), trio.current_time())
                    await self._flush()
                case aap2.AduAnswered(status):
                    self._answer = status if self._has_read_all() else Status.ERROR
                    self._answered.set()
                case aap2.SessionEnded():
                    await self._end(event)
                case _:
                    assert_never(event)
        await self._flush()

    async def _end(self, event: aap2.SessionEnded) -> None:
        """Let the client have the last answer, for a moment."""
        endpoint = self._endpoint.uri if self._endpoint else None
        self._report("aap2.ended", {"uid": self.peer.uid, "endpoint": endpoint, "reason": event.text})
        with trio.move_on_after(LAST_WORDS_S):
            await self._flush()
        self._stop()

    async def _call(self, method: str, **params: Any) -> Any:
        """A method of the control protocol, in this client's name. Raises ControlError."""
        answer = self._handler.call(self, method, check_params(method, METHODS[method].params, params))
        return await answer if isawaitable(answer) else answer

    # What the client wants to be.

    async def _configure(self, config: ConnectionConfig) -> None:
        try:
            endpoint = self._check_config(config)
            self._endpoints.register(self, endpoint, config.secret, is_subscriber=config.is_subscriber)
            opened = await self._call("recv.open", endpoint=endpoint.uri) if config.is_subscriber else None
        except ControlError as error:
            self._endpoints.release(self)
            self._machine.refuse(_STATUSES.get(error.name, Status.ERROR), str(error))
            return
        self._endpoint = endpoint
        self._machine.accept(config, trio.current_time())
        if opened is not None:
            assert self._nursery is not None, "it runs"
            self._nursery.start_soon(self._deliver, opened["receiver"])

    def _check_config(self, config: ConnectionConfig) -> Eid:
        """The endpoint that the client is to have. Raises ControlError."""
        if not self._may_use:
            raise ControlError("unauthorised", f"user {self.peer.uid} is no member of the AAP 2.0 socket's group")
        if config.auth_type != AuthType.DEFAULT:
            raise ControlError("unauthorised", "administrative connections are not served: use meshctl")
        if not config.endpoint_id:
            raise ControlError("bad_params", "a connection without an endpoint is of no use here")
        endpoint = local_endpoint(self._own_node, config.endpoint_id)
        if is_echo(endpoint):
            raise ControlError("bad_params", f"{endpoint.uri} is the node's own echo service")
        return endpoint

    # From the client.

    async def _begin(self, adu: BundleAdu) -> None:
        self._submission, self._problem = None, None
        try:
            self._check_adu(adu)
            assert self._endpoint is not None, "it is configured"
            opened = await self._call(
                "send.open",
                destination=adu.dst_eid,
                endpoint=self._endpoint.uri,
                size_bytes=adu.payload_length,
                report=bool(adu.report_to_eid),
            )
            self._submission = opened["submission"]
        except ControlError as error:
            self._problem = error

    def _check_adu(self, adu: BundleAdu) -> None:
        """Raises ControlError for what an ordinary application may not ask."""
        assert self._endpoint is not None, "it is configured"
        if AduFlag.WITH_BDM_AUTH in adu.adu_flags or adu.src_eid not in ("", self._endpoint.uri):
            raise ControlError("unauthorised", "a bundle has the endpoint of its connection as its source")
        if set(adu.adu_flags) - {AduFlag.NORMAL}:
            raise ControlError("bad_params", "encapsulated bundles and status reports can't be sent by applications")
        if adu.creation_timestamp_ms or adu.sequence_number:
            raise ControlError("bad_params", "the node chooses the creation timestamp")
        if adu.report_to_eid not in ("", self._own_node.uri):
            raise ControlError("bad_params", f"reports go to the node: use {self._own_node.uri}")

    async def _add(self, data: bytes) -> None:
        """Add to the message; what belongs to a refused one is passed over."""
        if self._submission is None:
            return
        try:
            await self._call("send.data", submission=self._submission, data=data)
        except ControlError as error:
            self._submission, self._problem = None, error

    async def _finish(self) -> Status:
        """The payload is here: what became of it."""
        try:
            if self._submission is not None:
                await self._call("send.close", submission=self._submission)
        except ControlError as error:
            self._problem = error
        self._submission = None
        if self._problem is None:
            return Status.SUCCESS
        fields = {"uid": self.peer.uid, "endpoint": self._endpoint and self._endpoint.uri, "reason": str(self._problem)}
        self._report("aap2.refused", fields)
        return _STATUSES.get(self._problem.name, Status.ERROR)

    # To the client.

    async def _deliver(self, receiver: int) -> None:
        """Hand message after message to the subscriber."""
        while self._machine.state is aap2.SessionState.SUBSCRIBED:
            message = await self._call("recv.next", receiver=receiver)
            try:
                piece = await self._pull(receiver, message, 0)
            except ControlError:
                await trio.lowlevel.checkpoint()  # it has expired or was cancelled: the next one, then
                continue
            try:
                await self._deliver_one(receiver, message, piece)
            except ControlError as error:
                self._machine.terminate(str(error))
            await self._take_events()

    def _has_read_all(self) -> bool:
        """Whether the client has taken everything out of the socket; some answer before they have."""
        return not any(fcntl.ioctl(self._stream.socket.fileno(), termios.TIOCOUTQ, bytes(_INT_BYTES)))

    async def _pull(self, receiver: int, message: dict[str, Any], offset: int) -> bytes:
        """The next piece of a message. Raises ControlError when it is gone."""
        answer = await self._call(
            "recv.read", receiver=receiver, message=message["message"], offset=offset, size_bytes=PIECE_BYTES
        )
        piece: bytes = answer["data"]
        if not piece and offset < message["size_bytes"]:
            raise ControlError("failed", "the message is shorter than it was")
        return piece

    async def _deliver_one(self, receiver: int, message: dict[str, Any], piece: bytes) -> None:
        """Hand over one message whose first piece is known. Raises ControlError: the session can't go on."""
        machine = self._machine
        if machine.state is not aap2.SessionState.SUBSCRIBED:
            return
        self._answered = trio.Event()
        machine.send_adu(_describe(message), trio.current_time())
        machine.send_payload(piece, trio.current_time())
        offset = len(piece)
        while offset < message["size_bytes"]:
            await self._flush()
            piece = await self._pull(receiver, message, offset)
            machine.send_payload(piece, trio.current_time())
            offset += len(piece)
        await self._flush()
        await self._answered.wait()
        if self._answer not in _TAKEN:
            raise ControlError("failed", f"the subscriber did not take {message['ref']}")
        try:
            await self._call("recv.confirm", receiver=receiver, message=message["message"])
        except ControlError as error:
            # It expired while the application took it: nothing is left to confirm.
            self._report("aap2.unconfirmed", {"message": message["message"], "reason": str(error)})


def _describe(message: dict[str, Any]) -> BundleAdu:
    bundle = parse_bundle_id_text(message["message"])
    return BundleAdu(
        src_eid=message["source"],
        dst_eid=message["destination"],
        creation_timestamp_ms=bundle.time_ms,
        sequence_number=bundle.sequence,
        payload_length=message["size_bytes"],
    )
