# SPDX-License-Identifier: Apache-2.0
"""When a node advertises its links anew: on a change that matters, soon but not often; else seldom.

What matters is judged against what was advertised last, so that a figure that wanders around a border tells nothing.
Each advertisement for a change doubles the time until the next one may follow, up to ten minutes: a link that comes and
goes costs no more than that. A quiet refresh ends it. While nothing may leave this node, nothing is advertised.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from meshd.bundle.eid import Eid
from meshd.routing.advertisement import VALID_MAX_S, LinkNews
from meshd.routing.contact import Contact
from meshd.routing.silence_plan import SilencePlan

SETTLE_S: Final = 1.0
"""What changes together is told together."""
HOLD_DOWN_MIN_S: Final = 10.0
HOLD_DOWN_MAX_S: Final = 600.0
REFRESH_S: Final = 1800.0
"""Less up to a tenth, by the node's name: nodes that began together do not stay together."""
VALID_S: Final = 3900
"""A refresh may be lost."""
LOOK_S: Final = 60.0
"""Figures of links change without a word."""
PLAN_AHEAD_S: Final = 24 * 3600
"""So much of its plan a node tells."""

RATE_FACTOR: Final = 2.0
OWD_FACTOR: Final = 2.0
OWD_LEAST_S: Final = 0.05
LOSS_STEP: Final = 0.1
AVAILABILITY_STEP: Final = 0.25


class Announcer:
    """Owns what was advertised last, and the time at which to look again."""

    def __init__(self, own: Eid) -> None:
        self._refresh_s = REFRESH_S * (1.0 - hashlib.sha256(own.uri.encode()).digest()[0] / 2560)
        self._hold_down_s = HOLD_DOWN_MIN_S
        self._told: tuple[LinkNews, ...] | None = None
        self._planned: tuple[Contact, ...] = ()
        self._plan: SilencePlan | None = None
        self._told_at = 0.0
        self._changed_at: float | None = None
        self.look_at: float | None = None
        """Monotonic time; None: only a change of links can matter."""

    def is_due(
        self, links: Sequence[LinkNews], planned: Sequence[Contact], now: float, plan: SilencePlan | None = None
    ) -> bool:
        """Whether to advertise now. `links` empty: there is nobody to tell."""
        self.look_at = None
        if not any(not link.begins_s for link in links):
            return False
        is_news = self._told is None or _differ(self._told, links)
        is_news = is_news or self._planned != tuple(planned) or self._plan != plan
        self._changed_at = (now if self._changed_at is None else self._changed_at) if is_news else None
        due_at = self._told_at + self._refresh_s
        if self._changed_at is not None:
            settled_at = self._changed_at + SETTLE_S
            due_at = settled_at if self._told is None else max(settled_at, self._told_at + self._hold_down_s)
        if now >= due_at:
            return True
        self.look_at = min(due_at, now + LOOK_S)
        return False

    def told(
        self, links: Sequence[LinkNews], planned: Sequence[Contact], now: float, plan: SilencePlan | None = None
    ) -> None:
        """It was advertised."""
        if self._told is not None and self._changed_at is not None:
            self._hold_down_s = min(2 * self._hold_down_s, HOLD_DOWN_MAX_S)
        else:
            self._hold_down_s = HOLD_DOWN_MIN_S
        self._told, self._planned, self._plan = tuple(links), tuple(planned), plan
        self._told_at, self._changed_at = now, None
        self.look_at = now + LOOK_S


def valid_s(links: Sequence[LinkNews], quiet_s: float = 0.0) -> int:
    """How long an advertisement holds: until after the end of the silences that it announces, and of the next one."""
    return min(VALID_S + int(max((quiet_s, *(link.begins_s for link in links)))), VALID_MAX_S)


def _differ(told: Sequence[LinkNews], links: Sequence[LinkNews]) -> bool:
    if len(told) != len(links):
        return True
    now = {(link.neighbour, link.kind, link.radiates): link for link in links}
    for old in told:
        new = now.get((old.neighbour, old.kind, old.radiates))
        if new is None or _is_far(old, new):
            return True
    return False


def _is_far(old: LinkNews, new: LinkNews) -> bool:
    return (
        bool(old.begins_s) is not bool(new.begins_s)
        or not 1 / RATE_FACTOR < new.rate_bps / old.rate_bps < RATE_FACTOR
        or (abs(new.owd_s - old.owd_s) > OWD_LEAST_S and not _alike(old.owd_s, new.owd_s))
        or abs(new.loss - old.loss) >= LOSS_STEP
        or abs(new.availability - old.availability) >= AVAILABILITY_STEP
    )


def _alike(first_s: float, second_s: float) -> bool:
    return max(first_s, second_s) < OWD_FACTOR * min(first_s, second_s)
