# SPDX-License-Identifier: Apache-2.0
"""The one clock of a simulation: a heap of calls, made in their order, at times that pass at once."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

STEPS_MAX: Final = 5_000_000
"""Calls after which a simulation that does not come to rest is called a live-lock."""


class VirtualTime:
    """`now` is seconds and only moves in `run_until`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0

    def call_at(self, at: float, call: Callable[[], None]) -> None:
        """Make this call then; calls of one time are made in the order in which they were asked for."""
        self._numbers += 1
        heappush(self._calls, (max(at, self.now), self._numbers, call))

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Make this call in so many seconds."""
        self.call_at(self.now + delay_s, call)

    def run_until(self, end: float, is_done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until `end`, or until `is_done` says so."""
        for _ in range(STEPS_MAX):
            if not self._calls or self._calls[0][0] > end:
                self.now = end
                return
            self.now, _, call = heappop(self._calls)
            call()
            if is_done():
                return
        raise AssertionError(f"no rest after {STEPS_MAX} steps at {self.now:.3f} s: a live-lock")
