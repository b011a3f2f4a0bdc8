# SPDX-License-Identifier: Apache-2.0
"""Cases that another implementation of contact graph routing, pydtnsim, publishes as its tests, built anew.

Where its routes have capacities that follow from contacts alone, ours count from the bundle's turn on; for the bundles
without content that are asked for here the two are the same. Rates are 1000 bytes a second.
"""

import math

from meshd.routing.contact import Contact
from meshd.routing.contact_graph import ContactGraph
from meshd.routing.earliest_arrival import Conditions
from meshd.routing.route import Route
from meshd.routing.search import find_route, find_routes
from tests.unit.routing.contact_samples import node, nodes_of, plan


def routes(
    contacts: list[Contact], destination: int, start_s: float = 0.0, deadline_s: float = math.inf
) -> list[Route]:
    """From node 1 on, best first."""
    return find_routes(
        ContactGraph(contacts), node(1), node(destination), 0, start_s, Conditions(deadline_s=deadline_s)
    )


def figures(route: Route) -> tuple[list[int], float, float, int]:
    """Nodes, arrival, termination, volume."""
    return nodes_of(route.hops), route.arrival_s, route.ends_s, route.volume_bytes


def test_two_routes() -> None:
    found = routes(plan((1, 2, 10, 20), (1, 3, 40, 50), (2, 4, 20, 30), (3, 4, 70, 80)), 4)
    assert [figures(each) for each in found] == [([1, 2, 4], 20, 20, 10_000), ([1, 3, 4], 70, 50, 10_000)]


def test_contacts_in_the_wrong_order_make_no_route() -> None:
    assert routes(plan((1, 2, 35, 40), (2, 3, 20, 40), (3, 4, 20, 25)), 4) == []
    rows = plan((1, 2, 50, 60), (2, 3, 10, 20), (2, 4, 40, 50), (3, 5, 20, 30), (4, 5, 70, 80))
    assert find_route(ContactGraph(rows), node(1), node(5), 1, 0.0) is None


def test_one_first_contact_that_limits_all_makes_one_route() -> None:
    rows = plan((1, 2, 30, 70), (2, 3, 0, 100), (2, 4, 0, 100), (3, 5, 0, 100), (4, 5, 0, 100))
    assert [figures(each) for each in routes(rows, 5)] == [([1, 2, 3, 5], 30, 70, 40_000)]


def test_a_contact_in_the_middle_that_limits_all() -> None:
    rows = plan(
        (1, 2, 30, 90),
        (1, 3, 0, 100),
        (2, 4, 30, 90),
        (3, 4, 0, 100),
        (4, 5, 30, 70),
        (5, 6, 0, 100),
        (5, 7, 30, 90),
        (6, 8, 0, 100),
        (7, 8, 30, 90),
    )
    best = routes(rows, 8)[0]
    assert (best.arrival_s, best.ends_s, best.volume_bytes, len(best.hops)) == (30, 70, 40_000, 5)


class TestTwoWays:
    """One that is early and narrow, one that is late and wide."""

    rows = plan((1, 2, 30, 90), (1, 3, 0, 100), (3, 7, 40, 80), (6, 8, 0, 100), (7, 8, 30, 90), (2, 6, 10, 40))
    early, late = ([1, 2, 6, 8], 30, 40, 10_000), ([1, 3, 7, 8], 40, 80, 40_000)

    def test_both(self) -> None:
        assert [figures(each) for each in routes(self.rows, 8)] == [self.early, self.late]

    def test_what_is_past_is_no_route(self) -> None:
        assert [nodes_of(each.hops) for each in routes(self.rows, 8, start_s=50.0)] == [[1, 3, 7, 8]]

    def test_deadline(self) -> None:
        assert [figures(each) for each in routes(self.rows, 8, deadline_s=35.0)] == [self.early]
        assert routes(self.rows, 8, deadline_s=29.0) == []

    def test_what_does_not_fit_goes_the_wide_way(self) -> None:
        found = find_route(ContactGraph(self.rows), node(1), node(8), 10_001, 0.0)
        assert found is not None
        assert nodes_of(found.hops) == [1, 3, 7, 8]
        assert find_route(ContactGraph(self.rows), node(1), node(8), 40_001, 0.0) is None

    def test_without_the_contact_of_the_early_one(self) -> None:
        assert [figures(each) for each in routes(self.rows[:-1], 8)] == [self.late]


class TestPlainShortestPaths:
    """Contacts without an end: what remains is an ordinary graph with delays."""

    rows = ((1, 2, 10), (1, 3, 4), (1, 4, 2), (3, 5, 16), (3, 6, 3), (5, 7, 8), (6, 7, 7), (7, 8, 11))
    loops = ((6, 4, 1), (7, 6, 1), (8, 1, 1), (6, 3, 1))

    def test_shortest(self) -> None:
        for rows in (self.rows, (*self.rows, *self.loops)):
            contacts = plan(*((sender, receiver, 0, math.inf, 8000, delay) for sender, receiver, delay in rows))
            best = routes(contacts, 8)[0]
            assert (nodes_of(best.hops), best.arrival_s) == ([1, 3, 6, 7, 8], 25)

    def test_no_path(self) -> None:
        assert routes(plan((1, 2, 0, math.inf), (3, 2, 0, math.inf)), 3) == []
