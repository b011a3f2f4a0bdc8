# SPDX-License-Identifier: Apache-2.0
"""How many symbols are sent, against the binomial distribution itself."""

import random

import pytest

from meshd.cl.fountain.repair import CERTAIN, IDLE, LIKELY, LOSS_MAX, SURE, symbols_to_send


def _failures(need: int, total: int, loss: float, runs: int) -> float:
    rng = random.Random(7)
    return sum(sum(rng.random() >= loss for _ in range(total)) < need for _ in range(runs)) / runs


@pytest.mark.parametrize(("need", "loss"), [(1, 0.1), (3, 0.05), (10, 0.2), (40, 0.1), (200, 0.05)])
@pytest.mark.parametrize("failure", [SURE, IDLE])
def test_chance_of_failure_is_kept(need: int, loss: float, failure: float) -> None:
    total = symbols_to_send(need, loss, failure)
    assert _failures(need, total, loss, 2000) <= 1.5 * failure + 0.005


def test_urgent_single_symbol_is_repeated_until_one_in_a_thousand() -> None:
    assert [symbols_to_send(1, loss, CERTAIN) for loss in (0.0, 0.01, 0.05, 0.1)] == [1, 2, 3, 4]


def test_bulk_stays_below_the_mean_but_never_below_the_need() -> None:
    assert 737 <= symbols_to_send(737, 0.2, LIKELY) < 737 / 0.8
    assert symbols_to_send(737, 0.0, LIKELY) == 737


def test_nothing_needed_nothing_sent() -> None:
    assert symbols_to_send(0, 0.5, CERTAIN) == 0


@pytest.mark.parametrize("need", [1, 1000])
def test_a_dead_link_is_not_flooded(need: int) -> None:
    assert symbols_to_send(need, 1.0, LIKELY) == symbols_to_send(need, LOSS_MAX, LIKELY) <= 4 * need
