# SPDX-License-Identifier: Apache-2.0
"""What of live streams goes over one link, by what the link was measured to carry.

A link that is too slow for 5 s is given less, one that would be fast enough for 20 s is given more: at the best, or the
worst, that it showed in that time. A link that is not full does not show what it could carry: after the 20 s one level
more is tried, and each failed trial doubles the wait for the next one. Whole tiers (block 201) are left out, so that a
node on the way needs to know nothing of video; that what is left can be decoded is the matter of who shows it.
"""

import enum
from typing import Final

from meshd.bundle.supersession import TIERS

DOWN_S: Final = 5.0
UP_S: Final = 20.0
UP_MAX_S: Final = 160.0
MARGIN: Final = 1.1
"""A level is taken when the link carries this much of what it needs: video varies, and repair takes its share."""
RATE_WINDOW_S: Final = 4.0
"""Over which what the stream needs is measured: two groups of pictures or more."""


class Level(enum.IntEnum):
    """What is sent; the number counts the tiers."""

    PAUSED = 0
    KLV_ONLY = 1
    KEY_FRAMES_AND_KLV = 2
    ALL = 3


class TierRates:
    """What each tier of the streams needs, whatever is sent of it: bits a second over the last whole window."""

    def __init__(self) -> None:
        self._bytes = [0] * TIERS
        self._begin: float | None = None
        self._rates_bps: list[float] | None = None

    def count(self, tier: int, size_bytes: int, now: float) -> None:
        """A bundle of this size came to be sent."""
        if self._begin is None:
            self._begin = now
        elif now - self._begin >= RATE_WINDOW_S:
            span_s = now - self._begin
            self._rates_bps = [8 * size / span_s for size in self._bytes]
            self._bytes, self._begin = [0] * TIERS, now
        self._bytes[tier] += size_bytes

    def needed_bps(self, level: Level) -> float | None:
        """Of a level; None: not known yet."""
        return None if self._rates_bps is None else sum(self._rates_bps[: int(level)])


class LinkThinning:
    """Of all live streams on one link."""

    def __init__(self, level: Level = Level.ALL) -> None:
        self._level = level
        self.rates = TierRates()
        self._since: float | None = None
        """Since when the link shows that it wants another level, always in the same direction."""
        self._target = level
        self._up_s = UP_S
        self._raised_at: float | None = None

    @property
    def level(self) -> Level:
        """What the link is given now."""
        return self._level

    def measure(self, carried_bps: float, is_full: bool, now: float) -> Level:
        """Take a measurement, several a second; the level from now on.

        Args:
            carried_bps: goodput of the link for live streams.
            is_full: it is all that the link can carry: a queue stands before it. Nothing at all carried, and full: an
                outage, which changes no level.
        """
        if carried_bps <= 0 and is_full:
            # An outage is over at once, not after 20 s: what is late by then is dropped for its deadline.
            self._since = None
            return self._level
        wanted = self._wanted(carried_bps, is_full)
        if self._raised_at is not None and now - self._raised_at > self._up_s:
            self._up_s, self._raised_at = UP_S, None
        if wanted == self._level:
            self._since = None
            return self._level
        is_down = wanted < self._level
        if self._since is None or is_down != (self._target < self._level):
            self._since, self._target = now, wanted
        else:
            self._target = max(self._target, wanted) if is_down else min(self._target, wanted)
        if now - self._since >= (DOWN_S if is_down else self._up_s):
            self._change(self._target, now)
        return self._level

    def admits(self, tier: int) -> bool:
        """Whether bundles of this tier go over the link."""
        return tier < self._level

    def _wanted(self, carried_bps: float, is_full: bool) -> Level:
        if not is_full:
            return Level(min(self._level + 1, Level.ALL))
        for level in sorted(Level, reverse=True):
            needed_bps = self.rates.needed_bps(level)
            if needed_bps is None:
                return self._level
            if needed_bps * MARGIN <= carried_bps:
                return level
        return Level.PAUSED

    def _change(self, level: Level, now: float) -> None:
        if level > self._level:
            self._raised_at = now
        else:
            if self._raised_at is not None:
                self._up_s = min(2 * self._up_s, UP_MAX_S)
            self._raised_at = None
        self._level, self._since = level, None
