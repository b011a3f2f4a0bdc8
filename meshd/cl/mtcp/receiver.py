# SPDX-License-Identifier: Apache-2.0
"""The receiving end of an MTCP connection as a protocol machine: bytes in, bundles out (draft-ietf-dtn-mtcpcl-01).

MTCP answers nothing: `data_to_send` is always empty. What arrived and was not released yet is bounded: above it
`can_receive` asks the owner to read no more. A peer that stops in the middle of a bundle is not waited for for ever.
Who the peer is, MTCP can't tell; that is the owner's question.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.cl.mtcp.events import BundleRow, BundlesArrived, EndReason, Event, SessionEnded
from meshd.cl.mtcp.framing import Deframer, MtcpError

HELD_MAX: Final = 65536
"""Bundles that arrived and were not released."""
HELD_MAX_BYTES: Final = 32 * 1024 * 1024
"""The same in bytes: what a store slower than the link makes us hold."""
STALL_TIMEOUT_S: Final = 60.0
"""So long a bundle may be under way without a further byte."""


class ReceivingSession:
    """One connection that a neighbour made to send us bundles."""

    def __init__(self, now: float, bundle_max_bytes: int = INLINE_SIZE_MAX_BYTES) -> None:
        self._deframer = Deframer(bundle_max_bytes)
        self._events: deque[Event] = deque()
        self._held: dict[int, int] = {}
        """Sizes of the bundles that were not released, by number."""
        self._held_bytes = 0
        self._numbers = 0
        self._heard_at = now
        self._is_frozen = False
        self.is_ended = False

    @property
    def can_receive(self) -> bool:
        """False while the owner should read no more."""
        return len(self._held) < HELD_MAX and self._held_bytes < HELD_MAX_BYTES

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
        """None: MTCP has no answers."""
        return 0

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes that the peer sent, cut anywhere."""
        if self.is_ended:
            return
        self._heard_at = now
        try:
            while bundles := self._deframer.feed_untrusted(data):
                self._events.append(BundlesArrived([self._hold(bundle) for bundle in bundles]))
                data = b""  # once more: a fault behind them is told now
        except MtcpError as error:
            self._end(EndReason.PROTOCOL_ERROR, str(error), is_peer_fault=True)

    def data_to_send(self, now: float) -> list[bytes | memoryview]:
        """Nothing: MTCP has no answers."""
        del now
        return []

    def get_timer(self) -> float | None:
        """When to call `handle_timer`, or None."""
        if self.is_ended or self._is_frozen or self._deframer.is_between or not self.can_receive:
            return None
        return self._heard_at + STALL_TIMEOUT_S

    def handle_timer(self, now: float) -> None:
        """End a session whose peer stopped in the middle of a bundle."""
        deadline = self.get_timer()
        if deadline is not None and deadline <= now:
            text = f"the peer sent nothing for {STALL_TIMEOUT_S:.0f} s in the middle of a bundle"
            self._end(EndReason.STALLED, text, is_peer_fault=True)

    def next_event(self) -> Event | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def release(self, numbers: Iterable[int], now: float) -> None:
        """These are stored, or dropped for good. Unknown numbers are passed over."""
        was_full = not self.can_receive
        for number in numbers:
            self._held_bytes -= self._held.pop(number, 0)
        if was_full and self.can_receive:
            self._heard_at = now

    def connection_lost(self, text: str) -> None:
        """The peer closed the connection, or it broke."""
        if not self._deframer.is_between:
            text += ", in the middle of a bundle"
        self._end(EndReason.CONNECTION_LOST, text, is_peer_fault=False)

    def terminate(self, text: str) -> None:
        """End it from our side."""
        self._end(EndReason.TERMINATED, text, is_peer_fault=False)

    def freeze(self, now: float) -> None:
        """Silence: nothing times out until `thaw`."""
        del now
        self._is_frozen = True

    def thaw(self, now: float) -> None:
        """Go on."""
        self._is_frozen = False
        self._heard_at = now

    def _hold(self, data: bytes) -> BundleRow:
        self._numbers += 1
        self._held[self._numbers] = len(data)
        self._held_bytes += len(data)
        return BundleRow(self._numbers, data)

    def _end(self, reason: EndReason, text: str, *, is_peer_fault: bool) -> None:
        if not self.is_ended:
            self.is_ended = True
            self._events.append(SessionEnded(reason, text, is_peer_fault))
