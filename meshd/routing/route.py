# SPDX-License-Identifier: Apache-2.0
"""A route: contacts in their order, and what comes of sending a bundle along them (SABR, CCSDS 734.3-B-1 section 3.2).

Nothing is chosen here; search.py does that.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.routing.contact import Contact
from meshd.routing.contact_graph import seconds_per_byte

VOLUME_MAX_BYTES: Final = 1 << 62
"""The volume of a route on which no contact has a known end."""

Booked = Callable[[Contact], float]
"""Bytes that go before the bundle in a contact; infinite when there is no room for it."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """A way to a destination, for a bundle of one size from one time on."""

    hops: tuple[Contact, ...]
    arrival_s: float
    """When the last byte is at the destination."""
    departure_s: float
    """When the first byte leaves the source."""
    ends_s: float
    """The end of the contact that ends first: its termination time (section 2.3.2.1)."""
    volume_bytes: int
    """What the narrowest of its contacts can still take from the bundle's turn on, the bundle included."""

    @property
    def next_link(self) -> LinkId:
        """The link of the first hop."""
        return LinkId(self.hops[0].bearer, self.hops[0].receiver)

    @property
    def next_node(self) -> Eid:
        """The neighbour of the first hop."""
        return self.hops[0].receiver

    @property
    def confidence(self) -> float:
        """Probability that all of its contacts take place."""
        return math.prod(contact.confidence for contact in self.hops)


class Leg(msgspec.Struct, frozen=True, gc=False):
    """One hop of a bundle: waiting from `ready_s` to `begin_s`, sending to `sent_s`, on its way to `arrival_s`."""

    contact: Contact
    ready_s: float
    begin_s: float
    sent_s: float
    arrival_s: float
    booked_bytes: float
    """What goes before it in this contact."""


def walk(contacts: Sequence[Contact], size_bytes: int, start_s: float, booked: Booked | None = None) -> list[Leg]:
    """What happens to a bundle hop by hop. Fewer legs than contacts: the next contact ends before it would be sent."""
    legs: list[Leg] = []
    ready_s = start_s
    for contact in contacts:
        byte_s = seconds_per_byte(contact)
        before = 0.0 if booked is None else booked(contact)
        begin_s = max(ready_s, contact.start_s if not before else max(contact.start_s, start_s) + before * byte_s)
        sent_s = begin_s + size_bytes * byte_s
        if sent_s > contact.end_s:
            break
        legs.append(Leg(contact, ready_s, begin_s, sent_s, sent_s + contact.owd_s, before))
        ready_s = sent_s + contact.owd_s
    return legs


def make_route(contacts: Sequence[Contact], size_bytes: int, start_s: float, booked: Booked | None = None) -> Route:
    """The route over contacts that are known to carry the bundle."""
    legs = walk(contacts, size_bytes, start_s, booked)
    assert len(legs) == len(contacts) > 0, "the search has found that these contacts carry it"
    return Route(
        hops=tuple(contacts),
        arrival_s=legs[-1].arrival_s,
        departure_s=legs[0].begin_s,
        ends_s=min(contact.end_s for contact in contacts),
        volume_bytes=min(map(_volume_bytes, legs)),
    )


def _volume_bytes(leg: Leg) -> int:
    volume = (leg.contact.end_s - leg.begin_s) / seconds_per_byte(leg.contact)
    return int(min(volume, VOLUME_MAX_BYTES))
