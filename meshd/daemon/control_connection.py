# SPDX-License-Identifier: Apache-2.0
"""One accepted connection of the control socket: tasks around the session machine.

    reader   bytes from the socket -> machine -> requests, answered at once or by one task each -> bytes to the socket
    writer   machine -> bytes to the socket, as far as it did not take them at once
    timer    the machine's deadline, as long as it has one

A request that has to wait does so in a task of its own, so that a long poll holds up nothing else; requests that
`ordered_by` ties together wait for the one before. A client that stops reading is dropped: at once when its output
queue overflows, or when it has taken nothing for STALLED_S although there was something to take.
What methods mean is left to the ControlHandler; any error of its that is no ControlError is our own fault and passes.
"""

import os
from collections.abc import Awaitable
from functools import partial
from inspect import isawaitable
from typing import Any, Final, Protocol

import trio

from meshd.control.errors import ControlError
from meshd.control.frames import Request
from meshd.control.method_spec import MethodSpec
from meshd.control.methods import METHODS, introspection
from meshd.control.roles import Rights
from meshd.control.server_session import ServerSession, SessionEnded
from meshd.daemon.control_handler import ControlHandler, Pending
from meshd.daemon.control_peer import Peer

RECEIVE_MAX_BYTES: Final = 256 * 1024
STALLED_S: Final = 60.0
LAST_WORDS_S: Final = 1.0
"""How long the reason of an end may take to reach the client."""


class CallLog(Protocol):
    """Is told of calls that are to be on record. Never waits and never fails."""

    def refused(self, peer: Peer, rights: Rights, method: str, params: dict[str, Any]) -> None:
        """The user may not make this call."""

    def done(self, peer: Peer, rights: Rights, method: str, params: dict[str, Any], outcome: str) -> None:
        """An audited call was served: `ok`, or the name and text of its error."""


class ControlConnection:
    """Serves one session until it ends; also the SessionHandle that the daemon's logic gets."""

    def __init__(
        self,
        stream: trio.SocketStream,
        machine: ServerSession,
        session_id: int,
        peer: Peer,
        rights: Rights,
        audit: CallLog,
    ) -> None:
        """Own the stream."""
        self.peer = peer
        self.id = session_id
        self._stream = stream
        self._fd = stream.socket.fileno()
        self._machine = machine
        self._rights = rights
        self._permitted = frozenset(name for name, spec in METHODS.items() if _permits(rights, spec))
        self._audit = audit
        self._output_ready = trio.Event()
        self._unsent = b""
        self._is_writing = False
        """The writer has something that the socket did not take at once."""
        self._request_done = trio.Event()
        self._lane_ends: dict[tuple[str, int], trio.Event] = {}
        self._ended = False

    def notify(self, method: str, params: dict[str, Any]) -> bool:
        """Queue a notification; False when there is no room."""
        queued = not self._ended and self._machine.notify(method, params)
        if queued:
            self._output_ready.set()
        return queued

    async def serve(self, handler: ControlHandler, stalled_s: float = STALLED_S) -> None:
        """Run the session to its end. The handler's `session_closed` is called whatever the end was."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, nursery, handler)
                nursery.start_soon(self._write, nursery, stalled_s)
                nursery.start_soon(self._watch_timer, nursery, handler)
        finally:
            self._ended = True
            self._stream.socket.close()
            handler.session_closed(self)

    async def _read(self, nursery: trio.Nursery, handler: ControlHandler) -> None:
        """Turn bytes into requests until the client is gone or the session has ended."""
        while not self._ended:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                data = os.read(self._fd, RECEIVE_MAX_BYTES)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                nursery.cancel_scope.cancel()
                return
            self._machine.receive_data(data, trio.current_time())
            self._start_requests(nursery, handler)
            await self._wait_for_room()

    def _start_requests(self, nursery: trio.Nursery, handler: ControlHandler) -> None:
        while (event := self._machine.next_event()) is not None:
            if isinstance(event, SessionEnded):
                self._end(nursery, event)
            else:
                self._start_request(nursery, handler, event)
        self._flush()

    def _start_request(self, nursery: trio.Nursery, handler: ControlHandler, request: Request) -> None:
        """Answer it at once if nothing has to be waited for."""
        lane = self._lane(request)
        before = None if lane is None else self._lane_ends.get(lane)
        answer = None
        if before is None:
            try:
                answer = self._call(handler, request)
            except ControlError as error:
                self._machine.respond_error(request.id, error)
                return
            if not isawaitable(answer):
                self._machine.respond(request.id, answer)
                return
        if isinstance(answer, Pending):
            answer.on_settled = partial(self._hurry, request.id)
        mine = trio.Event()
        if lane is not None:
            self._lane_ends[lane] = mine
        nursery.start_soon(self._finish_request, nursery, handler, request, answer, before, mine)

    def _end(self, nursery: trio.Nursery, event: SessionEnded) -> None:
        """Let the writer say why, for a moment; a client that does not read is not waited for."""
        self._ended = True
        grace_s = 0.0 if event.error.name == "overrun" else LAST_WORDS_S
        nursery.cancel_scope.deadline = trio.current_time() + grace_s

    async def _wait_for_room(self) -> None:
        """Leave the client's bytes in the socket while its unanswered requests hold enough."""
        while not self._ended and not self._machine.wants_data:
            self._request_done = trio.Event()
            await self._request_done.wait()

    def _lane(self, request: Request) -> tuple[str, int] | None:
        """Requests of one lane are served one after the other."""
        ordered_by = METHODS[request.method].ordered_by
        return None if ordered_by is None else (ordered_by, request.params[ordered_by])

    async def _finish_request(
        self,
        nursery: trio.Nursery,
        handler: ControlHandler,
        request: Request,
        answer: Awaitable[Any] | None,
        before: trio.Event | None,
        mine: trio.Event,
    ) -> None:
        """Wait for the answer, after having asked for it when the request `before` is done."""
        try:
            if before is not None:
                await before.wait()
                answer = self._call(handler, request)
            result = await answer if isawaitable(answer) else answer
            if not isinstance(answer, Pending) or answer.on_settled is None:
                self._machine.respond(request.id, result)
        except ControlError as error:
            self._machine.respond_error(request.id, error)
        mine.set()
        lane = self._lane(request)
        if lane is not None and self._lane_ends.get(lane) is mine:
            del self._lane_ends[lane]
        self._start_requests(nursery, handler)
        self._request_done.set()

    def _hurry(self, request_id: int, result: dict[str, Any]) -> None:
        """Answer before the task that waits has woken up."""
        self._machine.respond(request_id, result)
        self._flush()

    def _call(self, handler: ControlHandler, request: Request) -> Any:
        """The result, or what has to be awaited for it. Raises ControlError."""
        spec = METHODS[request.method]
        if request.method not in self._permitted:
            self._audit.refused(self.peer, self._rights, request.method, request.params)
            raise ControlError("unauthorised", self._refusal(spec))
        if request.method == "introspect":
            return introspection()
        if spec.audited:
            return self._call_audited(handler, request)
        return handler.call(self, request.method, request.params)

    async def _call_audited(self, handler: ControlHandler, request: Request) -> Any:
        """Serve it, and have it on record with what came of it, also when the client has gone meanwhile."""
        outcome = "cancelled"
        try:
            answer = handler.call(self, request.method, request.params)
            result = await answer if isawaitable(answer) else answer
            outcome = "ok"
        except ControlError as error:
            outcome = f"{error.name}: {error}"
            raise
        finally:
            self._audit.done(self.peer, self._rights, request.method, request.params, outcome)
        return result

    def _refusal(self, spec: MethodSpec) -> str:
        what = f"user {self.peer.uid} may not call {spec.name}"
        if self._rights.has(spec.role):
            return f"{what}: it needs the right to break silence, which [control] break_group gives to operators"
        return (
            f"{what}: it needs the role {spec.role.value}, and this session has {self._rights.name}; [control] names"
            " the group of each role"
        )

    def _flush(self) -> None:
        """Write without waiting; the writer does the rest, and also finds out when the client is gone."""
        while not self._is_writing and (data := self._machine.data_to_send(trio.current_time())):
            try:
                size_bytes = os.write(self._fd, data)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                size_bytes = 0
            self._unsent = data[size_bytes:]
            self._is_writing = bool(self._unsent)
        if self._is_writing or self._ended:
            self._output_ready.set()

    async def _write(self, nursery: trio.Nursery, stalled_s: float) -> None:
        """Hand the machine's bytes to the socket; drop a client that takes none for `stalled_s`."""
        while True:
            await self._output_ready.wait()
            self._output_ready = trio.Event()
            self._is_writing = True
            while data := self._unsent or self._machine.data_to_send(trio.current_time()):
                try:
                    with trio.fail_after(stalled_s):
                        await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.TooSlowError):
                    nursery.cancel_scope.cancel()
                    return
                self._unsent = b""
            self._is_writing = False
            if self._ended:
                nursery.cancel_scope.cancel()

    async def _watch_timer(self, nursery: trio.Nursery, handler: ControlHandler) -> None:
        """Let the machine end a session that does not say hello."""
        while (deadline := self._machine.get_timer()) is not None:
            await trio.sleep_until(deadline)
            self._machine.handle_timer(trio.current_time())
        self._start_requests(nursery, handler)


def _permits(rights: Rights, spec: MethodSpec) -> bool:
    return rights.has(spec.role) and (rights.may_break or not spec.breaks_silence)
