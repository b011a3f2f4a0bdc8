# SPDX-License-Identifier: Apache-2.0
"""The host's clocks: monotonic seconds for the core, and how far DTN time is ahead of them.

The only place that reads a clock for the node. A step of the wall clock is found by comparing the two.
"""

import time
from collections.abc import Callable
from typing import Final

import trio

from meshd.bundle.dtn_time import DTN_EPOCH_UNIX_S

WATCH_S: Final = 1.0
STEP_MIN_MS: Final = 100
"""Below this it is the slow correction of a well-kept clock, and is taken over when it adds up."""
CLOCK_UNCERTAINTY_MS: Final = 1000
"""Claimed for a clock that the configuration trusts, until something measures it."""


def monotonic_s() -> float:
    """Seconds of the clock that never goes back and goes on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_ms() -> int:
    """Unix time in ms, for people."""
    return time.time_ns() // 1_000_000


def unix_ms(dtn_ms: int) -> int:
    """Unix time in ms of a DTN time in ms."""
    return dtn_ms + DTN_EPOCH_UNIX_S * 1000


class DtnClock:
    """Knows the offset that the core was told last, and when it is wrong."""

    def __init__(self) -> None:
        self.utc_offset_ms = self._measure()

    def step(self) -> int | None:
        """The new offset in ms when the wall clock has stepped since the last call; None when it has not."""
        offset_ms = self._measure()
        if abs(offset_ms - self.utc_offset_ms) < STEP_MIN_MS:
            return None
        self.utc_offset_ms = offset_ms
        return offset_ms

    async def watch(self, stepped: Callable[[int], None]) -> None:
        """Tell the new offset after every step."""
        while True:
            await trio.sleep(WATCH_S)
            offset_ms = self.step()
            if offset_ms is not None:
                stepped(offset_ms)

    def _measure(self) -> int:
        return wall_ms() - DTN_EPOCH_UNIX_S * 1000 - int(monotonic_s() * 1000)
