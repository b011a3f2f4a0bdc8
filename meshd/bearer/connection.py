# SPDX-License-Identifier: Apache-2.0
"""One TCP connection with its TCPCLv4 session: a task that reads and one that writes and keeps time.

What the session says goes to `on_events`, many at a time. Between contact header and session the writer puts TLS around
the socket where both sides want it. The reader reads on only while the session can take it, the
writer asks the session for bytes only when the socket has taken the last ones: a peer that stops reading stops its own
session and nothing else. Both give way after each batch.
"""

import math
import socket
import ssl
from collections.abc import Callable
from typing import Final

import trio

from meshd.bearer.stream import ByteStream, PlainStream
from meshd.bearer.tls import TlsIdentity, TlsStream, explain_tls
from meshd.bearer.write_buffer import WriteBuffer
from meshd.bundle.record import BundleId
from meshd.cl.tcpclv4.events import Event
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role
from meshd.cl.tcpclv4.states import State
from meshd.security.identity import IdentityError

RECEIVE_BYTES: Final = 256 * 1024
"""Read at most so much at a time, unless a large transfer is received into its own memory."""
JOIN_MAX_BYTES: Final = 8 * 1024
"""Buffers that are smaller on average are joined: one copy costs less than many entries of an I/O vector."""
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
        tls: TlsIdentity | None = None,
    ) -> None:
        """`tls` must be there unless the session never wants TLS."""
        self.session = session
        self.role = role
        self.address = address
        """Of the peer."""
        self.sent: dict[int, BundleId] = {}
        """Bundles handed to the session and not answered, by transfer ID."""
        self.is_extra = False
        """Dialled on purpose beside another session of the same neighbour."""
        self.transfers = 0
        """Bundles handed over or received so far: one that does not grow is idle."""
        self.was_established = False
        self.last_heard = trio.current_time()
        self._stream: ByteStream = PlainStream(sock)
        self._tls = tls
        self._on_events = on_events
        self._on_progress = on_progress
        self._output = WriteBuffer()
        self._is_amid_segment = False
        """The last bytes were the middle of a large segment: there is nothing to tell and nothing to answer."""
        self._is_frozen = False
        self._is_broken = False
        self._wake = trio.Event()
        self._readable = trio.Event()
        self._handshake: trio.CancelScope | None = None

    @property
    def security(self) -> str:
        """What protects the connection, such as "TLSv1.3 TLS_AES_256_GCM_SHA384"; "none"."""
        return self._stream.security

    @property
    def pending_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._output.size_bytes + self.session.pending_bytes

    def wake(self) -> None:
        """The session has something new to write, or to tell, or may read on."""
        self._wake.set()
        if self._handshake is not None:
            self._handshake.cancel()
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
            self._stream.socket.close()

    async def _read(self) -> None:
        session = self.session
        while session.state is not State.ENDED:
            if not session.can_receive:
                self._readable = trio.Event()
                await self._readable.wait()
                continue
            try:
                is_over = self._receive(self._stream, session)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._stream.socket)
                continue
            except OSError as error:
                self._lose(self._stream.explain_loss(error))
                return
            if not self._is_amid_segment:
                self._tell()
                self._wake.set()
            if is_over:
                return
            await trio.lowlevel.checkpoint()

    def _receive(self, stream: ByteStream, session: Session) -> bool:
        """Receive once; True at the peer's end of the stream. Errors: OSError."""
        room = session.receive_buffer()
        self._is_amid_segment = False
        if room is not None:
            room_bytes = len(room)
            size = stream.receive_into(room)
            self._is_amid_segment = 0 < size < room_bytes
            if size:
                self.last_heard = now = trio.current_time()
                session.data_received(size, now)
        else:
            data = stream.receive(session.receive_max_bytes or RECEIVE_BYTES)
            size = len(data)
            if size:
                self.last_heard = now = trio.current_time()
                session.receive_data(data, now)
        if not size:
            session.connection_lost("the peer closed the connection")
        return not size

    def _lose(self, text: str) -> None:
        self._is_broken = True
        self._output.clear()
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
            if self.session.state is State.SECURING and not is_blocked and not self._is_frozen:
                await self._secure()
                continue
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
                await trio.lowlevel.wait_writable(self._stream.socket)
            else:
                await self._wake.wait()

    async def _flush(self) -> bool:
        """Write what there is, batch by batch; True when the socket takes no more for now."""
        while not self._is_frozen and not self._is_broken:
            if not self._output.buffers:
                self._output.fill(self.session.data_to_send(trio.current_time()), JOIN_MAX_BYTES)
                if not self._output.buffers:
                    return False
            try:
                size = self._stream.send(self._output.buffers)
            except BlockingIOError:
                return True
            except OSError as error:
                self._lose(self._stream.explain_loss(error))
                return False
            self._output.advance(size)
            self._on_progress(self)
            await trio.lowlevel.checkpoint()
        return False

    async def _secure(self) -> None:
        """Put TLS around the socket (section 4.4). The session goes on, or ends with the reason why it can't."""
        assert self._tls is not None, "a session without an identity never wants TLS"
        if not isinstance(self._stream, TlsStream):
            self._stream = self._tls.wrap(self._stream.socket, self.role)
        stream = self._stream
        try:
            if not await self._shake_hands(stream):
                return
            self.session.secure(self._tls.check_peer(stream).nodes)
        except IdentityError as error:
            self.session.fail_securing(str(error), is_tellable=True)
        except OSError as error:
            self.session.fail_securing(explain_tls(error), is_tellable=False)
        self.last_heard = trio.current_time()
        self._tell()
        self._readable.set()

    async def _shake_hands(self, stream: TlsStream) -> bool:
        """False: silence was ordered or the session ended meanwhile. Errors: OSError."""
        while self.session.state is State.SECURING and not self._is_frozen:
            try:
                stream.shake_hands()
            except ssl.SSLWantReadError:
                wait = trio.lowlevel.wait_readable
            except ssl.SSLWantWriteError:
                wait = trio.lowlevel.wait_writable
            else:
                return True
            deadline = self.session.get_timer()
            with trio.CancelScope(deadline=math.inf if deadline is None else deadline) as self._handshake:
                await wait(stream.socket)
            self._handshake = None
            self.session.handle_timer(trio.current_time())
        return False

    async def _linger(self) -> None:
        """Close our direction and wait a moment for the peer's: closing with unread bytes would destroy our last."""
        if self._is_broken:
            return
        self._stream.end_sending()
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            await self._discard()

    async def _discard(self) -> None:
        """Read and forget until the peer's end of the stream."""
        while True:
            try:
                if not self._stream.socket.recv(RECEIVE_BYTES):
                    return
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._stream.socket)
            except OSError as error:
                self._stream.explain_loss(error)
                return
            await trio.lowlevel.checkpoint()
