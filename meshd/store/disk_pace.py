# SPDX-License-Identifier: Apache-2.0
"""Whether the event loop may wait for a small commit itself, or has to hand it to the writer thread.

Handing a group to a thread and its answer back costs several times what a good disk takes to sync it. Waiting in the
event loop is cheaper then, but everything else in the daemon waits, too, and nothing can interrupt a sync that hangs.
So it is never done where a bearer radiates, whose order of silence must not wait (the writer's `may_wait`), and else
only while all of this holds:

- small commits have lately taken less than QUICK_S on average,
- none that was waited for took longer than STALL_S just now; each one that did forbids waiting for PAUSE_MIN_S, for
  twice as long when the next one comes soon after, up to PAUSE_MAX_S,
- at most four fifths of the time are spent waiting: what comes closer together is better off in one batch of the
  thread.
"""

from typing import Final

QUICK_S: Final = 0.001
STALL_S: Final = 0.005
PAUSE_MIN_S: Final = 0.5
PAUSE_MAX_S: Final = 32.0
REST_SHARE: Final = 0.25
"""After a wait, none for this share of its length."""
_START_S: Final = 0.02
"""Taken for the average at first: about twenty quick commits make it a good disk."""
_WEIGHT: Final = 0.125


class DiskPace:
    """Judges one disk by how long its small commits took."""

    def __init__(self) -> None:
        self._average_s = _START_S
        self._pause_s = PAUSE_MIN_S
        self._not_before = -PAUSE_MAX_S
        self._next_at = 0.0

    def may_wait(self, now: float) -> bool:
        """True: waiting for a small commit is cheaper than handing it over."""
        return self._average_s <= QUICK_S and now >= self._next_at and now >= self._not_before

    def note(self, began: float, ended: float) -> None:
        """A small commit took this long, wherever it was waited for."""
        duration_s = ended - began
        self._average_s += _WEIGHT * (min(duration_s, STALL_S) - self._average_s)

    def note_wait(self, began: float, ended: float) -> None:
        """The event loop has waited for a commit."""
        duration_s = ended - began
        self._next_at = ended + REST_SHARE * duration_s
        if duration_s > STALL_S:
            is_again = ended - self._not_before < 2 * self._pause_s
            self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S) if is_again else PAUSE_MIN_S
            self._not_before = ended + self._pause_s
