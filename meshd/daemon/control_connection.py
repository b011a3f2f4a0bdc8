# SPDX-License-Identifier: Apache-2.0
"""One accepted connection of the control socket: tasks around the session machine.

    reader   bytes from the socket -> machine -> one task per request
    writer   machine -> bytes to the socket
    timer    the machine's deadline, as long as it has one

Each request runs in a task of its own, so that a long poll holds up nothing else; requests that `ordered_by` ties
together wait for the one before. A client that stops reading is dropped: at once when its output queue overflows, or
when it has taken nothing for STALLED_S although there was something to take.
What methods mean is left to the ControlHandler; any error of its that is no ControlError is our own fault and passes.
"""

from typing import Any, Final

import trio

from meshd.control.errors import ControlError
from meshd.control.frames import Request
from meshd.control.methods import METHODS, introspection
from meshd.control.server_session import ServerSession, SessionEnded
from meshd.daemon.control_handler import ControlHandler
from meshd.daemon.control_peer import Peer

RECEIVE_MAX_BYTES: Final = 256 * 1024
STALLED_S: Final = 60.0
LAST_WORDS_S: Final = 1.0
"""How long the reason of an end may take to reach the client."""


class ControlConnection:
    """Serves one session until it ends; also the SessionHandle that the daemon's logic gets."""

    def __init__(
        self, stream: trio.SocketStream, machine: ServerSession, session_id: int, peer: Peer, mutating: bool
    ) -> None:
        """Own the stream. `mutating`: the peer may call methods that change something."""
        self.peer = peer
        self.id = session_id
        self._stream = stream
        self._machine = machine
        self._mutating = mutating
        self._output_ready = trio.Event()
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
        """Turn bytes into request tasks until the client is gone or the session has ended."""
        while not self._ended:
            try:
                data = await self._stream.receive_some(RECEIVE_MAX_BYTES)
            except trio.BrokenResourceError:
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
                nursery.start_soon(self._serve_request, nursery, handler, event, *self._enter_lane(event))
        self._output_ready.set()

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

    def _enter_lane(self, request: Request) -> tuple[trio.Event | None, trio.Event]:
        """Return what the request has to wait for, and what to set when it is done."""
        mine = trio.Event()
        ordered_by = METHODS[request.method].ordered_by
        if ordered_by is None:
            return None, mine
        lane = (ordered_by, request.params[ordered_by])
        before = self._lane_ends.get(lane)
        self._lane_ends[lane] = mine
        return before, mine

    def _leave_lane(self, request: Request, mine: trio.Event) -> None:
        mine.set()
        ordered_by = METHODS[request.method].ordered_by
        if ordered_by is not None and self._lane_ends.get((ordered_by, request.params[ordered_by])) is mine:
            del self._lane_ends[ordered_by, request.params[ordered_by]]

    async def _serve_request(
        self,
        nursery: trio.Nursery,
        handler: ControlHandler,
        request: Request,
        before: trio.Event | None,
        mine: trio.Event,
    ) -> None:
        if before is not None:
            await before.wait()
        try:
            self._machine.respond(request.id, await self._answer(handler, request))
        except ControlError as error:
            self._machine.respond_error(request.id, error)
        self._leave_lane(request, mine)
        self._start_requests(nursery, handler)
        self._request_done.set()

    async def _answer(self, handler: ControlHandler, request: Request) -> Any:
        if METHODS[request.method].mutating and not self._mutating:
            raise ControlError(
                "unauthorised",
                f"user {self.peer.uid} may not call {request.method}: it is for root, the daemon's own user and"
                " members of the control socket's group",
            )
        if request.method == "introspect":
            return introspection()
        return await handler.call(self, request.method, request.params)

    async def _write(self, nursery: trio.Nursery, stalled_s: float) -> None:
        """Hand the machine's bytes to the socket; drop a client that takes none for `stalled_s`."""
        while True:
            await self._output_ready.wait()
            self._output_ready = trio.Event()
            while data := self._machine.data_to_send(trio.current_time()):
                try:
                    with trio.fail_after(stalled_s):
                        await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.TooSlowError):
                    nursery.cancel_scope.cancel()
                    return
            if self._ended:
                nursery.cancel_scope.cancel()

    async def _watch_timer(self, nursery: trio.Nursery, handler: ControlHandler) -> None:
        """Let the machine end a session that does not say hello."""
        while (deadline := self._machine.get_timer()) is not None:
            await trio.sleep_until(deadline)
            self._machine.handle_timer(trio.current_time())
        self._start_requests(nursery, handler)
