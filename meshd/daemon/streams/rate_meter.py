# SPDX-License-Identifier: Apache-2.0
"""Bits a second over the last few seconds."""

from collections import deque
from typing import Final

WINDOW_S: Final = 5.0
STEP_S: Final = 0.25


class RateMeter:
    """Of one flow of bytes."""

    def __init__(self) -> None:
        self._steps: deque[list[float]] = deque()
        """[begin, bytes] of each step in which something came."""
        self.total_bytes = 0

    def add(self, size_bytes: int, now: float) -> None:
        """So much passed."""
        self.total_bytes += size_bytes
        if not self._steps or now - self._steps[-1][0] >= STEP_S:
            self._steps.append([now, 0])
            self._drop(now)
        self._steps[-1][1] += size_bytes

    def rate_bps(self, now: float) -> int:
        """At present."""
        self._drop(now)
        if not self._steps:
            return 0
        span_s = max(now - self._steps[0][0], 1.0)
        return round(8 * sum(size for _, size in self._steps) / span_s)

    def _drop(self, now: float) -> None:
        while self._steps and self._steps[0][0] < now - WINDOW_S:
            self._steps.popleft()
