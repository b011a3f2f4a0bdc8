# SPDX-License-Identifier: Apache-2.0
"""The ways that a bundle can take at this moment, each with what goes before the bundle in its contacts.

Candidates of a kind of bundles are found once and remembered until they are forgotten; the arithmetic is done for each
bundle. Where what is booked leaves no room on any of them, another search heeds the bookings.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleRecord
from meshd.link.identity import LinkId
from meshd.routing.bookings import Bookings
from meshd.routing.candidates import LEVELS, NEIGHBOURS_MAX, Candidates
from meshd.routing.contact import Contact, ContactKind
from meshd.routing.contact_graph import seconds_per_byte
from meshd.routing.decision import LinkView
from meshd.routing.known_contacts import KnownContacts
from meshd.routing.route import Route, walk
from meshd.routing.way import Way

CANDIDATES_MAX: Final = 4096
"""Kinds of bundles whose candidates are remembered."""
SMALL_BYTES: Final = 128
"""Routes of smaller bundles are those of this size."""

SURE: Final = 0.95
"""Probability of a way beside which no other is looked at."""
ANY_PRECEDENCE: Final = -1
"""Where what is booked is not heeded, precedence makes no difference."""

_Question = tuple[Eid, Eid | None, int, int, frozenset[LinkId]]
"""Destination, previous node, precedence, rounded size, and links that don't take it whole."""


class WayFinder:
    """Owns the candidates; contacts and bookings are the router's."""

    def __init__(self, own_node: Eid, contacts: KnownContacts, bookings: Bookings) -> None:
        self._own_node = own_node
        self.contacts = contacts
        self._bookings = bookings
        self._candidates: dict[_Question, Candidates] = {}

    def forget(self) -> None:
        """The contacts are others, or time has passed."""
        self._candidates.clear()

    def ways(self, record: BundleRecord, view: LinkView, now: float) -> list[Way]:
        """Ways on the surest level that has any, best first. As many as are needed to know the best."""
        dtn_s = now + view.utc_offset_s
        candidates = self.remembered(record, view, dtn_s)
        for level in LEVELS:
            ways = self._best_of(candidates, level, record, view, dtn_s)
            if ways:
                return ways
        if not candidates.is_booked and candidates.route(0.0, 0) is not None:
            candidates = self._remember(record, view, dtn_s, is_booked=True)
            for level in LEVELS:
                ways = self._best_of(candidates, level, record, view, dtn_s)
                if ways:
                    return ways
        return self._piecewise(record, view, dtn_s)

    def _best_of(
        self, candidates: Candidates, level: float, record: BundleRecord, view: LinkView, dtn_s: float
    ) -> list[Way]:
        ways: list[Way] = []
        for way in self.assess(candidates, level, record, view, dtn_s):
            ways.append(way)
            if len(ways) == 1 and not way.is_delayed and way.confidence >= SURE:
                break
        return sorted(ways, key=choice_order)

    def _piecewise(self, record: BundleRecord, view: LinkView, dtn_s: float) -> list[Way]:
        """Where no contact takes it whole: the way of its first piece, if a link that can take one is up."""
        if self.contacts.is_timeless:
            return []
        small = structs.replace(record, size_bytes=1)
        candidates = self.search(small, view, 1, dtn_s, is_booked=False)
        for level in LEVELS:
            ways = sorted(self.assess(candidates, level, small, view, dtn_s), key=choice_order)
            if ways:
                return ways
        return []

    def assess(
        self, candidates: Candidates, level: float, record: BundleRecord, view: LinkView, dtn_s: float
    ) -> Iterator[Way]:
        """The arithmetic of each candidate for this bundle; without those that don't deliver in time."""
        for rank in range(NEIGHBOURS_MAX):
            route = candidates.route(level, rank)
            if route is None:
                return
            way = self._way(route, level, record, view, dtn_s)
            if way is not None:
                yield way

    def _way(self, route: Route, level: float, record: BundleRecord, view: LinkView, dtn_s: float) -> Way | None:
        hops = route.hops
        booked = partial(self._before, view, record)
        links: tuple[LinkId, ...] = ()
        if hops[0].kind is ContactKind.LIVE:
            links = self._links(hops[0].receiver, record, view)
            if not links:
                return None
            hops = (self.contacts.live(links[0]), *hops[1:])
        legs = walk(hops, record.size_bytes, dtn_s, booked)
        # That a link may fail makes it a worse choice, and nothing late while it is up.
        hoped_s = self.contacts.outage_s(links[0]) if links else 0.0
        if len(legs) < len(hops) or (legs[-1].arrival_s - hoped_s) * 1000 > record.expiry_ms:
            return None
        return Way(tuple(legs), links, level, record.expiry_ms / 1000)

    def _links(self, neighbour: Eid, record: BundleRecord, view: LinkView) -> tuple[LinkId, ...]:
        """Links to a neighbour, the one first over which it is there earliest. Nothing queued: as the table says."""
        links = view.usable_links(neighbour)
        if len(links) < 2 or not view.backlog_bytes(links[0], record.precedence):
            return tuple(links)
        at_least_s = 0.0
        expected_s: dict[LinkId, float] = {}
        for link in links:
            contact = self.contacts.live(link)
            byte_s = seconds_per_byte(contact)
            alone_s = max(record.size_bytes * byte_s + contact.owd_s, at_least_s)
            # One that is better by itself, too, but not for long enough, is not to be taken for that.
            at_least_s = at_least_s or alone_s
            expected_s[link] = alone_s + view.backlog_bytes(link, record.precedence) * byte_s
        return tuple(sorted(links, key=expected_s.__getitem__))

    def _before(self, view: LinkView, record: BundleRecord, contact: Contact) -> float:
        """Bytes that go before the bundle in a contact."""
        booked_bytes = self._bookings.before(contact, record.precedence, record.id)
        if contact.kind is ContactKind.LIVE and contact.sender == self._own_node:
            booked_bytes += view.backlog_bytes(LinkId(contact.bearer, contact.receiver), record.precedence)
        return booked_bytes

    # Candidates

    def remembered(self, record: BundleRecord, view: LinkView, dtn_s: float) -> Candidates:
        """The candidates of its kind."""
        booked = self._candidates.get(self._question(record, view, record.precedence))
        if booked is not None:
            return booked
        question = self._question(record, view, ANY_PRECEDENCE)
        return self._candidates.get(question) or self._remember(record, view, dtn_s, is_booked=False)

    def _remember(self, record: BundleRecord, view: LinkView, dtn_s: float, *, is_booked: bool) -> Candidates:
        if len(self._candidates) >= CANDIDATES_MAX:
            self._candidates.clear()
        question = self._question(record, view, record.precedence if is_booked else ANY_PRECEDENCE)
        found = self.search(record, view, question[3], dtn_s, is_booked=is_booked)
        self._candidates[question] = found
        return found

    def _question(self, record: BundleRecord, view: LinkView, precedence: int) -> _Question:
        size_bytes = _rounded_up(record.size_bytes)
        return record.destination.node, record.previous_node, precedence, size_bytes, _blocked(view)

    def search(
        self, record: BundleRecord, view: LinkView, size_bytes: int, dtn_s: float, *, is_booked: bool
    ) -> Candidates:
        """Candidates for this size, which are not remembered."""
        return Candidates(
            self.contacts.graph,
            self._own_node,
            record.destination.node,
            record.previous_node,
            size_bytes,
            dtn_s,
            _blocked(view),
            partial(self._before, view.base, record) if is_booked else None,
        )


def choice_order(way: Way) -> tuple[float, int]:
    """Sorts ways. Among sure ones the earliest arrival comes first; one that hangs on several unsure contacts has to be
    there much earlier, since it takes time on all of them and seldom keeps what it promises.

    The best has the most of chance * (expiry - arrival), whenever it is asked for. A hop before two ways changes the
    chance of both by the same factor, so that the next node finds them in the same order: nothing goes around.
    """
    return way.expected_s, len(way.legs)


def _blocked(view: LinkView) -> frozenset[LinkId]:
    """Links that this question leaves out."""
    return frozenset() if view is view.base else frozenset(view.base.links()).difference(view.links())


def _rounded_up(size_bytes: int) -> int:
    """Sizes differ by an eighth at most from the one by which their routes are remembered; small ones are one."""
    shift = size_bytes.bit_length() - 4
    return SMALL_BYTES if size_bytes <= SMALL_BYTES else ((size_bytes >> shift) + 1) << shift
