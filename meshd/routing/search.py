# SPDX-License-Identifier: Apache-2.0
"""Routes for a bundle, best first: the earliest arrival, and the order of choice among equals.

The search itself is earliest_arrival.py; the choice (SABR, CCSDS 734.3-B-1 section 3.2.8.1.4) is route_choice.py.
"""

import math
from dataclasses import replace
from typing import Final

from meshd.bundle.eid import Eid
from meshd.routing.contact_graph import ContactGraph
from meshd.routing.earliest_arrival import ANY_ROUTE, Conditions, EarliestArrivals
from meshd.routing.route import Route, make_route
from meshd.routing.route_choice import choose_among_equals

ROUTES_MAX: Final = 64
"""Alternatives that are looked for, whatever is asked for."""


def find_route(
    graph: ContactGraph,
    source: Eid,
    destination: Eid,
    size_bytes: int,
    start_s: float,
    conditions: Conditions = ANY_ROUTE,
) -> Route | None:
    """The best route; None when there is none.

    Best: the earliest arrival; among equal ones fewest hops, the latest termination, the smallest ID of the next node.
    """
    assert source != destination, "a bundle that is where it is going needs no route"
    target = graph.number(destination)
    if target is None or graph.number(source) is None:
        return None
    search = EarliestArrivals(graph, source, size_bytes, start_s, conditions, target)
    if search.arrivals_s[target] == math.inf:
        return None
    hops = choose_among_equals(search, target)
    return make_route(hops, size_bytes, start_s, conditions.booked)


def find_routes(
    graph: ContactGraph,
    source: Eid,
    destination: Eid,
    size_bytes: int,
    start_s: float,
    conditions: Conditions = ANY_ROUTE,
    routes_max: int = ROUTES_MAX,
) -> list[Route]:
    """The best route over each first link, best first, ROUTES_MAX at most."""
    routes: list[Route] = []
    tried = set(conditions.excluded_links)
    while len(routes) < min(routes_max, ROUTES_MAX):
        route = find_route(
            graph, source, destination, size_bytes, start_s, replace(conditions, excluded_links=frozenset(tried))
        )
        if route is None:
            break
        routes.append(route)
        tried.add(route.next_link)
    return routes
