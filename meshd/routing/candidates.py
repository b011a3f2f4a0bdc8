# SPDX-License-Identifier: Apache-2.0
"""Routes that a kind of bundle may take: the best over each neighbour, on each level of confidence, found when needed.

A level admits contacts of at least its confidence, and what a level finds the levels below it find too. What is found
holds for as long as the graph does; the bundle's own arithmetic (its size, what goes before it, its deadline) is done
by `walk` each time.
"""

from collections.abc import Collection
from typing import Final

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.routing.contact_graph import ContactGraph
from meshd.routing.earliest_arrival import Conditions
from meshd.routing.route import Booked, Route
from meshd.routing.search import find_route

LEVELS: Final = (0.95, 0.5, 0.0)
"""Confidence of each contact; the surest level that delivers in time wins. Two of them between which there is no
contact are searched once."""
NEIGHBOURS_MAX: Final = 4
"""Neighbours over which ways are compared, and copies go, at most."""


class Candidates:
    """For bundles of one size, from one node to one destination, and not back to where they came from."""

    def __init__(
        self,
        graph: ContactGraph,
        own_node: Eid,
        destination: Eid,
        back: Eid | None,
        size_bytes: int,
        start_s: float,
        blocked: Collection[LinkId] = (),
        booked: Booked | None = None,
    ) -> None:
        self._graph = graph
        self._own_node = own_node
        self._destination = destination
        self._back = () if back is None else (back,)
        self._size_bytes = size_bytes
        self._start_s = start_s
        self._blocked = blocked
        self._booked = booked
        self._found: dict[float, list[Route]] = {}
        self._is_complete: set[float] = set()

    @property
    def is_booked(self) -> bool:
        """Whether the search heeded what was booked at the time."""
        return self._booked is not None

    def route(self, level: float, rank: int) -> Route | None:
        """The best route at a level, the best of those over another neighbour, and so on; None: there are no more."""
        level = self._graph.surest_at_least(level)
        found = self._found.setdefault(level, [])
        while rank >= len(found) and level not in self._is_complete:
            route = self._search(level, [each.next_node for each in found])
            if route is None:
                self._is_complete.add(level)
                break
            found.append(route)
            if len(found) >= NEIGHBOURS_MAX:
                self._is_complete.add(level)
        return found[rank] if rank < len(found) else None

    def _search(self, level: float, tried: Collection[Eid]) -> Route | None:
        conditions = Conditions(
            confidence_min=level,
            excluded_nodes=self._back,
            excluded_neighbours=tried,
            excluded_links=self._blocked,
            booked=self._booked,
        )
        return find_route(self._graph, self._own_node, self._destination, self._size_bytes, self._start_s, conditions)
