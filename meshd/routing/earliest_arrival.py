# SPDX-License-Identifier: Apache-2.0
"""When can a bundle be where at the earliest, if every node can store it (SABR, CCSDS 734.3-B-1 section 3.2.4)?

Since a bundle may wait at a node, being there earlier is never worse; so Dijkstra's algorithm over nodes, with the
arrival as their labels, is exact. A contact carries a bundle that it has sent by its end:
arrival = max(ready, start, what is booked before) + size / (rate * (1 - loss)) + one-way delay.
Nothing is booked here, and which of several equal ways is taken is left to route_choice.py.
"""

import math
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.routing.contact import Contact
from meshd.routing.contact_graph import ContactGraph, Row
from meshd.routing.route import Booked


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a route has to keep to."""

    confidence_min: float = 0.0
    """Of each contact."""
    radiating: bool = True
    """False: over no contact whose sender emits where it can be located."""
    silent_nodes: Collection[Eid] = ()
    """They send in contacts only that don't radiate."""
    excluded_nodes: Collection[Eid] = ()
    """Not through these, nor to them."""
    excluded_neighbours: Collection[Eid] = ()
    """These are not the first hop."""
    excluded_links: Collection[LinkId] = ()
    """These are not the first hop; a contact of an unknown bearer has an empty one here too."""
    deadline_s: float = math.inf
    """It has to arrive by then."""
    booked: Booked | None = None
    """What goes before the bundle; asked only of contacts that may improve on what was found."""


ANY_ROUTE: Final = Conditions()


class EarliestArrivals:
    """Labels of one search: by number of a node its arrival, and the contact by which it is reached then."""

    def __init__(
        self,
        graph: ContactGraph,
        source: Eid,
        size_bytes: int,
        start_s: float,
        conditions: Conditions,
        target: int | None = None,
    ) -> None:
        """Search from `source`, which is in the graph, to one node or (None) to all that can be reached."""
        self.graph = graph
        self.size_bytes = size_bytes
        self.start_s = start_s
        self.conditions = conditions
        number = graph.number(source)
        assert number is not None, "the caller has looked"
        self.source = number
        self.arrivals_s = [math.inf] * len(graph.nodes)
        self.by: list[Contact | None] = [None] * len(graph.nodes)
        numbers = map(graph.number, conditions.excluded_nodes)
        self.excluded = {each for each in numbers if each is not None} - {number}
        self.silent = {each for each in map(graph.number, conditions.silent_nodes) if each is not None}
        self._run(target)

    def hops_to(self, node: int) -> list[Contact]:
        """Along the labels, from the source."""
        hops: list[Contact] = []
        while node != self.source:
            contact = self.by[node]
            assert contact is not None, "only a node that was reached is asked for"
            hops.append(contact)
            sender = self.graph.number(contact.sender)
            assert sender is not None, "it has sent a contact of this graph"
            node = sender
        return hops[::-1]

    def allows(self, row: Row, sender: int, receiver: int) -> bool:
        """Whether the conditions let a contact be used, apart from its times."""
        if row[5] < self.conditions.confidence_min or receiver in self.excluded or sender in self.excluded:
            return False
        if row[6] and (not self.conditions.radiating or sender in self.silent):
            return False
        return sender != self.source or self._allows_first(row[7])

    def free_s(self, row: Row) -> float:
        """When the bundle's turn in a contact comes; infinite when it does not."""
        booked = self.conditions.booked
        before = 0.0 if booked is None else booked(row[7])
        return max(row[0], self.start_s) + before * row[3] if before else row[0]

    def _allows_first(self, contact: Contact) -> bool:
        conditions = self.conditions
        if contact.receiver in conditions.excluded_neighbours:
            return False
        return not conditions.excluded_links or (contact.bearer, contact.receiver) not in conditions.excluded_links

    def _run(self, target: int | None) -> None:
        """One long function: it runs for every row that may matter."""
        arrivals_s, by, size_bytes, has_booked = self.arrivals_s, self.by, self.size_bytes, self.conditions.booked
        bound_s = math.nextafter(self.conditions.deadline_s, math.inf)
        heap = [(self.start_s, self.source)]
        arrivals_s[self.source] = self.start_s
        while heap:
            ready_s, node = heappop(heap)
            if node == target:
                return
            if ready_s > arrivals_s[node]:
                continue
            for group in self.graph.outgoing(node):
                starts_s = group.starts_s
                first = bisect_left(starts_s, ready_s - group.longest_s)
                last = bisect_left(starts_s, bound_s, first)
                for row in group.rows[first:last]:
                    start_s, end_s, receiver, byte_s, owd_s, _, _, contact = row
                    if arrivals_s[receiver] <= start_s:
                        continue
                    sent_s = (start_s if start_s > ready_s else ready_s) + size_bytes * byte_s
                    arrival_s = sent_s + owd_s
                    if sent_s > end_s or arrival_s >= arrivals_s[receiver] or arrival_s >= bound_s:
                        continue
                    if not self.allows(row, node, receiver):
                        continue
                    if has_booked is not None:
                        sent_s = max(ready_s, self.free_s(row)) + size_bytes * byte_s
                        arrival_s = sent_s + owd_s
                        if sent_s > end_s or arrival_s >= arrivals_s[receiver] or arrival_s >= bound_s:
                            continue
                    arrivals_s[receiver] = arrival_s
                    by[receiver] = contact
                    if receiver == target:
                        bound_s = arrival_s
                    heappush(heap, (arrival_s, receiver))
