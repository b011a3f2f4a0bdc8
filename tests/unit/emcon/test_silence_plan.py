# SPDX-License-Identifier: Apache-2.0
"""What others hear of a schedule: when nothing leaves the bearers that radiate, with the margin."""

import math

from hypothesis import given
from hypothesis import strategies as st

from meshd.emcon.schedule import Schedule, ScheduleRow
from meshd.emcon.silence_plan import CHANGES_MAX, OPEN, SILENT, SPANS_MAX, is_silent, plan_of, silent_spans
from tests.unit.emcon.emcon_samples import BEARERS, make_settings

HOUR_MS, MIN_MS = 3_600_000, 60_000
HOURLY = Schedule((ScheduleRow("unrestricted", 0, 5 * MIN_MS, HOUR_MS),), "quiet-radio", 2000)
PLAN = Schedule((ScheduleRow(OPEN, 0, 5 * MIN_MS, HOUR_MS),), SILENT, 2000)


def test_only_whether_anything_radiates_is_told() -> None:
    assert plan_of(HOURLY, make_settings(), BEARERS) == PLAN
    assert plan_of(HOURLY, make_settings(), [BEARERS[2]]) is None, "nothing radiates"


def test_one_bearer_that_radiates_is_enough_to_be_heard() -> None:
    schedule = Schedule((ScheduleRow("los-only", 0, MIN_MS, HOUR_MS),), "silent", 0)
    assert plan_of(schedule, make_settings(), BEARERS) == Schedule((ScheduleRow(OPEN, 0, MIN_MS, HOUR_MS),), SILENT, 0)


def test_silences_lie_between_windows_that_are_shorter_by_the_margin() -> None:
    assert silent_spans(PLAN, 10 * HOUR_MS + MIN_MS, 11 * HOUR_MS + 6 * MIN_MS) == [
        (10 * HOUR_MS + 5 * MIN_MS - 2000, 11 * HOUR_MS + 2000),
        (11 * HOUR_MS + 5 * MIN_MS - 2000, 12 * HOUR_MS + 2000),
    ], "the second one begins in sight"


def test_a_silence_that_is_under_way_begins_now_and_one_without_end_never_ends() -> None:
    assert silent_spans(PLAN, 10 * HOUR_MS + 6 * MIN_MS, 10 * HOUR_MS + 7 * MIN_MS) == [
        (10 * HOUR_MS + 6 * MIN_MS, 11 * HOUR_MS + 2000)
    ]
    once = Schedule((ScheduleRow(OPEN, HOUR_MS, HOUR_MS, None),), SILENT, 0)
    assert silent_spans(once, 0, 10 * HOUR_MS) == [(0, HOUR_MS), (2 * HOUR_MS, math.inf)]
    assert silent_spans(Schedule(once.rows, OPEN, 0), 0, 10 * HOUR_MS) == []


def test_what_is_looked_ahead_for_is_bounded() -> None:
    busy = Schedule((ScheduleRow(OPEN, 0, 30_000, MIN_MS),), SILENT, 0)
    spans = silent_spans(busy, 0, 10_000 * HOUR_MS)
    assert SPANS_MAX <= len(spans) <= CHANGES_MAX


@given(
    rows=st.lists(
        st.builds(
            lambda name, begins, lasts, every: ScheduleRow(name, begins * 1000, lasts * 1000, (lasts + every) * 1000),
            st.sampled_from([OPEN, SILENT]),
            st.integers(0, 7200),
            st.integers(1, 3600),
            st.integers(60, 7200),
        ),
        min_size=1,
        max_size=4,
    ),
    otherwise=st.sampled_from([OPEN, SILENT]),
    at_s=st.integers(0, 20_000),
)
def test_a_time_is_in_a_silence_or_is_not_silent(rows: list[ScheduleRow], otherwise: str, at_s: int) -> None:
    plan = Schedule(tuple(rows), otherwise, 2000)
    at_ms = at_s * 1000
    spans = silent_spans(plan, 0, 20_001_000)
    assert is_silent(plan, at_ms) is any(begin_ms <= at_ms < end_ms for begin_ms, end_ms in spans)
