# SPDX-License-Identifier: Apache-2.0
"""Whether this node keeps silent on a bearer, and how it comes back: not at once, and not with everything.

After a silence each node waits a random part of HOLD_OFF_S, lest all that were silent together speak together. What was
not acknowledged meanwhile is then acknowledged in few datagrams, the most urgent first, as far as a budget of bytes
goes; the rest keeps to the pace of reports.
"""

import random
from typing import Final

from meshd.cl.fountain.breach import Breach

HOLD_OFF_S: Final = 2.0


class Quiet:
    """Of one machine."""

    def __init__(self, rng: random.Random, budget_bytes: int, *, is_for_ever: bool) -> None:
        """`is_for_ever`: the bearer can't send."""
        self._rng = rng
        self._budget_bytes = budget_bytes
        self._left_bytes = 0
        self._is_for_ever = is_for_ever
        self.is_frozen = is_for_ever
        self.breach: Breach | None = None
        """What may leave nevertheless."""
        self.until = float("-inf")
        """The end of the hold-off."""

    def freeze(self) -> None:
        """Silence."""
        self.is_frozen = True
        self.breach = None

    def thaw(self, now: float) -> float:
        """It is over, but for the hold-off; when that ends."""
        self.is_frozen = self._is_for_ever
        self.breach = None
        self._left_bytes = self._budget_bytes
        self.until = now + self._rng.uniform(0, HOLD_OFF_S)
        return self.until

    def holds(self, now: float) -> bool:
        """Nothing may leave now."""
        return self.breach is None if self.is_frozen else now < self.until

    @property
    def has_budget(self) -> bool:
        """Reports need not keep to their pace yet."""
        return self._left_bytes > 0

    def pay(self, size_bytes: int) -> bool:
        """A report leaves; False: the budget does not cover it, so that the next one has to wait for it."""
        is_covered = size_bytes <= self._left_bytes
        self._left_bytes = self._left_bytes - size_bytes if is_covered else 0
        return is_covered
