# SPDX-License-Identifier: Apache-2.0
"""Delivery predictabilities: the equations of RFC 6693, and the table's limits."""

import msgspec
import pytest

from meshd.bundle.eid import Eid
from meshd.routing import prophet
from meshd.routing.prophet import Predictabilities, after_encounter, aged, passed_on

A, B, C, D = (Eid(f"dtn://{name}/") for name in "abcd")
NOW = 800_000_000.0


def test_the_equations_give_the_rfcs_numbers() -> None:
    assert aged(0.5, 60.0) == pytest.approx(0.4995)
    assert aged(0.5, -1e6) == 0.5, "a clock that was put back"
    assert after_encounter(0.0, 0.0) == 0.5, "the first encounter"
    assert after_encounter(0.09, 1e6) == 0.5, "below the threshold it counts as the first"
    assert after_encounter(0.5, 1800.0) == pytest.approx(0.5 + 0.49 * 0.7)
    assert after_encounter(0.5, 900.0) == pytest.approx(0.5 + 0.49 * 0.35)
    assert after_encounter(0.5, 0.0) == 0.5, "again at once is the same encounter"
    assert passed_on(0.2, 0.8, 0.5) == pytest.approx(0.36)
    assert passed_on(0.4, 0.8, 0.5) == 0.4
    assert passed_on(0.0, 0.8, 7.0) == pytest.approx(0.8 * 0.99 * 0.9), "a neighbour that lies counts as 1 - delta"


def test_encounters_raise_it_towards_a_limit_and_time_lowers_it() -> None:
    table = Predictabilities(A)
    assert table.of(A, NOW) == 1.0
    assert table.of(B, NOW) == 0.0
    values = []
    for hour in range(8):
        table.met(B, NOW + 3600 * hour)
        values.append(table.of(B, NOW + 3600 * hour))
    assert values == sorted(values)
    assert values[0] == 0.5
    assert 0.9 < values[-1] < 0.99
    assert table.of(B, NOW + 3600 * 7 + 86_400) < 0.5 * values[-1]


def test_what_a_neighbour_meets_counts_for_less() -> None:
    table = Predictabilities(A)
    table.met(B, NOW)
    table.learn(B, {C: 0.8, A: 0.9, B: 1.0}, NOW)
    assert table.of(C, NOW) == pytest.approx(0.5 * 0.8 * 0.9)
    assert table.of(B, NOW) == 0.5, "nobody tells how likely it is to meet itself"
    assert table.of_neighbour(B, C, NOW) == 0.8
    assert table.of_neighbour(B, D, NOW) == 0.0
    assert table.of_neighbour(B, B, NOW) == 1.0
    assert table.of_neighbour(D, C, NOW) == 0.0
    assert table.table(NOW) == {B: 0.5, C: pytest.approx(0.36)}
    table.learn(B, {C: 0.1}, NOW)
    assert table.of(C, NOW) == pytest.approx(0.36), "the larger value stays"


def test_it_is_the_same_after_a_restart() -> None:
    table = Predictabilities(A)
    table.met(B, NOW)
    table.learn(B, {C: 0.8}, NOW)
    again = Predictabilities(A)
    again.restore(table.encode())
    assert again.table(NOW + 60) == table.table(NOW + 60)
    table.met(B, NOW + 900)
    again.met(B, NOW + 900)
    assert again.of(B, NOW + 900) == table.of(B, NOW + 900), "it knows when it met B"
    with pytest.raises(msgspec.MsgspecError):
        again.restore(b"\xc1")


def test_the_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prophet, "NODES_MAX", 3)
    monkeypatch.setattr(prophet, "NEIGHBOURS_MAX", 2)
    table = Predictabilities(A)
    table.met(B, NOW)
    table.learn(B, {Eid(f"dtn://far{number}/"): number / 100 for number in range(50)}, NOW)
    assert len(table) == 3
    assert table.of(B, NOW) == 0.5, "the likeliest stay"
    assert table.of_neighbour(B, Eid("dtn://far49/"), NOW) == 0.49
    assert table.of_neighbour(B, Eid("dtn://far1/"), NOW) == 0.0
    table.learn(C, {D: 0.5}, NOW)
    table.learn(D, {C: 0.5}, NOW)
    assert table.of_neighbour(B, Eid("dtn://far49/"), NOW) == 0.0, "the one heard longest ago was forgotten"
    assert table.of_neighbour(C, D, NOW) == 0.5
