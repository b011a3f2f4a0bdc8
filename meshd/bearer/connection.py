# SPDX-License-Identifier: Apache-2.0
"""One TCP connection with the session of a convergence layer: a task that reads and one that writes and keeps time.

The same for all layers; what a layer does besides is in `tcp_connection.py` and `mtcp_connection.py`. The session is a
protocol machine without I/O. The reader reads on only while the session can take it, the writer asks the session for
bytes only when the socket has taken the last ones: a peer that stops reading stops its own session and nothing else.
Both give way after TURN_BYTES.
"""

import math
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar, cast

import trio

from meshd.base.errors import LocalProtocolError
from meshd.bearer.stream import ByteStream, PlainStream
from meshd.bearer.write_buffer import WriteBuffer
from meshd.bundle.record import BundleId
from meshd.bundle.stored_chunk import Chunks

RECEIVE_BYTES: Final = 256 * 1024
"""Read at most so much at a time, unless the session knows better."""
RECEIVE_LARGE_BYTES: Final = 2 * 1024 * 1024
"""Read at most so much of a large transfer at a time."""
TURN_BYTES: Final = 1024 * 1024
"""About so much is read or written before other tasks get their turn."""
JOIN_MAX_BYTES: Final = 8 * 1024
"""Buffers that are smaller on average are joined: one copy costs less than many entries of an I/O vector."""
PROMPT_MAX_BUNDLES: Final = 8
"""No more than so many handed over at a time are sent at once: what comes in larger batches is not in a hurry."""
QUIET_MAX_BYTES: Final = 16 * 1024
"""What was sent at once is told when so much is there, if not before: a quarter of the smallest window of a link."""
ABANDON: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset."""
CLOSE_TIMEOUT_S: Final = 1.0
"""For last words to a peer, and for its own, before the connection is closed."""

Row = tuple[BundleId, Chunks]
"""A bundle to send."""

EventT = TypeVar("EventT")
MachineEventT = TypeVar("MachineEventT", covariant=True)


class Machine(Protocol[MachineEventT]):
    """What a connection needs of a session; see the sessions of `meshd.cl` for what each thing means."""

    @property
    def is_ended(self) -> bool: ...
    @property
    def can_receive(self) -> bool: ...
    @property
    def receive_max_bytes(self) -> int | None: ...
    @property
    def has_work(self) -> bool: ...
    @property
    def pending_bytes(self) -> int: ...
    def receive_data(self, data: bytes, now: float) -> None: ...
    def data_to_send(self, now: float) -> list[bytes | memoryview]: ...
    def get_timer(self) -> float | None: ...
    def handle_timer(self, now: float) -> None: ...
    def next_event(self) -> MachineEventT | None: ...
    def connection_lost(self, text: str) -> None: ...
    def freeze(self, now: float) -> None: ...
    def thaw(self, now: float) -> None: ...


class Connection(ABC, Generic[EventT]):
    """A session on a connected socket. Make it, then `run` it once."""

    HAS_LAST_WORDS: ClassVar[bool]
    """A session that has ended may still have something to write, and its peer something to say."""

    def __init__(self, sock: socket.socket, session: Machine[EventT], address: str) -> None:
        self.address = address
        """Of the peer."""
        self.sent: dict[int, BundleId] = {}
        """Bundles handed to the session and not answered, by number."""
        self.last_heard = trio.current_time()
        self._session = session
        self._stream: ByteStream = PlainStream(sock)
        self._output = WriteBuffer()
        self._on_events: Callable[[list[EventT]], None] | None = None
        self._on_progress: Callable[[], None] | None = None
        self._is_frozen = False
        self._is_broken = False
        self._is_telling = False
        """What the node answers to it is sent together afterwards."""
        self._quiet_bytes = 0
        """So much was sent that `on_progress` has not heard of."""
        self._wake = trio.Event()
        self._rests_until = math.inf
        """The writer's next deadline."""
        self._readable = trio.Event()

    # Bundles. What is handed over, accepted or refused is written by the connection's own task.

    @property
    @abstractmethod
    def room(self) -> int:
        """So many bundles may be handed over now; 0: the session can't send, or too many are in flight."""

    @abstractmethod
    def _enqueue(self, bundles: Sequence[Chunks], sizes_bytes: Sequence[int]) -> Iterable[int]:
        """Hand these to the session, no more than `room`; their numbers."""

    @abstractmethod
    def accept(self, numbers: Iterable[int]) -> None:
        """These bundles of the peer are durable."""

    @abstractmethod
    def refuse(self, number: int, *, retriable: bool, completed: bool) -> None:
        """This bundle of the peer is not taken."""

    def release(self, number: int, size_bytes: int) -> None:
        """So much of this bundle of the peer, which comes in pieces, is written."""
        raise LocalProtocolError(f"bundle {number} did not come in pieces")

    @abstractmethod
    def terminate(self, text: str) -> None:
        """End the session in the way of its layer."""

    def hand_over(self, rows: Sequence[Row]) -> tuple[int, Sequence[Row]]:
        """Give these to the session; the bytes that it took, and the rows that it can't take."""
        room = self.room
        taken = rows if len(rows) <= room else rows[:room]
        if not taken:
            return 0, rows
        bundles = [chunks for _, chunks in taken]
        sizes_bytes = [sum(map(len, chunks)) for chunks in bundles]
        numbers = self._enqueue(bundles, sizes_bytes)
        self.sent.update(zip(numbers, [bundle_id for bundle_id, _ in taken], strict=True))
        is_prompt = len(taken) <= PROMPT_MAX_BUNDLES and not self._is_telling
        if not (is_prompt and self._send_now()):
            self.wake()
        return sum(sizes_bytes), rows[len(taken) :]

    @property
    def sock(self) -> socket.socket:
        """To look at."""
        return self._stream.socket

    @property
    def security(self) -> str:
        """What protects the connection, such as "TLSv1.3 TLS_AES_256_GCM_SHA384"; "none"."""
        return self._stream.security

    @property
    def pending_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._output.size_bytes + self._session.pending_bytes

    def wake(self) -> None:
        """The session has something new to write, or to tell, or may read on."""
        self._wake.set()
        if self._session.can_receive:
            self._readable.set()

    def freeze(self) -> None:
        """Nothing leaves this connection until `thaw`."""
        self._is_frozen = True
        self._session.freeze(trio.current_time())

    def thaw(self) -> None:
        """Go on."""
        self._is_frozen = False
        self._session.thaw(trio.current_time())
        self.wake()

    def abandon(self, text: str) -> None:
        """The peer is gone: end now, and let the kernel forget what it has not delivered."""
        if self._session.is_ended:
            return
        self._lose(text)
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABANDON)
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # whoever waits for it goes on
        except OSError as error:
            self._stream.explain_loss(error)

    async def run(self, on_events: Callable[[list[EventT]], None], on_progress: Callable[[], None]) -> None:
        """Carry the session until it has ended; the socket is closed at the end, also when cancelled.

        `on_events` takes what the session says, many things at a time; `on_progress` hears that the socket took
        something.
        """
        self._on_events, self._on_progress = on_events, on_progress
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                await self._write()
                nursery.cancel_scope.cancel()
            if self.HAS_LAST_WORDS and not self._is_broken:
                await self._linger()
        finally:
            self._stream.socket.close()

    async def _read(self) -> None:
        session = self._session
        while not session.is_ended:
            if not session.can_receive:
                self._readable = trio.Event()
                await self._readable.wait()
                continue
            try:
                is_over = self._receive(session)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._stream.socket)
                continue
            except OSError as error:
                self._lose(self._stream.explain_loss(error))
                return
            if is_over:
                self._take_end_of_stream()
                self._tell()
                self._wake.set()
                return
            await trio.lowlevel.checkpoint()

    def _receive(self, session: Machine[EventT]) -> bool:
        """Receive what is there, within TURN_BYTES; True at the peer's end of the stream. Errors: OSError."""
        left = TURN_BYTES
        while left > 0 and session.can_receive:
            wanted = min(session.receive_max_bytes or RECEIVE_BYTES, RECEIVE_LARGE_BYTES)
            data = self._stream.receive(wanted)
            if not data:
                return True
            self.last_heard = now = trio.current_time()
            session.receive_data(data, now)
            self._tell()
            if self._needs_writer(session):
                self._wake.set()
            if len(data) < wanted:
                break
            left -= wanted
        return False

    def _needs_writer(self, session: Machine[EventT]) -> bool:
        """There is something for it to do: its turn costs as much as a whole batch of small bundles."""
        deadline = session.get_timer()
        return session.has_work or (deadline is not None and deadline < self._rests_until)

    def _take_end_of_stream(self) -> None:
        """The peer sends no more."""
        self._session.connection_lost("the peer closed the connection")

    def _lose(self, text: str) -> None:
        self._is_broken = True
        self._output.clear()
        self._session.connection_lost(text)
        self._tell()
        self._wake.set()

    def _tell(self) -> None:
        """Hand all events of the session over."""
        next_event = self._session.next_event
        event = next_event()
        if event is None:
            return
        events = []
        while event is not None:
            events.append(event)
            event = next_event()
        assert self._on_events is not None
        self._on_events(events)

    async def _write(self) -> None:
        """Write and keep time until the session has ended and its last words, if any, are written."""
        session = self._session
        close_at = math.inf
        while True:
            self._wake = trio.Event()
            is_blocked = await self._flush()
            if await self._attend(is_blocked=is_blocked):
                continue
            self._tell()
            if session.is_ended:
                if not self.HAS_LAST_WORDS:
                    return
                close_at = min(close_at, trio.current_time() + CLOSE_TIMEOUT_S)
                if not self._is_frozen and (not is_blocked or trio.current_time() >= close_at):
                    return
            await self._rest(is_blocked=is_blocked, until=math.inf if self._is_frozen else close_at)
            session.handle_timer(trio.current_time())
            self._tell()
            if session.can_receive:  # written answers make room, too
                self._readable.set()

    @abstractmethod
    async def _attend(self, *, is_blocked: bool) -> bool:
        """What the layer does between writing and waiting. True: begin again, there may be something to write."""

    async def _rest(self, *, is_blocked: bool, until: float) -> None:
        """Wait for the socket or for a reason to write; at most until the session's next deadline."""
        deadline = self._session.get_timer()
        self._rests_until = until if deadline is None else min(until, deadline)
        with trio.CancelScope(deadline=self._rests_until):
            if is_blocked and not self._is_frozen:
                await trio.lowlevel.wait_writable(self._stream.socket)
            else:
                await self._wake.wait()

    def _send_now(self) -> bool:
        """Write one batch without waiting for the writer's turn; that does the rest, and meets errors again. True: all
        is written, and of so little the writer need not hear now.
        """
        if self._is_frozen or self._is_broken or self._output.buffers:
            return False
        self._output.fill(self._session.data_to_send(trio.current_time()), JOIN_MAX_BYTES)
        if self._output.buffers:
            try:
                size = self._stream.send(self._output.buffers)
            except OSError:
                return False
            self._output.advance(size)
            self._quiet_bytes += size
        is_quiet = self._quiet_bytes < QUIET_MAX_BYTES and not self.pending_bytes
        return is_quiet and not self._needs_writer(self._session)

    async def _flush(self) -> bool:
        """Write what there is, batch by batch; True when the socket takes no more for now."""
        assert self._on_progress is not None
        left = TURN_BYTES
        if self._quiet_bytes:
            self._quiet_bytes = 0
            self._on_progress()
        while not self._is_frozen and not self._is_broken:
            if not self._output.buffers:
                self._output.fill(self._session.data_to_send(trio.current_time()), JOIN_MAX_BYTES)
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
            self._on_progress()
            left -= size
            if left <= 0:
                await trio.lowlevel.checkpoint()
                left = TURN_BYTES
        return False

    async def _linger(self) -> None:
        """Close our direction and wait a moment for the peer's: closing with unread bytes would destroy our last."""
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


Transfer = tuple[Connection[Any], int]
"""A bundle that arrived and was not answered by the node: its connection and number there."""


def accept(transfers: Sequence[object]) -> None:
    """These are durable: each is told to its connection. Those of sessions that have ended are passed over."""
    if not transfers:
        return
    connections, numbers = zip(*cast("Sequence[Transfer]", transfers), strict=True)
    if len(set(connections)) == 1:
        connections[0].accept(numbers)
        return
    by_connection: dict[Connection[Any], list[int]] = {}
    for connection, number in zip(connections, numbers, strict=True):
        by_connection.setdefault(connection, []).append(number)
    for connection, own_numbers in by_connection.items():
        connection.accept(own_numbers)


def release(transfer: object, size_bytes: int) -> None:
    """So much of this one, which comes in pieces, is written."""
    connection, number = cast("Transfer", transfer)
    connection.release(number, size_bytes)


def refuse(transfer: object, *, retriable: bool, completed: bool) -> None:
    """This one is not taken."""
    connection, number = cast("Transfer", transfer)
    connection.refuse(number, retriable=retriable, completed=completed)
