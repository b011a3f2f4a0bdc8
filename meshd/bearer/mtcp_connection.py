# SPDX-License-Identifier: Apache-2.0
"""One TCP connection with its MTCP session, of either direction: a task that reads and one that writes and keeps time.

On a connection that we made, the reader is there to notice the end, and the writer asks the kernel (SIOCOUTQ) how much
the peer's TCP has not acknowledged. On one that the peer made, the writer only keeps time.
"""

import errno
import fcntl
import math
import socket
import struct
import termios
from collections.abc import Callable
from typing import Final

import trio

from meshd.bearer.connection import JOIN_MAX_BYTES, RECEIVE_BYTES
from meshd.bearer.sockets import explain
from meshd.bearer.stream import VECTOR_MAX
from meshd.bearer.write_buffer import WriteBuffer
from meshd.bundle.record import BundleId
from meshd.cl.mtcp.events import Event
from meshd.cl.mtcp.receiver import ReceivingSession
from meshd.cl.mtcp.sender import SendingSession

_INT: Final = struct.Struct("i")

Session = SendingSession | ReceivingSession


class MtcpConnection:
    """A session on a connected socket. Make it, then `run` it once."""

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        address: str,
        on_events: Callable[["MtcpConnection", list[Event]], None],
        on_progress: Callable[["MtcpConnection"], None],
    ) -> None:
        self.session = session
        self.address = address
        """Of the peer."""
        self.sent: dict[int, BundleId] = {}
        """Bundles handed to the session and not carried, by number."""
        self.last_heard = trio.current_time()
        self._sock = sock
        self._on_events = on_events
        self._on_progress = on_progress
        self._output = WriteBuffer()
        self._is_frozen = False
        self._wake = trio.Event()
        self._readable = trio.Event()

    @property
    def pending_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._output.size_bytes + (self.session.pending_bytes if isinstance(self.session, SendingSession) else 0)

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
        finally:
            self._sock.close()

    async def _read(self) -> None:
        sock, session = self._sock, self.session
        while not session.is_ended:
            if not session.can_receive:
                self._readable = trio.Event()
                await self._readable.wait()
                continue
            try:
                data = sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock)
                continue
            except OSError as error:
                self._lose(explain(error))
                return
            if not data:
                # Its kernel has acknowledged nothing that its application had not read: that would be a reset.
                self._ask_kernel()
                self._lose("the peer closed the connection")
                return
            self.last_heard = now = trio.current_time()
            session.receive_data(data, now)
            self._tell()
            self._wake.set()
            await trio.lowlevel.checkpoint()

    def _lose(self, text: str) -> None:
        self._output.clear()
        self.session.connection_lost(text)
        self._tell()
        self._wake.set()

    def _tell(self) -> None:
        """Hand all events of the session over."""
        events = []
        while (event := self.session.next_event()) is not None:
            events.append(event)
        if events:
            self._on_events(self, events)

    async def _write(self) -> None:
        """Write and keep time until the session has ended."""
        while not self.session.is_ended:
            self._wake = trio.Event()
            is_blocked = await self._flush()
            self._ask_kernel()
            self._tell()
            if not self.session.is_ended:
                await self._rest(is_blocked=is_blocked)
            self.session.handle_timer(trio.current_time())
            self._tell()

    async def _rest(self, *, is_blocked: bool) -> None:
        """Wait for the socket or for a reason to write; at most until the session's next deadline."""
        deadline = self.session.get_timer()
        with trio.CancelScope(deadline=math.inf if deadline is None else deadline):
            if is_blocked and not self._is_frozen:
                await trio.lowlevel.wait_writable(self._sock)
            else:
                await self._wake.wait()

    async def _flush(self) -> bool:
        """Write what there is, batch by batch; True when the socket takes no more for now."""
        while not self._is_frozen and not self.session.is_ended:
            if not self._output.buffers:
                self._output.fill(self.session.data_to_send(trio.current_time()), JOIN_MAX_BYTES)
                if not self._output.buffers:
                    return False
            try:
                size = self._sock.sendmsg(self._output.buffers[:VECTOR_MAX])
            except BlockingIOError:
                return True
            except OSError as error:
                self._lose(explain(error))
                return False
            self._output.advance(size)
            self._on_progress(self)
            await trio.lowlevel.checkpoint()
        return False

    def _ask_kernel(self) -> None:
        """Tell the session how much the peer's TCP has not acknowledged."""
        session = self.session
        if not isinstance(session, SendingSession) or not session.in_flight or session.is_ended:
            return
        now = trio.current_time()
        try:
            answer = fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(_INT.size))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return
        session.unacknowledged(_INT.unpack(answer)[0] + self._output.size_bytes, now)
