# SPDX-License-Identifier: Apache-2.0
"""Loss models: their long-run shares, and the lengths of bursts.

Bounds are four standard deviations of the estimate, derived beside each test; seeds are fixed, so a test that passes
always does.
"""

import itertools
import math
import random

import pytest

from netns_lab.link_profile import GilbertElliott, RandomLoss, TimedBursts
from netns_lab.loss_model import make_loss_model

FRAMES = 100_000


def losses(loss: RandomLoss | GilbertElliott | None, seed: int = 7) -> list[bool]:
    model = make_loss_model(loss, random.Random(seed))
    return [model.loses(0.0) for _ in range(FRAMES)]


def test_without_loss_nothing_is_lost() -> None:
    assert not any(losses(None))


def test_random_loss_has_its_share() -> None:
    probability = 0.01
    sigma = math.sqrt(probability * (1 - probability) / FRAMES)  # binomial
    assert sum(losses(RandomLoss(probability))) / FRAMES == pytest.approx(probability, abs=4 * sigma)


def test_total_loss_is_total() -> None:
    assert all(losses(RandomLoss(1.0)))


def test_gilbert_elliott_has_its_share() -> None:
    loss = GilbertElliott(p=0.01, r=0.25, loss_bad=0.78)
    # Successive states correlate by 1-p-r, which stretches the variance of their mean by (1+c)/(1-c).
    correlation = 1 - loss.p - loss.r
    share = loss.expected()
    sigma = math.sqrt(share * (1 - share) / FRAMES * (1 + correlation) / (1 - correlation))
    assert sum(losses(loss)) / FRAMES == pytest.approx(share, abs=4 * sigma)


def test_gilbert_elliott_loses_in_bursts_of_mean_length_one_over_r() -> None:
    loss = GilbertElliott(p=0.01, r=0.25)  # loses everything in the bad state, so that a burst is a bad spell
    bursts = [len(list(group)) for lost, group in itertools.groupby(losses(loss)) if lost]
    sigma = math.sqrt((1 - loss.r) / loss.r**2 / len(bursts))  # geometric
    assert sum(bursts) / len(bursts) == pytest.approx(1 / loss.r, abs=4 * sigma)


def test_random_loss_of_the_same_share_has_shorter_bursts() -> None:
    bursts = [len(list(group)) for lost, group in itertools.groupby(losses(RandomLoss(0.03))) if lost]
    assert sum(bursts) / len(bursts) < 1.1


def test_the_loss_is_decided_before_the_step() -> None:
    """With p = 1 and r = 1 the states alternate, beginning in the good one, as netem's do."""
    model = make_loss_model(GilbertElliott(p=1.0, r=1.0), random.Random(1))
    assert [model.loses(0.0) for _ in range(4)] == [False, True, False, True]


def test_the_same_seed_loses_the_same_frames() -> None:
    loss = GilbertElliott(p=0.01, r=0.25, loss_bad=0.78)
    assert losses(loss, seed=3) == losses(loss, seed=3) != losses(loss, seed=4)


def test_bursts_by_time_last_as_long_however_few_frames_there_are() -> None:
    """Looked at each 10 ms or each 100 ms: a tenth of the time is bad, in spells of 200 ms in the mean."""
    for step_s in (0.01, 0.1):
        model = make_loss_model(TimedBursts(0.2, 0.1), random.Random(5))
        states = [model.loses(number * step_s) for number in range(FRAMES)]
        spells_expected = FRAMES * step_s / 2.0  # one of 0.2 s and one of 1.8 s
        sigma = 2.0 * 0.1 / math.sqrt(spells_expected)  # of a share made of so many exponential pairs
        assert sum(states) / FRAMES == pytest.approx(0.1, abs=4 * sigma)
    fine = make_loss_model(TimedBursts(0.2, 0.1), random.Random(5))
    runs = [len(list(run)) * 0.01 for bad, run in itertools.groupby(fine.loses(n * 0.01) for n in range(FRAMES)) if bad]
    assert sum(runs) / len(runs) == pytest.approx(0.2, abs=4 * 0.2 / math.sqrt(len(runs)) + 0.01)


def test_bursts_by_time_stay_where_they_are_for_what_is_asked_late() -> None:
    model = make_loss_model(TimedBursts(0.2, 0.5), random.Random(2))
    is_bad = model.loses(10.0)
    assert model.loses(9.0) is is_bad
