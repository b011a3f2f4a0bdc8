# SPDX-License-Identifier: Apache-2.0
"""Levels of a link by what it carries."""

from itertools import pairwise

import pytest

from meshd.link.thinning import DOWN_S, UP_MAX_S, UP_S, Level, LinkThinning

NEEDS_BPS = {0: 50_000, 1: 250_000, 2: 1_800_000}
STEP_S = 0.25


def link() -> LinkThinning:
    """One that knows what the stream needs, at second 0."""
    thinning = LinkThinning()
    for step in range(40):
        for tier, rate_bps in NEEDS_BPS.items():
            thinning.rates.count(tier, int(rate_bps / 8 * STEP_S), -10 + step * STEP_S)
    return thinning


def run(thinning: LinkThinning, begin: float, duration_s: float, link_bps: float) -> list[tuple[float, Level]]:
    """Measure a link of this rate; changes of level and when."""
    changes = []
    level = thinning.level
    for step in range(1, round(duration_s / STEP_S) + 1):
        needed_bps = thinning.rates.needed_bps(thinning.level) or 0.0
        is_full = link_bps < needed_bps * 1.02
        now = begin + step * STEP_S
        if thinning.measure(min(link_bps, needed_bps), is_full, now) != level:
            level = thinning.level
            changes.append((now - begin, level))
    return changes


def test_the_needs_are_measured() -> None:
    needed_bps = link().rates.needed_bps(Level.KEY_FRAMES_AND_KLV)
    assert needed_bps == pytest.approx(300_000, rel=0.07)


@pytest.mark.parametrize(
    ("link_bps", "level"),
    [
        (500_000, Level.KEY_FRAMES_AND_KLV),
        (200_000, Level.KLV_ONLY),
        (20_000, Level.PAUSED),
    ],
)
def test_a_link_that_falls_is_given_less_within_six_seconds(link_bps: float, level: Level) -> None:
    thinning = link()
    assert run(thinning, 0, 20, 4e6) == []
    (changed,) = run(thinning, 20, 10, link_bps)
    assert changed[1] is level
    assert DOWN_S <= changed[0] <= 6.0


def test_a_short_fade_changes_nothing() -> None:
    thinning = link()
    for begin in range(0, 60, 6):
        assert run(thinning, begin, 4, 300_000) == []
        assert run(thinning, begin + 4, 2, 4e6) == []


def test_an_outage_changes_nothing() -> None:
    thinning = link()
    assert run(thinning, 0, 4, 500_000) == []
    assert run(thinning, 4, 60, 0) == []
    assert run(thinning, 64, 4, 500_000) == []
    assert thinning.level is Level.ALL


def test_more_is_tried_after_20_seconds_one_level_at_a_time() -> None:
    thinning = link()
    run(thinning, 0, DOWN_S + STEP_S, 100_000)
    assert thinning.level is Level.KLV_ONLY
    changes = run(thinning, 10, 60, 4e6)
    assert [level for _, level in changes] == [Level.KEY_FRAMES_AND_KLV, Level.ALL]
    assert changes[0][0] == pytest.approx(UP_S, abs=1)
    assert changes[1][0] == pytest.approx(2 * UP_S, abs=1)


def test_failed_trials_get_rarer() -> None:
    thinning = link()
    run(thinning, 0, 10, 500_000)
    ups = [at for at, level in run(thinning, 10, 2000, 500_000) if level is Level.ALL]
    waits = [later - sooner for sooner, later in pairwise(ups)]
    assert waits[0] < waits[1] < waits[2]
    assert max(waits) <= UP_MAX_S + DOWN_S + 2
    assert len(ups) < 20


def test_without_knowing_the_needs_nothing_is_left_out() -> None:
    thinning = LinkThinning()
    assert thinning.measure(10.0, True, 0.0) is Level.ALL
    assert thinning.measure(10.0, True, 100.0) is Level.ALL


def test_a_level_is_so_many_tiers() -> None:
    thinning = link()
    assert [thinning.admits(tier) for tier in range(3)] == [True, True, True]
    run(thinning, 0, 10, 500_000)
    assert [thinning.admits(tier) for tier in range(3)] == [True, True, False]
