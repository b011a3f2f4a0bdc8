# SPDX-License-Identifier: Apache-2.0
"""A schedule as a map of plain values, for the state file; what is read back is checked like one that is ordered."""

from typing import Any, Final

from meshd.emcon.schedule import Schedule, ScheduleRow, wrong_with_schedule

PROFILE_NAME_MAX: Final = 256


def schedule_as_map(schedule: Schedule) -> dict[str, Any]:
    """For JSON."""
    return {
        "rows": [[row.profile, row.begins_ms, row.lasts_ms, row.every_ms] for row in schedule.rows],
        "otherwise": schedule.otherwise,
        "margin_ms": schedule.margin_ms,
    }


def schedule_from_map(value: Any) -> Schedule | None:
    """What `schedule_as_map` made; None: it is not valid."""
    if not isinstance(value, dict) or set(value) != {"rows", "otherwise", "margin_ms"}:
        return None
    rows, otherwise, margin_ms = value["rows"], value["otherwise"], value["margin_ms"]
    if not isinstance(rows, list) or not _is_name(otherwise) or not _is_number(margin_ms):
        return None
    if not all(_is_row(row) for row in rows):
        return None
    schedule = Schedule(tuple(ScheduleRow(*row) for row in rows), otherwise, margin_ms)
    return schedule if wrong_with_schedule(schedule) is None else None


def _is_row(row: Any) -> bool:
    if not isinstance(row, list) or len(row) != 4 or not _is_name(row[0]):
        return False
    return all(_is_number(each) for each in row[1:3]) and (row[3] is None or _is_number(row[3]))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= PROFILE_NAME_MAX


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
