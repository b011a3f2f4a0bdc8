# SPDX-License-Identifier: Apache-2.0
"""Whether the time of day can be believed, for a schedule that would open a bearer.

A clock that is unknown tells nothing. One that has gone back behind a time that was read before, by more than the
schedule allows for, was wrong then or is now: it is not believed until it has caught up, or until somebody orders
anew and so says that it is right.
"""

from typing import Final

READ_EVERY_S: Final = 1.0
"""A clock that is set by somebody is seen so soon."""


class ScheduleClock:
    """The last reading, and the latest time ever read."""

    def __init__(self) -> None:
        self._read_ms: int | None = None
        self._read_at = 0.0
        self._latest_ms: int | None = None

    def read(self, wall_ms: int | None, now: float) -> None:
        """What the clock says now; None: it is unknown."""
        self._read_ms, self._read_at = wall_ms, now
        if wall_ms is not None and (self._latest_ms is None or wall_ms > self._latest_ms):
            self._latest_ms = wall_ms

    def was(self, wall_ms: int | None) -> None:
        """It has certainly been this late before, as something that was written down then says."""
        if wall_ms is not None:
            self._latest_ms = max(wall_ms, self._latest_ms or wall_ms)

    def vouch(self, wall_ms: int | None, now: float) -> None:
        """Somebody orders by this clock: whatever it said before counts no more."""
        self._latest_ms = None
        self.read(wall_ms, now)

    def time_ms(self, now: float, tolerance_ms: int) -> int | None:
        """Unix time; None: nobody can tell, or it has gone back by more than the tolerance."""
        if self._read_ms is None or self._latest_ms is None or self._read_ms < self._latest_ms - tolerance_ms:
            return None
        return self._read_ms + round((now - self._read_at) * 1000)
