# SPDX-License-Identifier: Apache-2.0
"""What the clock of a publisher shows, told from when its pieces arrive, and from the own clock where that makes sense.

With clocks that agree the offset between both is known, and a picture is shown the latency after it was ingested. They
are believed to agree while the shortest way, by these clocks, is no less than nothing and leaves half of the latency.
No clock has to be right: else the shortest way that a piece took stands for "at once", and its time comes on top of the
latency. The offset follows slowly, so that a picture is not seen to run faster or slower. A step is made when a piece
comes from the future (the publisher's clock was set), or when the way became another one for a whole window.
"""

from typing import Final

WINDOW_S: Final = 10.0
START_S: Final = 1.0
"""So long after the first piece the offset follows at once."""
SLEW: Final = 0.0005
"""Seconds a second: ten times what a bad crystal drifts."""
STEP_S: Final = 1.0
"""A window that is off by more than this is not waited for."""
FUTURE_S: Final = 5.0
EARLY_S: Final = 0.05
"""By clocks that agree nothing comes so long before it was sent."""


class SenderClock:
    """Of one stream."""

    def __init__(self, late_s: float) -> None:
        """Args: `late_s`: the latency; a piece that took so much longer than the offset says came too late."""
        self._late_s = late_s
        self._offset: float | None = None
        self._begun = 0.0
        self._target = 0.0
        self._moved_at = 0.0
        self._window_began = 0.0
        self._shortest: tuple[float, float] | None = None
        """Of the window: from the begin of the ingest to the arrival, and from its end."""
        self.steps = 0

    @property
    def offset(self) -> float:
        """Local time, less that of the publisher: as the clocks say, or for a piece that took the shortest way."""
        assert self._offset is not None, "a piece has been observed before"
        return self._offset

    def observe(self, ingest_s: float, duration_s: float, now: float, unix_s: float | None = None) -> None:
        """A piece arrived that was ingested from then on, for so long; `unix_s` is what the own clock shows."""
        took = now - ingest_s
        if self._offset is None:
            self._offset = self._target = took
            self._begun = self._moved_at = self._window_began = now
        self._slew(now)
        shortest = took, took - duration_s
        if self._shortest is not None:
            shortest = min(shortest[0], self._shortest[0]), min(shortest[1], self._shortest[1])
        self._shortest = shortest
        is_starting = now - self._begun <= START_S
        if is_starting or took < self._offset - FUTURE_S:
            self.steps += not is_starting
            self._shortest = shortest if is_starting else (took, took - duration_s)
            self._offset = self._target = self._aim(self._shortest, now, unix_s)
        if now - self._window_began >= WINDOW_S:
            self._end_window(self._aim(self._shortest, now, unix_s), now)

    def _aim(self, shortest: tuple[float, float], now: float, unix_s: float | None) -> float:
        took_s, way_s = shortest
        if unix_s is not None:
            offset = now - unix_s
            if took_s - offset <= self._late_s and -EARLY_S <= way_s - offset <= self._late_s / 2:
                return offset
        return took_s

    def _slew(self, now: float) -> None:
        assert self._offset is not None
        room = (now - self._moved_at) * SLEW
        self._offset += min(max(self._target - self._offset, -room), room)
        self._moved_at = now

    def _end_window(self, aim: float, now: float) -> None:
        assert self._offset is not None
        self._target = aim
        if aim > self._offset + self._late_s or aim < self._offset - STEP_S:
            self._offset = aim
            self.steps += 1
        self._window_began, self._shortest = now, None
