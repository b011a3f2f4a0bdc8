# SPDX-License-Identifier: Apache-2.0
"""The sending end of an MTCP connection as a protocol machine: bundles in, bytes out (draft-ietf-dtn-mtcpcl-01).

MTCP has no acknowledgements. The nearest thing to one is TCP's own: a bundle counts as carried when the peer's TCP has
acknowledged its last byte, and is to be sent again when the connection breaks before. The owner asks the kernel how
much is unacknowledged whenever `get_timer` wants it, and tells `unacknowledged`. That says nothing about the peer's
disk: what its application had not read when it died is lost, and MTCP can't know.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from meshd.base.errors import LocalProtocolError
from meshd.cl.mtcp.events import BundlesCarried, EndReason, Event, SessionEnded
from meshd.cl.mtcp.framing import encode_head

IN_FLIGHT_MAX: Final = 65536
"""Bundles handed over and not carried."""
OUTPUT_BATCH_BYTES: Final = 512 * 1024
"""About so much is produced by one `data_to_send`."""
POLL_MIN_S: Final = 0.001
POLL_MAX_S: Final = 0.064
"""The kernel has no event for an acknowledgement: it is asked, ever less often while nothing changes."""
STALL_TIMEOUT_S: Final = 60.0
"""So long bytes may be under way without any of them being acknowledged."""


class SendingSession:
    """One connection that we made to send a neighbour bundles."""

    def __init__(self, now: float) -> None:
        self._events: deque[Event] = deque()
        self._queue: deque[bytes | memoryview] = deque()
        self._in_flight: deque[tuple[int, int]] = deque()
        """(offset of its end in the stream, number), in order."""
        self._numbers = 0
        self._queued_end = 0
        self._handed_bytes = 0
        self._carried_bytes = 0
        self._poll_s = POLL_MIN_S
        self._poll_at = now
        self._progress_at = now
        self._is_frozen = False
        self.is_ended = False

    @property
    def can_send(self) -> bool:
        """True while bundles may be handed over."""
        return not self.is_ended

    @property
    def can_receive(self) -> bool:
        """Always: the end of the stream is to be noticed."""
        return True

    @property
    def receive_max_bytes(self) -> int | None:
        """Read any amount."""
        return None

    @property
    def has_work(self) -> bool:
        """True when what was received ends the session: MTCP has no answers."""
        return self.is_ended

    @property
    def pending_bytes(self) -> int:
        """Bytes that `data_to_send` has not handed out yet."""
        return self._queued_end - self._handed_bytes

    @property
    def in_flight(self) -> int:
        """Bundles handed over and not carried."""
        return len(self._in_flight)

    def send_bundle(self, chunks: Sequence[bytes | memoryview], now: float) -> int:
        """Hand over a bundle; returns its number. Errors: LocalProtocolError."""
        if self.is_ended or len(self._in_flight) >= IN_FLIGHT_MAX:
            raise LocalProtocolError("this MTCP session takes no bundle: it has ended, or too many are in flight")
        size_bytes = sum(map(len, chunks))
        head = encode_head(size_bytes)
        if not self._in_flight:
            self._progress(now)
        self._queue.append(head)
        self._queue.extend(chunk for chunk in chunks if len(chunk))
        self._queued_end += len(head) + size_bytes
        self._numbers += 1
        self._in_flight.append((self._queued_end, self._numbers))
        return self._numbers

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes from the peer: it may not send here, MTCP is unidirectional."""
        del data, now
        text = "the peer sent bytes on a connection that we made; MTCP is unidirectional"
        self._end(EndReason.PROTOCOL_ERROR, text, is_peer_fault=True)

    def data_to_send(self, now: float) -> list[bytes | memoryview]:
        """Buffers to write now, in order."""
        del now
        output: list[bytes | memoryview] = []
        size_bytes = 0
        while self._queue and size_bytes < OUTPUT_BATCH_BYTES and not self.is_ended:
            output.append(self._queue.popleft())
            size_bytes += len(output[-1])
        self._handed_bytes += size_bytes
        return output

    def unacknowledged(self, size_bytes: int, now: float) -> None:
        """So many of the bytes that `data_to_send` handed out are not acknowledged by the peer's TCP."""
        if self.is_ended:
            return
        carried_bytes = self._handed_bytes - size_bytes
        if carried_bytes > self._carried_bytes:
            self._carried_bytes = carried_bytes
            self._progress(now)
            self._collect()
        else:
            self._poll_s = min(2 * self._poll_s, POLL_MAX_S)
        self._poll_at = now + self._poll_s

    def get_timer(self) -> float | None:
        """When to tell `unacknowledged` again and call `handle_timer`; None: nothing is under way."""
        if self.is_ended or not self._in_flight:
            return None
        return self._poll_at if self._is_frozen else min(self._poll_at, self._progress_at + STALL_TIMEOUT_S)

    def handle_timer(self, now: float) -> None:
        """End a session whose peer acknowledges nothing any more."""
        if self.is_ended or self._is_frozen or not self._in_flight:
            return
        if self._progress_at + STALL_TIMEOUT_S <= now:
            text = f"the peer's TCP acknowledged nothing for {STALL_TIMEOUT_S:.0f} s"
            self._end(EndReason.STALLED, text, is_peer_fault=False)

    def next_event(self) -> Event | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def connection_lost(self, text: str) -> None:
        """The peer closed the connection, or it broke."""
        self._end(EndReason.CONNECTION_LOST, text, is_peer_fault=False)

    def terminate(self, text: str) -> None:
        """End it from our side."""
        self._end(EndReason.TERMINATED, text, is_peer_fault=False)

    def freeze(self, now: float) -> None:
        """Silence: nothing times out until `thaw`; what was acknowledged still counts."""
        del now
        self._is_frozen = True

    def thaw(self, now: float) -> None:
        """Go on."""
        self._is_frozen = False
        self._progress(now)

    def _collect(self) -> None:
        """Tell which bundles are carried now."""
        carried: list[int] = []
        while self._in_flight and self._in_flight[0][0] <= self._carried_bytes:
            carried.append(self._in_flight.popleft()[1])
        if carried:
            self._events.append(BundlesCarried(carried))

    def _progress(self, now: float) -> None:
        self._progress_at = now
        self._poll_s = POLL_MIN_S
        self._poll_at = now + POLL_MIN_S

    def _end(self, reason: EndReason, text: str, *, is_peer_fault: bool) -> None:
        if not self.is_ended:
            self.is_ended = True
            self._queue.clear()
            self._events.append(SessionEnded(reason, text, is_peer_fault))
