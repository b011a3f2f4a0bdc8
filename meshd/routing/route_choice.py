# SPDX-License-Identifier: Apache-2.0
"""Which of all routes that arrive earliest? Fewest hops, then the latest termination, then the smallest ID.

That is the order of SABR (CCSDS 734.3-B-1 section 3.2.8.1.4). Labels of one search don't answer it: where a contact
begins late, whoever comes in time is equal, and a label keeps the earliest only, by however many detours. So the
question is put backwards. How late may a bundle be ready at a node and still arrive in time, over one contact, two,
three? The first count at which the source may be ready when it is, is the least; and what lies on such ways is little,
so that all of them can be looked at for the other two questions.
"""

import math
from bisect import bisect_left
from typing import Final, NamedTuple

from meshd.routing.contact import Contact
from meshd.routing.contact_graph import id_key
from meshd.routing.earliest_arrival import EarliestArrivals

EQUAL_S: Final = 1e-5
"""Arrivals this near to each other are equal: seconds since 2000 as floats are exact to 2e-7, and are added up."""
WAYS_MAX: Final = 32
"""Ways to one node that are kept, best first; none of them is worse than another in every respect."""

Latest = dict[int, float]
"""By number of a node, how late a bundle may be ready there."""


class _Way(NamedTuple):
    """From the source to a node: smaller is better in every field."""

    ready_s: float
    termination_s: float
    """Negative: the later the better."""
    ids: tuple[tuple[tuple[str, tuple[int, ...], str], str], ...]
    hops: tuple[Contact, ...]


def choose_among_equals(search: EarliestArrivals, target: int) -> list[Contact]:
    """The contacts of the best route to a node that the search has reached."""
    found = search.hops_to(target)
    layers = _latest_layers(search, target, len(found))
    if layers is None:
        return found
    ways = {search.source: [_Way(search.start_s, -math.inf, (), ())]}
    for latest in reversed(layers[:-1]):
        ways = _extend(search, ways, latest)
    if target not in ways:
        return found
    return list(min(ways[target], key=lambda way: (way.termination_s, way.ids)).hops)


def _latest_layers(search: EarliestArrivals, target: int, hops_max: int) -> list[Latest] | None:
    """For 0, 1, 2... hops, up to the first that reaches back to the source; None when rounding hides it."""
    limit_s = search.arrivals_s[target] + EQUAL_S
    layers: list[Latest] = [{target: limit_s}]
    changed = layers[0]
    for _ in range(hops_max):
        latest = layers[-1]
        changed = _one_more_hop(search, changed, latest)
        layers.append({**latest, **changed})
        if changed.get(search.source, -math.inf) >= search.start_s:
            return layers
    return None


def _one_more_hop(search: EarliestArrivals, changed: Latest, latest: Latest) -> Latest:
    """Nodes that may be ready later than so far when one hop more is allowed."""
    arrivals_s, size_bytes, has_booked = search.arrivals_s, search.size_bytes, search.conditions.booked is not None
    found: Latest = {}
    for node, limit_s in changed.items():
        for group in search.graph.incoming(node):
            first = bisect_left(group.starts_s, search.start_s - group.longest_s)
            last = bisect_left(group.starts_s, limit_s, first)
            for row in group.rows[first:last]:
                start_s, end_s, sender, byte_s, owd_s, _, _, _ = row
                earliest_s = arrivals_s[sender]
                if earliest_s > limit_s:
                    continue
                begin_s = min(limit_s - owd_s, end_s) - size_bytes * byte_s
                if begin_s < start_s or begin_s < earliest_s:
                    continue
                if begin_s <= found.get(sender, latest.get(sender, -math.inf)):
                    continue
                if search.allows(row, sender, node) and (not has_booked or begin_s >= search.free_s(row)):
                    found[sender] = begin_s
    return found


def _extend(search: EarliestArrivals, ways: dict[int, list[_Way]], latest: Latest) -> dict[int, list[_Way]]:
    """All ways that are one hop longer and still in time."""
    longer: dict[int, list[_Way]] = {}
    for node, here in ways.items():
        earliest_s = min(way.ready_s for way in here)
        for group in search.graph.outgoing(node):
            first = bisect_left(group.starts_s, earliest_s - group.longest_s)
            last = bisect_left(group.starts_s, max(latest.values()), first)
            for row in group.rows[first:last]:
                limit_s = latest.get(row[2])
                if limit_s is None or row[0] > limit_s or not search.allows(row, node, row[2]):
                    continue
                free_s = search.free_s(row)
                for way in here:
                    sent_s = max(way.ready_s, free_s) + search.size_bytes * row[3]
                    if sent_s <= row[1] and sent_s + row[4] <= limit_s:
                        _keep(longer.setdefault(row[2], []), _longer(way, row[7], sent_s + row[4]))
    return longer


def _longer(way: _Way, contact: Contact, arrival_s: float) -> _Way:
    name = id_key(contact.receiver), contact.bearer
    return _Way(arrival_s, max(way.termination_s, -contact.end_s), (*way.ids, name), (*way.hops, contact))


def _keep(ways: list[_Way], way: _Way) -> None:
    """Add a way unless another is as good in every respect; those that it outdoes go."""
    if any(_is_as_good(each, way) for each in ways):
        return
    ways[:] = sorted([each for each in ways if not _is_as_good(way, each)] + [way], key=_preference)[:WAYS_MAX]


def _preference(way: _Way) -> tuple[float, float]:
    return way.termination_s, way.ready_s


def _is_as_good(way: _Way, other: _Way) -> bool:
    return way.ready_s <= other.ready_s and way.termination_s <= other.termination_s and way.ids <= other.ids
