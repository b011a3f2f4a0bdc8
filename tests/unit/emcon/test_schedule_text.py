# SPDX-License-Identifier: Apache-2.0
"""Rows as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.emcon.schedule import ScheduleRow
from meshd.emcon.schedule_text import DAY_MS, ScheduleError, parse_schedule_untrusted, render_row

HOUR_MS, MIN_MS = 3_600_000, 60_000


def parse(text: str) -> ScheduleRow:
    return parse_schedule_untrusted([text], "silent", 0).rows[0]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("open from 00:00 for 5min every 1h", ScheduleRow("open", 0, 5 * MIN_MS, HOUR_MS)),
        ("open from 06:30:15Z for 90 s", ScheduleRow("open", 23_415_000, 90_000, DAY_MS)),
        ("silent from 1970-01-02T00:00:00Z for 2 h", ScheduleRow("silent", DAY_MS, 2 * HOUR_MS, None)),
    ],
)
def test_rows_are_read_and_written(text: str, row: ScheduleRow) -> None:
    assert parse(text) == row
    assert parse(render_row(row)) == row


@pytest.mark.parametrize(
    "text",
    ["", "open", "open from 25:00 for 1min", "open from 00:00 for five", "open from 00:00 for 500ms every 1h",
     "open from 2026-02-30T00:00:00Z for 1h", "open from 00:00 for 1h every 1h", "x" * 300,
     "x" * 33 + " from 00:00 for 1min", "a\0b from 00:00 for 1min", "{a} from 00:00 for 1min"],
)  # fmt: skip
def test_what_is_no_row_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse(text)


@given(st.text(max_size=80))
def test_noise_raises_the_one_error(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse(text)
