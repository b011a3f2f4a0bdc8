# SPDX-License-Identifier: Apache-2.0
"""The agent's one timer as a trio task; and what is done again and again."""

import math
from collections.abc import Callable

import trio

from meshd.daemon.dtn_clock import monotonic_s


async def every(interval_s: float, action: Callable[[], None]) -> None:
    """Do it now, and after every interval, until cancelled."""
    while True:
        action()
        await trio.sleep(interval_s)


class AgentTimer:
    """Calls back when the time that was set last has come."""

    def __init__(self, on_fired: Callable[[], None]) -> None:
        self._on_fired = on_fired
        self._at: float | None = None
        self._sleeps_until = math.inf
        self._scope: trio.CancelScope | None = None

    def set(self, at: float | None) -> None:
        """Wish for a call at this monotonic time; replaces the earlier wish.

        The task is woken only for a time before the one it sleeps until: it looks again when it wakes.
        """
        self._at = at
        if self._scope is not None and at is not None and at < self._sleeps_until:
            self._scope.cancel()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with trio.CancelScope() as self._scope:
                self._sleeps_until = math.inf if self._at is None else self._at
                wait_s = self._sleeps_until - monotonic_s()
                if wait_s > 0:
                    await trio.sleep(wait_s)
            if self._scope.cancelled_caught:
                await trio.lowlevel.checkpoint()
                continue
            if self._at is not None and monotonic_s() >= self._at:
                self._at = None
                self._on_fired()
