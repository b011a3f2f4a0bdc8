# SPDX-License-Identifier: Apache-2.0
"""Small plans for the tests of routing: nodes are numbers, a contact is a line."""

from collections.abc import Iterator, Sequence

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from meshd.routing.contact_graph import id_key
from meshd.routing.route import walk

PlanRow = tuple[int, int, float, float] | tuple[int, int, float, float, int] | tuple[int, int, float, float, int, float]
"""Sender, receiver, start, end, and as far as they are not the usual ones rate in bit/s and one-way delay."""

RATE_BPS = 8000


def node(number: int) -> Eid:
    """`ipn:N.0`."""
    return Eid(f"ipn:{number}.0")


def contact(row: PlanRow, bearer: str = "") -> Contact:
    """One line of a plan."""
    sender, receiver, start_s, end_s, *rest = row
    rate_bps = int(rest[0]) if rest else RATE_BPS
    owd_s = rest[1] if len(rest) > 1 else 0.0
    return Contact(node(sender), node(receiver), bearer, start_s, end_s, rate_bps, owd_s)


def plan(*rows: PlanRow) -> list[Contact]:
    """All lines of a plan."""
    return [contact(row) for row in rows]


def both_ways(*rows: PlanRow) -> list[Contact]:
    """A plan whose links work in both directions."""
    return [contact(each) for row in rows for each in (row, (row[1], row[0], *row[2:]))]


def nodes_of(hops: Sequence[Contact]) -> list[int]:
    """The numbers of the nodes along a route, its source first."""
    return [int(each.uri[4:-2]) for each in (hops[0].sender, *(hop.receiver for hop in hops))]


TUTORIAL = both_ways(
    (1, 2, 0, 60, 8_000_000, 1.0),
    (1, 3, 0, 60, 8_000_000, 1.0),
    (2, 3, 0, 60, 8_000_000, 1.0),
    (3, 4, 0, 30, 8_000_000, 1.0),
    (1, 5, 10, 20, 8_000_000, 1.0),
    (4, 5, 0, 10, 8_000_000, 1.0),
    (4, 5, 30, 40, 8_000_000, 1.0),
    (4, 5, 50, 60, 8_000_000, 1.0),
)
"""The plan of five nodes by which contact graph routing is commonly taught: seven routes lead from 1 to 5."""


def simple_ways(contacts: Sequence[Contact], source: Eid, destination: Eid) -> Iterator[tuple[Contact, ...]]:
    """Every sequence of contacts from one node to another that is nowhere twice."""
    stack: list[tuple[Eid, tuple[Contact, ...]]] = [(source, ())]
    while stack:
        here, way = stack.pop()
        if here == destination:
            yield way
            continue
        seen = {source, *(hop.receiver for hop in way)}
        stack.extend(
            (each.receiver, (*way, each)) for each in contacts if each.sender == here and each.receiver not in seen
        )


def best_by_trying(
    contacts: Sequence[Contact], source: Eid, destination: Eid, size_bytes: int, start_s: float
) -> tuple[Contact, ...] | None:
    """The best route, by trying them all."""
    found = []
    for way in simple_ways(contacts, source, destination):
        legs = walk(way, size_bytes, start_s)
        if len(legs) == len(way):
            termination_s = min(hop.end_s for hop in way)
            names = [(id_key(hop.receiver), hop.bearer) for hop in way]
            found.append(((legs[-1].arrival_s, len(way), -termination_s, names), way))
    return min(found, key=lambda each: each[0])[1] if found else None
