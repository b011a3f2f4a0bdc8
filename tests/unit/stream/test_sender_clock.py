# SPDX-License-Identifier: Apache-2.0
"""When clocks agree the latency counts from ingest, and when they do not, from the shortest way."""

import pytest

from meshd.stream.sender_clock import START_S, WINDOW_S, SenderClock

LATENCY_S = 1.0
CUT_S = 0.1
UNIX_S = 1_700_000_000.0
"""Of the publisher's clock at second 0 of the own monotonic one."""


def watch(clock: SenderClock, way_s: float, error_s: float, begin: float = 0.0, seconds: float = 1.0) -> None:
    """Pieces arrive after this way; the own clock is ahead by `error_s`."""
    for number in range(int(seconds / CUT_S)):
        ingest = begin + number * CUT_S
        now = ingest + CUT_S + way_s
        clock.observe(UNIX_S + ingest, CUT_S, now, UNIX_S + now + error_s)


@pytest.mark.parametrize("error_s", [0.0, -0.2, 0.2])
def test_clocks_that_may_agree_are_believed(error_s: float) -> None:
    clock = SenderClock(LATENCY_S)
    watch(clock, 0.2, error_s)
    assert clock.offset == pytest.approx(-UNIX_S - error_s, abs=1e-5)


@pytest.mark.parametrize("error_s", [-3600.0, -0.3, 0.4, 3600.0])
def test_clocks_that_can_not_agree_are_not(error_s: float) -> None:
    clock = SenderClock(LATENCY_S)
    watch(clock, 0.2, error_s)
    assert clock.offset == pytest.approx(CUT_S + 0.2 - UNIX_S, abs=1e-5)


def test_a_latency_that_the_way_uses_up_comes_on_top_of_it() -> None:
    clock = SenderClock(0.05)
    watch(clock, 0.01, 0.0)
    assert clock.offset == pytest.approx(CUT_S + 0.01 - UNIX_S, abs=1e-5)


def test_a_first_piece_that_came_late_settles_nothing() -> None:
    clock = SenderClock(LATENCY_S)
    clock.observe(UNIX_S, CUT_S, 0.9, UNIX_S + 0.9)
    assert clock.offset == pytest.approx(0.9 - UNIX_S, abs=1e-5)
    watch(clock, 0.2, 0.0, begin=0.1, seconds=0.8)
    assert clock.offset == pytest.approx(-UNIX_S, abs=1e-5)


def test_a_small_step_of_the_own_clock_is_followed_slowly_and_a_large_one_not_at_all() -> None:
    clock = SenderClock(LATENCY_S)
    watch(clock, 0.2, 0.0, seconds=START_S + 1)
    watch(clock, 0.2, 0.1, begin=START_S + 1, seconds=3 * WINDOW_S)
    assert -0.1 < clock.offset + UNIX_S < -0.001
    before = clock.offset
    watch(clock, 0.2, 3600.0, begin=START_S + 1 + 3 * WINDOW_S, seconds=2 * WINDOW_S)
    assert clock.offset == pytest.approx(before, abs=0.05)
    assert clock.steps == 0
