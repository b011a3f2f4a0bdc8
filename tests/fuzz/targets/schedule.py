# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: rows of a schedule as people write them, `parse_schedule_untrusted`; what is taken is written again and
read as the same, and when it changes next can always be said.
"""

from typing import Final

from meshd.emcon.schedule_text import ScheduleError, parse_schedule_untrusted, render_row
from meshd.emcon.silence_plan import CHANGES_MAX, silent_spans

AT_MS: Final = 1_777_629_600_000
DAY_MS: Final = 86_400_000


def check(data: bytes) -> None:
    """One input: a row a line."""
    rows = data.decode("utf-8", "replace").split("\n")
    try:
        schedule = parse_schedule_untrusted(rows, "silent", 2000)
    except ScheduleError:
        return
    assert parse_schedule_untrusted([render_row(row) for row in schedule.rows], "silent", 2000) == schedule
    change_ms = schedule.next_change_ms(AT_MS)
    assert change_ms is None or change_ms > AT_MS
    assert len(silent_spans(schedule, AT_MS, AT_MS + DAY_MS)) <= CHANGES_MAX


def seeds() -> dict[str, bytes]:
    """Of each form."""
    return {
        "hourly": b"unrestricted from 00:00 for 5min every 1h",
        "daily": b"silent from 06:30:15 for 2h",
        "once": b"open from 2026-05-01T10:00:00Z for 90s",
        "two": b"open from 00:00 for 5min every 1h\nsilent from 2026-05-01T10:00:00Z for 1d every 7d",
    }


def dictionary() -> list[bytes]:
    """Words."""
    return [b" from ", b" for ", b" every ", b"23:59:59", b"T10:00:00Z", b"9999-12-31", b"366d", b"1min", b"silent"]
