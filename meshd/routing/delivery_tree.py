# SPDX-License-Identifier: Apache-2.0
"""Earliest arrival at all nodes at once: the shared tree along which one transmission serves several members.

Two destinations whose routes share a node share everything up to it, since each node is reached in one way only.
"""

import math
from collections.abc import Iterable

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from meshd.routing.contact_graph import ContactGraph
from meshd.routing.earliest_arrival import ANY_ROUTE, Conditions, EarliestArrivals
from meshd.routing.route import Route, make_route


class DeliveryTree:
    """For a bundle of one size from one node and time on."""

    def __init__(
        self,
        graph: ContactGraph,
        source: Eid,
        size_bytes: int,
        start_s: float,
        conditions: Conditions = ANY_ROUTE,
    ) -> None:
        """Search."""
        self._graph = graph
        self._search = (
            None if graph.number(source) is None else EarliestArrivals(graph, source, size_bytes, start_s, conditions)
        )

    def arrival_s(self, node: Eid) -> float:
        """The earliest; infinite for a node that can't be reached."""
        number = self._graph.number(node)
        return math.inf if self._search is None or number is None else self._search.arrivals_s[number]

    def route_to(self, destination: Eid) -> Route | None:
        """The tree's route to a node other than the source; None: it can't be reached."""
        search, number = self._search, self._graph.number(destination)
        if search is None or number is None or search.by[number] is None:
            return None
        return make_route(search.hops_to(number), search.size_bytes, search.start_s, search.conditions.booked)

    def first_hops(self, members: Iterable[Eid]) -> dict[Contact, list[Eid]]:
        """Which members are served by which contact of the source; those that can't be reached are left out."""
        served: dict[Contact, list[Eid]] = {}
        for member in members:
            route = self.route_to(member)
            if route is not None:
                served.setdefault(route.hops[0], []).append(member)
        return served
