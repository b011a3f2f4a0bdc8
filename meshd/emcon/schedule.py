# SPDX-License-Identifier: Apache-2.0
"""A schedule of emission control: which profile holds when, in Zulu time, as pure functions.

A row gives a profile for a span, once or again and again. Where several rows hold, each bearer takes the strictest of
them; where none holds, `otherwise` does. So a silent base with open rows has transmit windows, an open base with silent
rows has silent periods, and a silent period beats a window. Clocks are not exact: what holds is the strictest of all
that the schedule says within `margin_ms` before and after now, so that a window opens later and ends sooner by that.

Times are Unix milliseconds. Which order says that a schedule holds is the matter of `policy`, whether a clock is to be
believed of `schedule_clock`, how people write a row of `schedule_text`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from meshd.emcon.profile import find_profile, profile_postures, stricter_of
from meshd.emcon.settings import EmconSettings
from meshd.link.settings import BearerSettings, Posture

ROWS_MAX: Final = 32
EVERY_MIN_MS: Final = 60_000
SPAN_MAX_MS: Final = 366 * 86_400_000
LOOK_AHEAD_MAX: Final = 4 * ROWS_MAX
"""Changes that are looked at for the next one that opens a bearer."""
MARGIN_MAX_MS: Final = 60_000
TIME_MAX_MS: Final = 1 << 45
"""Some time in the year 3084."""


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One profile for one span; the span is half open."""

    profile: str
    begins_ms: int
    """Of any one of the spans, if they come again: those before it count as well."""
    lasts_ms: int
    every_ms: int | None
    """From the begin of one to that of the next; None: once only."""

    def holds(self, at_ms: int) -> bool:
        """Whether this time is in its span."""
        since_ms = at_ms - self.begins_ms
        if self.every_ms is not None:
            since_ms %= self.every_ms
        return 0 <= since_ms < self.lasts_ms

    def changes(self, after_ms: int, to_ms: int) -> Iterator[int]:
        """Begins and ends that are later than one time and not later than the other."""
        for first_ms in (self.begins_ms, self.begins_ms + self.lasts_ms):
            at_ms = first_ms
            if self.every_ms is not None:
                at_ms += ((after_ms - first_ms) // self.every_ms + 1) * self.every_ms
            while after_ms < at_ms <= to_ms:
                yield at_ms
                if self.every_ms is None:
                    break
                at_ms += self.every_ms

    def next_change(self, after_ms: int) -> int | None:
        """The first begin or end that is later; None: there is none."""
        to_ms = self.begins_ms + self.lasts_ms if self.every_ms is None else after_ms + self.every_ms
        return min(self.changes(after_ms, to_ms), default=None)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rows, what holds besides, and how far off a clock may be."""

    rows: tuple[ScheduleRow, ...]
    otherwise: str
    margin_ms: int

    @property
    def profiles(self) -> tuple[str, ...]:
        """Every one that it names, once."""
        return tuple(dict.fromkeys((self.otherwise, *(row.profile for row in self.rows))))

    def profiles_at(self, at_ms: int) -> tuple[str, ...]:
        """Those that hold together at a time, the margin left out."""
        return tuple(dict.fromkeys(row.profile for row in self.rows if row.holds(at_ms))) or (self.otherwise,)

    def profiles_near(self, at_ms: int) -> tuple[str, ...]:
        """Those that hold at some time within the margin."""
        from_ms, to_ms = at_ms - self.margin_ms, at_ms + self.margin_ms
        times = {from_ms, *(each for row in self.rows for each in row.changes(from_ms, to_ms))}
        return tuple(dict.fromkeys(name for each in sorted(times) for name in self.profiles_at(each)))

    def next_change_ms(self, at_ms: int) -> int | None:
        """When something else may hold, the margin kept; None: never."""
        changes: list[int] = []
        for row in self.rows:
            for offset_ms in (-self.margin_ms, self.margin_ms):
                change_ms = row.next_change(at_ms - offset_ms)
                if change_ms is not None:
                    changes.append(change_ms + offset_ms)
        return min(changes, default=None)


def wrong_with_schedule(schedule: Schedule) -> str | None:
    """Why it can't be taken; None: it can."""
    if not 0 < len(schedule.rows) <= ROWS_MAX:
        return f"a schedule has at least one row and at most {ROWS_MAX}, not {len(schedule.rows)}"
    if not 0 <= schedule.margin_ms <= MARGIN_MAX_MS:
        return f"the margin is at most {MARGIN_MAX_MS // 1000} s"
    for row in schedule.rows:
        if not 0 <= row.begins_ms <= TIME_MAX_MS or not 0 < row.lasts_ms <= SPAN_MAX_MS:
            return f"a span of {row.profile} begins or lasts beyond what a schedule can say"
        if row.every_ms is not None and not EVERY_MIN_MS <= row.every_ms <= SPAN_MAX_MS:
            return f"a span comes again after {EVERY_MIN_MS // 1000} s at the least: {row.profile}"
        if row.every_ms is not None and row.lasts_ms >= row.every_ms:
            return f"a span of {row.profile} lasts until it comes again: make it the one that holds otherwise"
    return None


def postures_of(names: Sequence[str], settings: EmconSettings, bearers: Sequence[BearerSettings]) -> dict[str, Posture]:
    """The strictest that these profiles give each bearer.

    Errors: UnknownProfileError.
    """
    first, *others = (profile_postures(find_profile(settings, name), bearers) for name in names)
    for each in others:
        first = stricter_of(first, each)
    return first


def next_opening_ms(
    schedule: Schedule, at_ms: int, shut: str, settings: EmconSettings, bearers: Sequence[BearerSettings]
) -> int | None:
    """When the bearer `shut` may send again, the margin kept; None: not within LOOK_AHEAD_MAX changes."""
    for _ in range(LOOK_AHEAD_MAX):
        change_ms = schedule.next_change_ms(at_ms)
        if change_ms is None:
            return None
        at_ms = change_ms
        if postures_of(schedule.profiles_near(at_ms), settings, bearers)[shut] is Posture.OPEN:
            return at_ms
    return None
