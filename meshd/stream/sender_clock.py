# SPDX-License-Identifier: Apache-2.0
"""What the clock of a publisher shows, told from when its pieces arrive; no clock has to be right.

The shortest way that a piece took stands for "at once": the offset between the clocks follows the shortest of each
window, slowly, so that a picture is not seen to run faster or slower. A step is made when a piece comes from
the future (the publisher's clock was set), or when the way became another one for a whole window.
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


class SenderClock:
    """Of one stream."""

    def __init__(self, late_s: float) -> None:
        """Args: `late_s`: a piece that took so much longer than the offset says came too late."""
        self._late_s = late_s
        self._offset: float | None = None
        self._begun = 0.0
        self._target = 0.0
        self._moved_at = 0.0
        self._window_began = 0.0
        self._window_min: float | None = None
        self.steps = 0

    @property
    def offset(self) -> float:
        """Local time, less that of the publisher, for a piece that took the shortest way."""
        assert self._offset is not None, "a piece has been observed before"
        return self._offset

    def observe(self, ingest_s: float, now: float) -> None:
        """A piece of this ingest time arrived."""
        took = now - ingest_s
        if self._offset is None:
            self._offset = self._target = took
            self._begun = self._moved_at = self._window_began = now
        self._slew(now)
        if took < self._offset and (now - self._begun <= START_S or took < self._offset - FUTURE_S):
            self.steps += now - self._begun > START_S
            self._offset = self._target = took
        if self._window_min is None or took < self._window_min:
            self._window_min = took
        if now - self._window_began >= WINDOW_S:
            self._end_window(self._window_min, now)

    def _slew(self, now: float) -> None:
        assert self._offset is not None
        room = (now - self._moved_at) * SLEW
        self._offset += min(max(self._target - self._offset, -room), room)
        self._moved_at = now

    def _end_window(self, shortest: float, now: float) -> None:
        assert self._offset is not None
        self._target = shortest
        if shortest > self._offset + self._late_s or shortest < self._offset - STEP_S:
            self._offset = shortest
            self.steps += 1
        self._window_began, self._window_min = now, None
