# SPDX-License-Identifier: Apache-2.0
"""One TCP connection with its TCPCLv4 session: a task that reads and one that writes and keeps time.

What the session says goes to `on_events`, many at a time. The reader reads on only while the session can take it, the
writer asks the session for bytes only when the socket has taken the last ones: a peer that stops reading stops its own
session and nothing else. Both give way after each batch.
"""

import errno
import math
import socket
from collections.abc import Callable
from typing import Final

import trio

from meshd.bearer.sockets import explain
from meshd.bundle.record import BundleId
from meshd.cl.tcpclv4.events import Event
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role
from meshd.cl.tcpclv4.states import State

RECEIVE_BYTES: Final = 256 * 1024
"""Read at most so much at a time, unless a large transfer is received into its own memory."""
JOIN_MAX_BYTES: Final = 8 * 1024
"""Buffers that are smaller on average are joined: one copy costs less than many entries of an I/O vector."""
VECTOR_MAX: Final = 1024
"""Buffers in one sendmsg (IOV_MAX)."""
CLOSE_TIMEOUT_S: Final = 1.0
"""For last words to a peer, and for its own, before the connection is closed."""


class Connection:
    """A session on a connected socket. Make it, then `run` it once."""

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        role: Role,
        address: str,
        on_events: Callable[["Connection", list[Event]], None],
        on_progress: Callable[["Connection"], None],
    ) -> None:
        self.session = session
        self.role = role
        self.address = address
        """Of the peer."""
        self.sent: dict[int, BundleId] = {}
        """Bundles handed to the session and not answered, by transfer ID."""
        self.was_established = False
        self.last_heard = trio.current_time()
        self._sock = sock
        self._on_events = on_events
        self._on_progress = on_progress
        self._output: list[bytes | memoryview] = []
        self._output_bytes = 0
        self._is_amid_segment = False
        """The last bytes were the middle of a large segment: there is nothing to tell and nothing to answer."""
        self._is_frozen = False
        self._is_broken = False
        self._wake = trio.Event()
        self._readable = trio.Event()

    @property
    def pending_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._output_bytes + self.session.pending_bytes

    def wake(self) -> None:
        """The session has something new to write, or to tell, or may read on."""
        self._wake.set()
        if self.session.can_receive:
            self._readable.set()

    def freeze(self) -> None:
        """Nothing leaves this connection until `thaw`."""
        self._is_frozen = True
        self.session.freeze(trio.current_time())

    def thaw(self) -> None:
        """Go on."""
        self._is_frozen = False
        self.session.thaw(trio.current_time())
        self.wake()

    async def run(self) -> None:
        """Carry the session until it has ended; the socket is closed at the end, also when cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                await self._write()
                nursery.cancel_scope.cancel()
            await self._linger()
        finally:
            self._sock.close()

    async def _read(self) -> None:
        sock, session = self._sock, self.session
        while session.state is not State.ENDED:
            if not session.can_receive:
                self._readable = trio.Event()
                await self._readable.wait()
                continue
            try:
                is_over = self._receive(sock, session)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock)
                continue
            except OSError as error:
                self._lose(explain(error))
                return
            if not self._is_amid_segment:
                self._tell()
                self._wake.set()
            if is_over:
                return
            await trio.lowlevel.checkpoint()

    def _receive(self, sock: socket.socket, session: Session) -> bool:
        """Receive once; True at the peer's end of the stream. Errors: OSError."""
        room = session.receive_buffer()
        self._is_amid_segment = False
        if room is not None:
            room_bytes = len(room)
            size = sock.recv_into(room)
            self._is_amid_segment = 0 < size < room_bytes
            if size:
                self.last_heard = now = trio.current_time()
                session.data_received(size, now)
        else:
            data = sock.recv(RECEIVE_BYTES)
            size = len(data)
            if size:
                self.last_heard = now = trio.current_time()
                session.receive_data(data, now)
        if not size:
            session.connection_lost("the peer closed the connection")
        return not size

    def _lose(self, text: str) -> None:
        self._is_broken = True
        self._drop_output()
        self.session.connection_lost(text)
        self._tell()
        self._wake.set()

    def _tell(self) -> None:
        """Hand all events of the session over."""
        next_event = self.session.next_event
        event = next_event()
        if event is None:
            return
        events = []
        while event is not None:
            events.append(event)
            event = next_event()
        self._on_events(self, events)

    async def _write(self) -> None:
        """Write and keep time until the session has ended and its last words are written."""
        close_at = math.inf
        while True:
            self._wake = trio.Event()
            is_blocked = await self._flush()
            self._tell()
            is_ended = self.session.state is State.ENDED
            if is_ended:
                close_at = min(close_at, trio.current_time() + CLOSE_TIMEOUT_S)
                if not self._is_frozen and (not is_blocked or trio.current_time() >= close_at):
                    return
            await self._rest(is_blocked=is_blocked, until=math.inf if self._is_frozen else close_at)
            self.session.handle_timer(trio.current_time())
            self._tell()
            if self.session.can_receive:  # written answers make room, too
                self._readable.set()

    async def _rest(self, *, is_blocked: bool, until: float) -> None:
        """Wait for the socket or for a reason to write; at most until the session's next deadline."""
        deadline = self.session.get_timer()
        with trio.CancelScope(deadline=until if deadline is None else min(until, deadline)):
            if is_blocked and not self._is_frozen:
                await trio.lowlevel.wait_writable(self._sock)
            else:
                await self._wake.wait()

    async def _flush(self) -> bool:
        """Write what there is, batch by batch; True when the socket takes no more for now."""
        while not self._is_frozen and not self._is_broken:
            if not self._output:
                self._fill_output()
                if not self._output:
                    return False
            try:
                size = self._sock.sendmsg(self._output[:VECTOR_MAX])
            except BlockingIOError:
                return True
            except OSError as error:
                self._lose(explain(error))
                return False
            self._advance(size)
            self._on_progress(self)
            await trio.lowlevel.checkpoint()
        return False

    def _fill_output(self) -> None:
        output = self.session.data_to_send(trio.current_time())
        size = sum(map(len, output))
        if len(output) > 8 and size < JOIN_MAX_BYTES * len(output):
            output = [b"".join(output)]
        self._output, self._output_bytes = output, size

    def _advance(self, size: int) -> None:
        """The socket has taken `size` bytes of the output."""
        self._output_bytes -= size
        output = self._output
        done = 0
        for buffer in output:
            if size < len(buffer):
                break
            size -= len(buffer)
            done += 1
        del output[:done]
        if size:
            output[0] = memoryview(output[0])[size:]

    def _drop_output(self) -> None:
        self._output, self._output_bytes = [], 0

    async def _linger(self) -> None:
        """Close our direction and wait a moment for the peer's: closing with unread bytes would destroy our last."""
        if self._is_broken:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            return
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            await self._discard()

    async def _discard(self) -> None:
        """Read and forget until the peer's end of the stream."""
        while True:
            try:
                if not self._sock.recv(RECEIVE_BYTES):
                    return
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._sock)
            except OSError as error:
                explain(error)
                return
            await trio.lowlevel.checkpoint()
