# SPDX-License-Identifier: Apache-2.0
"""Pacing of one bearer: a token bucket in frames of the medium, so exact that the modem's queue stays empty.

What was sent never leads the rate by more than one datagram. A shell that wakes late may catch up, within the modem's
buffer and CATCH_UP_S; time in which there was nothing to send is not saved up.
"""

from typing import Final

CATCH_UP_S: Final = 0.05
TURN_S: Final = 0.001
"""Where datagrams follow closer on each other than this, several leave in a turn."""
TURN_BYTES: Final = 1500


class Pacer:
    """When the next datagram may leave."""

    def __init__(self, rate_bps: int, header_bytes: int, burst_bytes: int) -> None:
        """`header_bytes`: what the medium adds to a datagram's plain text; `burst_bytes`: the modem's buffer."""
        self._seconds_per_byte = 8 / rate_bps
        self._header_bytes = header_bytes
        self._burst_bytes = burst_bytes
        self._catch_up_s = min(CATCH_UP_S, burst_bytes * self._seconds_per_byte)
        self._next_at = float("-inf")
        self.sent_bytes = 0
        """Frames of the medium, since the start."""

    def set_rate(self, rate_bps: float, now: float) -> None:
        """Another rate from now on: what has left but is not paid for takes its time at the new one."""
        before, self._seconds_per_byte = self._seconds_per_byte, 8 / rate_bps
        self._catch_up_s = min(CATCH_UP_S, self._burst_bytes * self._seconds_per_byte)
        if self._next_at > now:
            self._next_at = now + (self._next_at - now) * self._seconds_per_byte / before

    def ready_at(self) -> float:
        """When to send again; in the past: now. On a fast bearer a little after the next datagram may leave."""
        turn_s = min(TURN_S - TURN_BYTES * self._seconds_per_byte, self._catch_up_s / 2)
        return self._next_at + max(turn_s, 0.0)

    def may_send(self, now: float) -> bool:
        """True when it may leave now."""
        return self._next_at <= now

    def spend(self, plaintext_bytes: int, now: float) -> None:
        """A datagram leaves."""
        size_bytes = plaintext_bytes + self._header_bytes
        self.sent_bytes += size_bytes
        self._next_at = max(self._next_at, now - self._catch_up_s) + size_bytes * self._seconds_per_byte

    def rest(self, now: float) -> None:
        """There was nothing to send now: what was not used is lost."""
        self._next_at = max(self._next_at, now)
