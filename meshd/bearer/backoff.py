# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next attempt: exponential with jitter (RFC 9174 section 4.1). Chance is injected."""

import random
from typing import Final

BACKOFF_MIN_S: Final = 1.0
BACKOFF_MAX_S: Final = 60.0
_JITTER: Final = 0.5


class Backoff:
    """1 s, 2 s, 4 s ... each up to half as long again, at most 60 s, or less where an attempt disturbs nobody."""

    def __init__(self, rng: random.Random, max_s: float = BACKOFF_MAX_S) -> None:
        self._rng = rng
        self._max_s = max_s
        self._base_s = BACKOFF_MIN_S

    def next_s(self) -> float:
        """Seconds to wait now; the next wait is about twice as long."""
        base_s = self._base_s
        self._base_s = min(2 * base_s, self._max_s)
        return min(base_s * (1 + _JITTER * self._rng.random()), self._max_s)

    def reset(self) -> None:
        """It worked: begin again with the shortest wait."""
        self._base_s = BACKOFF_MIN_S
