# SPDX-License-Identifier: Apache-2.0
"""The short form of routing_table: a small congested day, and that its judge and its strategies are what they say."""

from copy import copy

import pytest

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from tests.sim.contact_mesh import NEVER, Figures, Mesh, Strategy
from tests.sim.routing_table import (
    COPIES_MAX,
    COPIES_UNPLANNED_MAX,
    OTHERS,
    PLANLESS,
    Row,
    make_router,
    misses,
    misses_unplanned,
    ours_without_plan,
    render,
    run,
)
from tests.sim.scenario import DAY_S, Day, Load, Scenario, names, random_day
from tests.sim.strategies.contact_routing import ContactRouting
from tests.sim.strategies.flooding import Epidemic, SprayAndWait
from tests.sim.strategies.oracle import run_oracle

HOME, NEAR, FAR = NODES = names(3)
SHORT = Day(nodes=5, bundles=60)


def _contact(sender: Eid, receiver: Eid, start_s: float, end_s: float, rate_bps: int = 8000) -> Contact:
    return Contact(sender, receiver, "los0", start_s, end_s, rate_bps, 1.0)


def _load(number: int, source: Eid, destination: Eid, size_bytes: int = 1000, precedence: int = 1) -> Load:
    return Load(number, source, destination, precedence, size_bytes, 0.0, 10_000.0)


def _ours(scenario: Scenario) -> Mesh:
    return Mesh(scenario, lambda node: ContactRouting(node, scenario, make_router))


def test_the_oracle_books_what_takes_place() -> None:
    contacts = (_contact(HOME, NEAR, 10, 12), _contact(NEAR, FAR, 50, 60), _contact(HOME, FAR, 80, 90))
    loads = tuple(_load(number, HOME, FAR) for number in range(3))
    figures = run_oracle(Scenario(NODES, contacts, contacts, loads, 10**6))
    assert sorted(figures.delays_s.values()) == [52.0, 53.0, 82.0], "two go by way of the relay, it is full then"
    assert figures.ratio == 1.0


def test_what_a_contacts_end_cuts_off_is_lost() -> None:
    contacts = (_contact(HOME, NEAR, 10, 11.5), _contact(HOME, NEAR, 30, 40))
    loads = (_load(0, HOME, NEAR), _load(1, HOME, NEAR))
    scenario = Scenario(NODES, contacts, contacts, loads, 10**6)
    mesh = Mesh(scenario, lambda node: Epidemic(node, scenario))
    assert sorted(mesh.run().delays_s.values()) == [12.0, 32.0]
    assert mesh.transmissions == 3


def test_copies_are_counted() -> None:
    contacts = (_contact(HOME, NEAR, 10, 20), _contact(HOME, FAR, 30, 40))
    scenario = Scenario(NODES, contacts, contacts, (_load(0, HOME, FAR),), 10**6)
    figures = Mesh(scenario, lambda node: SprayAndWait(node, scenario)).run()
    assert (figures.copies, figures.ratio) == (2.0, 1.0)
    assert run_oracle(scenario).copies == 1.0


def test_a_bundle_that_never_arrives_counts_in_the_median() -> None:
    loads = tuple(_load(number, HOME, FAR) for number in range(3))
    figures = Figures(Scenario(NODES, (), (), loads, 0), {0: 5.0}, 1.0, 1)
    assert (figures.median_s, figures.median_of_all_s) == (5.0, NEVER)


def test_our_router_follows_the_plan_and_goes_around_an_outage() -> None:
    broken = _contact(NEAR, FAR, 50, 60)
    actual = (_contact(HOME, NEAR, 10, 20), _contact(HOME, FAR, 80, 90), _contact(NEAR, FAR, 200, 210))
    plan = (actual[0], broken, *actual[1:])
    mesh = _ours(Scenario(NODES, plan, plan, (_load(0, HOME, FAR),), 10**6))
    assert mesh.run().delays_s == {0: 52.0}
    mesh = _ours(Scenario(NODES, plan, actual, (_load(0, HOME, FAR),), 10**6))
    assert mesh.run().delays_s == {0: 202.0}, "the relay has it, and waits for the next contact"


def test_the_most_urgent_goes_first() -> None:
    contacts = (_contact(HOME, FAR, 10, 12), _contact(HOME, FAR, 30, 40))
    loads = tuple(_load(number, HOME, FAR, precedence=precedence) for number, precedence in enumerate((1, 1, 4)))
    scenario = Scenario(NODES, contacts, contacts, loads, 10**6)
    assert _ours(scenario).run().delays_s[2] == 12.0


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_seed_replays_exactly(name: str) -> None:
    scenario = random_day(4, SHORT)

    def make(node: Eid) -> Strategy:
        return OTHERS[name](node, scenario)

    first, second = Mesh(scenario, make), Mesh(scenario, make)
    assert first.run().delays_s == second.run().delays_s
    assert first.transmissions == second.transmissions > 0


def test_without_a_plan_a_copy_waits_at_whoever_meets_the_destination() -> None:
    """Far meets near in the morning and again at noon; home meets near in between, and far never."""
    contacts = tuple(
        each
        for start_s, one, other in ((10, NEAR, FAR), (500, HOME, NEAR), (900, NEAR, FAR))
        for each in (_contact(one, other, start_s, start_s + 100), _contact(other, one, start_s, start_s + 100))
    )
    scenario = Scenario(NODES, (), contacts, (_load(0, HOME, FAR),), 10**6)
    figures = Mesh(scenario, lambda node: ours_without_plan(node, scenario)).run()
    assert list(figures.delays_s.values()) == [902.0]
    assert (figures.copies, figures.copies_max) == (2.0, 2)


def test_a_short_day_without_a_plan() -> None:
    rows = run(range(1), SHORT, is_planned=False)
    oracle, ours, *_ = rows
    assert ours.ratio >= 0.75 * oracle.ratio, render(rows)
    assert ours.copies_max <= COPIES_UNPLANNED_MAX
    worse = copy(ours)
    worse.ratio, worse.copies = 0.0, 4.0
    assert len(misses_unplanned([oracle, worse, *rows[2:]])) == 1 + len(PLANLESS)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """One short day of all strategies."""
    return run(range(1), SHORT)


def test_a_short_day_is_near_the_oracle(rows: list[Row]) -> None:
    """The long form is `python -m tests.sim.routing_table`; here the oracle stays the best, and we are not far off."""
    by_name = {row.name: row for row in rows}
    oracle, ours = by_name["oracle"], by_name["meshd"]
    assert all(row.ratio <= oracle.ratio for row in rows)
    assert ours.ratio >= 0.9 * oracle.ratio, render(rows)
    assert ours.copies <= COPIES_MAX
    assert DAY_S > ours.p95_s > 0


def test_a_router_that_is_worse_is_told_so(rows: list[Row]) -> None:
    rows = [copy(row) for row in rows]
    rows[1].ratio, rows[1].median_s, rows[1].copies = 0.1, NEVER, 2.1
    assert len(misses(rows)) == 3 + len(OTHERS)
