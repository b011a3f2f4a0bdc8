# SPDX-License-Identifier: Apache-2.0
"""Which profile holds when: windows, silent periods, and the margin for clocks that are not exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.emcon.schedule import Schedule, ScheduleRow, next_opening_ms, wrong_with_schedule
from tests.unit.emcon.emcon_samples import BEARERS, make_settings

HOUR_MS, MIN_MS = 3_600_000, 60_000
WINDOW = ScheduleRow("unrestricted", 0, 5 * MIN_MS, HOUR_MS)
HOURLY = Schedule((WINDOW,), "silent", 2000)


@pytest.mark.parametrize(
    ("at_ms", "profiles"),
    [
        (HOUR_MS - 1, ("silent",)),
        (HOUR_MS, ("unrestricted",)),
        (HOUR_MS + 5 * MIN_MS - 1, ("unrestricted",)),
        (HOUR_MS + 5 * MIN_MS, ("silent",)),
    ],
)
def test_a_window_is_half_open(at_ms: int, profiles: tuple[str, ...]) -> None:
    assert HOURLY.profiles_at(at_ms) == profiles


@pytest.mark.parametrize(
    ("at_ms", "is_open"),
    [(HOUR_MS + 1999, False), (HOUR_MS + 2000, True), (HOUR_MS + 298_000 - 1, True), (HOUR_MS + 298_000, False)],
)
def test_a_window_opens_later_and_ends_sooner_by_the_margin(at_ms: int, is_open: bool) -> None:
    assert (HOURLY.profiles_near(at_ms) == ("unrestricted",)) is is_open


def test_a_window_shorter_than_the_margins_never_opens() -> None:
    schedule = Schedule((ScheduleRow("unrestricted", 0, 3000, HOUR_MS),), "silent", 2000)
    assert all("silent" in schedule.profiles_near(at_ms) for at_ms in range(0, 10_000, 250))


def test_a_silent_period_holds_beside_a_window() -> None:
    period = ScheduleRow("silent", 10 * HOUR_MS, 2 * HOUR_MS, None)
    schedule = Schedule((WINDOW, period), "silent", 0)
    assert schedule.profiles_at(9 * HOUR_MS) == ("unrestricted",)
    assert set(schedule.profiles_at(11 * HOUR_MS)) == {"unrestricted", "silent"}
    assert schedule.profiles_at(12 * HOUR_MS) == ("unrestricted",)


@given(at_ms=st.integers(0, 50 * HOUR_MS), margin_ms=st.integers(0, 60_000))
def test_nothing_changes_before_the_next_change(at_ms: int, margin_ms: int) -> None:
    once = ScheduleRow("silent", 20 * HOUR_MS, 90 * MIN_MS, None)
    schedule = Schedule((WINDOW, once), "quiet-radio", margin_ms)
    change_ms = schedule.next_change_ms(at_ms)
    assert change_ms is not None
    assert change_ms > at_ms
    for step in range(20):
        between_ms = at_ms + (change_ms - 1 - at_ms) * step // 19
        assert set(schedule.profiles_near(between_ms)) == set(schedule.profiles_near(at_ms))


def test_after_the_last_span_nothing_changes() -> None:
    schedule = Schedule((ScheduleRow("silent", HOUR_MS, HOUR_MS, None),), "unrestricted", 1000)
    assert schedule.next_change_ms(2 * HOUR_MS) == 2 * HOUR_MS + 1000
    assert schedule.next_change_ms(2 * HOUR_MS + 1000) is None


def test_the_next_opening_of_a_bearer() -> None:
    row = ScheduleRow("los-only", 30 * MIN_MS, MIN_MS, HOUR_MS)
    schedule = Schedule((WINDOW, row), "silent", 2000)
    settings = make_settings()
    assert next_opening_ms(schedule, 6 * MIN_MS, "los", settings, BEARERS) == 30 * MIN_MS + 2000
    assert next_opening_ms(schedule, 6 * MIN_MS, "sat", settings, BEARERS) == HOUR_MS + 2000
    never = Schedule((ScheduleRow("los-only", 0, MIN_MS, HOUR_MS),), "silent", 0)
    assert next_opening_ms(never, 0, "sat", settings, BEARERS) is None


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule((), "silent", 0), "at least one row"),
        (Schedule((WINDOW,) * 33, "silent", 0), "at most 32"),
        (Schedule((WINDOW,), "silent", 60_001), "margin"),
        (Schedule((ScheduleRow("x", 0, 0, None),), "silent", 0), "lasts"),
        (Schedule((ScheduleRow("x", 0, 1000, 59_000),), "silent", 0), "comes again after"),
        (Schedule((ScheduleRow("x", 0, HOUR_MS, HOUR_MS),), "silent", 0), "until it comes again"),
    ],
)
def test_what_is_wrong_is_said(schedule: Schedule, words: str) -> None:
    assert words in str(wrong_with_schedule(schedule))


def test_a_good_one_is_taken() -> None:
    assert wrong_with_schedule(HOURLY) is None
