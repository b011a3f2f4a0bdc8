# SPDX-License-Identifier: Apache-2.0
"""Earliest delivery over known contacts, each of which carries one bundle at a time: what is booked is taken.

Exact: a bundle goes into the first gap that is long enough, and a later start is never there earlier, so that Dijkstra
over nodes finds the earliest arrival. It has nothing in common with meshd's own search, to be a judge of it.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from tests.sim.scenario import Load


class Hop(NamedTuple):
    """A bundle's time on one contact."""

    contact: Contact
    begin_s: float
    done_s: float


class Bookings:
    """Contacts by sender, and when each is taken."""

    def __init__(self, contacts: Iterable[Contact]) -> None:
        self._contacts: dict[Eid, list[Contact]] = {}
        self._taken: dict[Contact, list[tuple[float, float]]] = {}
        for contact in contacts:
            self._contacts.setdefault(contact.sender, []).append(contact)

    def route(self, load: Load, source: Eid, now: float, avoid: frozenset[Contact] = frozenset()) -> list[Hop]:
        """The hops to the earliest delivery before it expires; none when there is no way."""
        arrivals: dict[Eid, float] = {source: now}
        before: dict[Eid, Hop] = {}
        waiting: list[tuple[float, str, Eid]] = [(now, source.uri, source)]
        done: set[Eid] = set()
        while waiting:
            at, _, node = heappop(waiting)
            if node == load.destination:
                return _unwind(before, source, node)
            if node in done:
                continue
            done.add(node)
            for contact in self._contacts.get(node, ()):
                if contact.end_s <= at or contact.receiver in done or contact in avoid:
                    continue
                hop = self._first_gap(contact, at, load.size_bytes * 8 / contact.rate_bps)
                if hop is None:
                    continue
                there = hop.done_s + contact.owd_s
                if there <= load.expiry_s and there < arrivals.get(contact.receiver, float("inf")):
                    arrivals[contact.receiver] = there
                    before[contact.receiver] = hop
                    heappush(waiting, (there, contact.receiver.uri, contact.receiver))
        return []

    def book(self, hops: Iterable[Hop]) -> None:
        """Take the time that these need."""
        for contact, begin_s, done_s in hops:
            insort(self._taken.setdefault(contact, []), (begin_s, done_s))

    def _first_gap(self, contact: Contact, at: float, takes_s: float) -> Hop | None:
        begin = max(at, contact.start_s)
        taken = self._taken.get(contact, [])
        for index in range(max(0, bisect_right(taken, (begin, 0.0)) - 1), len(taken)):
            busy_from, busy_until = taken[index]
            if busy_from >= begin + takes_s:
                break
            begin = max(begin, busy_until)
        return Hop(contact, begin, begin + takes_s) if begin + takes_s <= contact.end_s else None


def _unwind(before: dict[Eid, Hop], source: Eid, node: Eid) -> list[Hop]:
    hops: list[Hop] = []
    while node != source:
        hops.append(before[node])
        node = before[node].contact.sender
    return hops[::-1]
