# SPDX-License-Identifier: Apache-2.0
"""What a scenario prints while it runs: one line per event with the seconds since it began, and waiting with an end."""

import time
from collections.abc import Callable
from typing import Final

from netns_lab.errors import LabError

POLL_S: Final = 0.1


class Timeline:
    """Begins when it is made; every line goes out at once, also into a pipe."""

    def __init__(self) -> None:
        self._begun_s: Final = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun_s

    def say(self, words: str) -> None:
        """Print an event."""
        print(f"[{self.elapsed_s():6.1f} s] {words}", flush=True)


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll until `condition` holds. LabError that says what was waited for when it never does."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline_s:
            raise LabError(f"waited {timeout_s:g} s in vain: {what}")
        time.sleep(POLL_S)
