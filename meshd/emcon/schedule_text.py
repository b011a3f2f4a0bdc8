# SPDX-License-Identifier: Apache-2.0
"""How people write a row of a schedule: `unrestricted from 00:00 for 5min every 1h`.

`from` takes a time of day in Zulu (`06:30`, `06:30:15`), which comes every day where `every` is left out, or an instant
(`2026-05-01T10:00:00Z`), which comes once where it is.
"""

import datetime
import re
from typing import Final

from meshd.base.errors import MeshdError
from meshd.base.units import QuantityError, parse_duration_ms
from meshd.emcon.schedule import Schedule, ScheduleRow, wrong_with_schedule

ROW_SIZE_MAX: Final = 256
DAY_MS: Final = 86_400_000
_ROW: Final = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})\s+from\s+(\S+)\s+for\s+(.+?)(?:\s+every\s+(.+))?", re.ASCII
)
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?Z?", re.ASCII)
_HINT: Final = "write one such as 'unrestricted from 00:00 for 5min every 1h'"


class ScheduleError(MeshdError):
    """A schedule can't be read or taken; the message says why."""


def parse_schedule_untrusted(rows: list[str], otherwise: str, margin_ms: int) -> Schedule:
    """Errors: ScheduleError."""
    schedule = Schedule(tuple(_parse_row(text) for text in rows), otherwise, margin_ms)
    problem = wrong_with_schedule(schedule)
    if problem is not None:
        raise ScheduleError(problem)
    return schedule


def render_row(row: ScheduleRow) -> str:
    """As `parse_schedule_untrusted` reads it."""
    if row.every_ms is not None and row.begins_ms < DAY_MS:
        begins = str(datetime.timedelta(milliseconds=row.begins_ms)).rjust(8, "0")
    else:
        begins = render_instant(row.begins_ms)
    again = "" if row.every_ms is None else f" every {row.every_ms // 1000} s"
    return f"{row.profile} from {begins} for {row.lasts_ms // 1000} s{again}"


def parse_instant_ms(text: str) -> int:
    """Unix milliseconds of an instant in Zulu, to the second. Errors: ScheduleError."""
    try:
        instant = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise ScheduleError(f"{text!r} is no instant in Zulu: write one such as 2026-05-01T10:00:00Z") from error
    return int(instant.timestamp()) * 1000


def render_instant(unix_ms: int) -> str:
    """As `parse_instant_ms` reads it."""
    return datetime.datetime.fromtimestamp(unix_ms // 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse_row(text: str) -> ScheduleRow:
    found = _ROW.fullmatch(text.strip()) if len(text) <= ROW_SIZE_MAX else None
    if found is None:
        raise ScheduleError(f"{text[:ROW_SIZE_MAX]!r} is no row of a schedule: {_HINT}")
    profile, begins, lasts, every = found.groups()
    try:
        lasts_ms = parse_duration_ms(lasts)
        every_ms = None if every is None else parse_duration_ms(every)
    except QuantityError as error:
        raise ScheduleError(f"{text!r} is no row of a schedule: {error}") from error
    if lasts_ms % 1000 or (every_ms or 0) % 1000:
        raise ScheduleError(f"{text!r}: a schedule is kept to the second")
    clock = _CLOCK.fullmatch(begins)
    if clock is None:
        return ScheduleRow(profile, parse_instant_ms(begins), lasts_ms, every_ms)
    hours, minutes, seconds = (int(part or 0) for part in clock.groups())
    begins_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000
    return ScheduleRow(profile, begins_ms, lasts_ms, DAY_MS if every_ms is None else every_ms)
