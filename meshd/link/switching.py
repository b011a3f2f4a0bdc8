# SPDX-License-Identifier: Apache-2.0
"""When to change from one link to a better one: only for a difference that is neither small nor luck.

Better by max(10 %, 3 sigma) on 3 evaluations in a row. That a link died is no matter of this rule: it is left at once.
A link that is up for the first time is taken as its score says; one that returns from an outage has to prove itself.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from meshd.link.identity import LinkId

MARGIN: Final = 0.1
SIGMAS: Final = 3.0
EVALUATIONS: Final = 3


class Score(NamedTuple):
    """Of one link, for one size."""

    expected_s: float
    sigma_s: float


class Choice(msgspec.Struct, frozen=True):
    """The link in use among those to one neighbour, and the one that is about to replace it."""

    link: LinkId | None = None
    challenger: LinkId | None = None
    streak: int = 0
    """Evaluations in a row that the challenger has won."""


def evaluate(choice: Choice, scores: Mapping[LinkId, Score]) -> Choice:
    """The choice after one evaluation of all links that can be used now."""
    if not scores:
        return Choice()
    best = _best(scores)
    if choice.link not in scores:
        return Choice(best)
    assert choice.link is not None
    if not is_better(scores[best], scores[choice.link]):
        return Choice(choice.link)
    streak = choice.streak + 1 if best == choice.challenger else 1
    return Choice(best) if streak >= EVALUATIONS else Choice(choice.link, best, streak)


def choose_anew(scores: Mapping[LinkId, Score]) -> Choice:
    """The best link, whatever was used before: nothing is known yet that could be luck."""
    return Choice(_best(scores)) if scores else Choice()


def is_better(one: Score, other: Score) -> bool:
    """By more than the margin, and by more than both vary."""
    sigma_s = math.hypot(one.sigma_s, other.sigma_s)
    return other.expected_s - one.expected_s > max(MARGIN * other.expected_s, SIGMAS * sigma_s)


def _best(scores: Mapping[LinkId, Score]) -> LinkId:
    return min(scores, key=lambda link: (scores[link].expected_s, link.bearer))
