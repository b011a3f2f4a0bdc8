# SPDX-License-Identifier: Apache-2.0
"""How many symbols to send, as pure functions.

A receiver that needs n more symbols gets n of T with the wanted probability when each is lost with probability p:
T is where the lower tail of Binomial(T, 1 - p) falls below what may fail. Small n are summed exactly; for large ones
the normal approximation (n + z sqrt(n p)) / (1 - p) differs by less than a symbol.

Why several chances: bulk (`LIKELY`) aims below the mean, since a symbol too many costs air time that the next
object wants, while a symbol too few costs nothing but a round trip that the next object fills; the remainder of an
object (`SURE`) is small, and so is a margin on it; an urgent object, or the last before the link falls idle
(`CERTAIN`), is worth more than the air time. Of live objects `live_lane.py` says how sure they have to be: nothing but
the need itself (`PLAIN`) while there is time to hear of what was lost.
"""

import math
from functools import lru_cache
from typing import Final

LIKELY: Final = 0.84
SURE: Final = 0.1
CERTAIN: Final = 0.0009
IDLE: Final = 0.01
"""Chances that one burst of symbols is not enough: of bulk, of its remainder, of urgent objects, on an idle link;"""
PLAIN: Final = 1.0
MEAN: Final = 0.5
SAFE: Final = 0.004
"""of live objects besides: with nothing ahead, with what is lost as a rule ahead, and for the last time."""

LOSS_MAX: Final = 0.75
"""Above this the link is as good as dead: nobody sends more than four times the need."""
_EXACT_MAX: Final = 12
_SIGMAS: Final = {LIKELY: -1.0, MEAN: 0.0, SURE: 1.28, IDLE: 2.33, SAFE: 2.65, CERTAIN: 3.12}
_STEPS: Final = 200
"""Steps of loss that are told apart, so that the cache hits."""


def symbols_to_send(need: int, loss: float, failure: float) -> int:
    """How many symbols to send in all so that `need` of them arrive but for this chance of failure."""
    if need <= 0 or failure == PLAIN:
        return max(need, 0)
    step = math.ceil(min(loss, LOSS_MAX) * _STEPS)
    if need <= _EXACT_MAX:
        return _exact(need, step, failure)
    p = step / _STEPS
    return max(need, math.ceil((need + _SIGMAS[failure] * math.sqrt(need * p)) / (1 - p)))


@lru_cache(maxsize=8192)
def _exact(need: int, step: int, failure: float) -> int:
    p = step / _STEPS
    total = need
    while _lower_tail(total, need, p) > failure:
        total += 1
    return total


def _lower_tail(total: int, need: int, p: float) -> float:
    """P(fewer than `need` of `total` arrive)."""
    return sum(math.comb(total, k) * (1 - p) ** k * p ** (total - k) for k in range(need))
