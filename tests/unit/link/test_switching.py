# SPDX-License-Identifier: Apache-2.0
"""When a link is changed for another one: not for little, not for luck, not back and forth."""

import random

import pytest

from meshd.bundle.eid import parse_eid
from meshd.link.identity import LinkId
from meshd.link.link_table import SCORED_BYTES
from meshd.link.metric import LinkMetric, LinkSample, measured, seeded
from meshd.link.switching import EVALUATIONS, Choice, Score, choose_anew, evaluate, is_better
from tests.sim.equal_links import CASES, count_switches

DPOP2 = parse_eid("dtn://dpop2/")
A, B, C = (LinkId(name, DPOP2) for name in "abc")
RATE_BPS = 10_000_000


def test_three_evaluations_in_a_row() -> None:
    choice = Choice(A)
    scores = {A: Score(2.0, 0.0), B: Score(1.0, 0.0)}
    for _ in range(EVALUATIONS - 1):
        choice = evaluate(choice, scores)
        assert choice.link == A
    assert evaluate(choice, scores).link == B
    interrupted = evaluate(choice, {A: Score(1.0, 0.0), B: Score(1.0, 0.0)})
    assert evaluate(interrupted, scores) == Choice(A, B, 1)


def test_another_challenger_begins_anew() -> None:
    choice = evaluate(evaluate(Choice(A), {A: Score(2, 0), B: Score(1, 0)}), {A: Score(2, 0), C: Score(1, 0)})
    assert choice == Choice(A, C, 1)


@pytest.mark.parametrize(("other_s", "sigma_s", "better"), [(0.95, 0, False), (0.89, 0, True), (0.89, 0.05, False)])
def test_better_by_ten_percent_and_three_sigma(other_s: float, sigma_s: float, better: bool) -> None:
    assert is_better(Score(other_s, sigma_s), Score(1.0, 0.0)) is better


def test_a_link_that_died_is_left_at_once() -> None:
    assert evaluate(Choice(A), {B: Score(5.0, 1.0), C: Score(4.0, 1.0)}) == Choice(C)
    assert evaluate(Choice(A), {}) == Choice()
    assert choose_anew({B: Score(5.0, 1.0), A: Score(5.0, 1.0)}) == Choice(A)
    assert choose_anew({}) == Choice()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_two_equal_links_for_a_day(case: str, seed: int) -> None:
    assert count_switches(case, 24, seed) <= 24


def _scores(metrics: dict[LinkId, LinkMetric], now: float) -> dict[LinkId, Score]:
    return {
        link: Score(metric.expected_s(SCORED_BYTES, now), metric.sigma_s(SCORED_BYTES))
        for link, metric in metrics.items()
    }


def test_a_link_that_has_become_slow_is_left_within_seconds() -> None:
    rng = random.Random(3)
    metrics = {A: seeded(RATE_BPS, 0.0), B: seeded(RATE_BPS, 0.0)}
    choice, left_after_s = Choice(A), None
    for second in range(120):
        share = 0.2 if second >= 60 else 1.0
        metrics[A] = measured(metrics[A], LinkSample(RATE_BPS * share * rng.uniform(0.9, 1.1)))
        metrics[B] = measured(metrics[B], LinkSample(RATE_BPS * rng.uniform(0.9, 1.1)))
        choice = evaluate(choice, _scores(metrics, second))
        if choice.link == B and left_after_s is None:
            left_after_s = second - 60
    assert left_after_s is not None
    assert 0 < left_after_s <= 20
