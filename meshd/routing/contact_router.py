# SPDX-License-Identifier: Apache-2.0
"""Forwarding by contacts (SABR, CCSDS 734.3-B-1 section 3.2): the way on which a bundle arrives earliest.

Of the ways that deliver before the bundle expires, those on the surest level of confidence are compared, each with what
goes before the bundle in its contacts: a full queue on the better link makes the second one better. Where no way is
known the static routes of the configuration decide, and where they don't lead anywhere it waits.

Where nothing at all is known of a way, the node that made a bundle sprays copies of it (spray_and_wait.py).

Decisions are remembered. Most bundles cost one look-up; where several links lead on, also the queues' lengths; a search
is run only when contacts have changed, or begun or ended.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, BundleRecord
from meshd.link.identity import LinkId
from meshd.routing.bookings import Bookings
from meshd.routing.candidates import LEVELS
from meshd.routing.contact import Contact, ContactKind
from meshd.routing.contact_graph import ContactGraph, seconds_per_byte
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.copying import SURE_ENOUGH, choose_ways, may_need_copies
from meshd.routing.decision import Contraindicated, Copying, Forward, LinkView
from meshd.routing.history import History
from meshd.routing.known_contacts import KnownContacts
from meshd.routing.route import walk
from meshd.routing.settings import RouteSettings
from meshd.routing.silences import Span
from meshd.routing.spray_and_wait import SPRAY_AFTER_S, SPRAY_MAX_BYTES, copies_of, relays
from meshd.routing.static_router import StaticRouter
from meshd.routing.way import Way
from meshd.routing.way_finder import WayFinder, choice_order

REMEMBERED_MAX: Final = 4096
"""Decisions, and kinds of bundles with their candidates, that are remembered."""
REMEMBERED_S: Final = 1.0
"""Where contacts begin and end, routes are remembered for so long,"""
CONTACTS_PER_S: Final = 10_000
"""and for a second more for so many contacts: the longer a search takes, the rarer it is run."""
SPREAD_S: Final = 0.05
"""Bundles that are spread over several links change from one to the other no oftener, nor in smaller lots."""


UNSURE: Final = (ContactKind.PREDICTED, ContactKind.SUSPECTED)
"""Rather than in such a contact a bundle goes by a static route that is open."""


class _Settled(NamedTuple):
    """A decision that holds for all bundles of a kind, as long as little more goes before them on its link."""

    decision: Forward
    expiry_min_ms: float
    """Of bundles that arrive in time whenever they go while this is remembered."""
    watched: LinkId | None
    """None: no other link leads there, so that the queue makes no difference."""
    backlog_max_bytes: int
    until: float
    """Monotonic time; the other links may be better after it."""


class ContactRouter:
    """Implements `Router`."""

    def __init__(self, own_node: Eid, plan: ContactPlan, routes: Sequence[RouteSettings] = ()) -> None:
        self._own_node = own_node
        self._static = StaticRouter(routes)
        self.plan = plan
        self.contacts = KnownContacts(own_node, plan)
        self.history = History(own_node)
        self._bookings = Bookings()
        self._settled: dict[tuple[Eid, Eid | None, int, int], _Settled] = {}
        self._finder = WayFinder(own_node, self.contacts, self._bookings)
        self._view: LinkView | None = None
        self._version: int | None = None
        self._plan_version = -1
        self._refresh_at = -math.inf
        self._forget_at = math.inf

    # What is known

    @property
    def graph(self) -> ContactGraph:
        """All contacts as of the last decision."""
        return self.contacts.graph

    def configure(self, routes: Sequence[RouteSettings]) -> None:
        """Take over other static routes; follow it with a change of the view's version."""
        self._static = StaticRouter(routes)
        self._refresh_at = -math.inf

    def learn(self, node: Eid, contacts: Iterable[Contact], now: float) -> None:
        """These and no others are the contacts in which `node` says that it can send."""
        self.contacts.learn(node, contacts)
        self._refresh_at = now

    def forget(self, node: Eid) -> None:
        """What it said holds no more."""
        self.contacts.forget(node)
        self._refresh_at = -math.inf

    def predict(self, contacts: Iterable[Contact]) -> None:
        """What history lets expect of this node's contacts and of others', in place of what was expected before."""
        self.contacts.predict(contacts)
        self._refresh_at = -math.inf

    def hear(self, node: Eid, table: Mapping[Eid, float], now_s: float) -> None:
        """What another node says of whom it is likely to meet, at a DTN time."""
        self.history.predictabilities.learn(node, table, now_s)

    def silence(self, node: Eid, until_s: float | None) -> None:
        """A node sends nothing that can be located, until a DTN time if that is known; it still receives.

        Of this node it is the end of the order that has closed some of its bearers.
        """
        self.contacts.silence(node, until_s)
        self._refresh_at = -math.inf

    def end_silence(self, node: Eid) -> None:
        """It may send again."""
        self.contacts.end_silence(node)
        self._refresh_at = -math.inf

    def plan_silence(self, node: Eid, spans: Iterable[Span]) -> None:
        """When a node, or this one, will keep silent by a plan: spans of DTN time, in place of those of before."""
        self.contacts.plan_silence(node, spans)
        self._refresh_at = -math.inf

    def planned(self, sender: Eid, from_s: float, until_s: float) -> list[Contact]:
        """Scheduled contacts in which `sender` sends and that overlap this span of DTN time, in their order."""
        return [
            each
            for each in self.plan.contacts()
            if each.sender == sender and each.start_s < until_s and each.end_s > from_s
        ]

    # Decisions

    def choose_next_hops(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        """Decide for one bundle; never back to the node that it came from."""
        base = self._refresh_if_due(view, now)
        if view is not base:
            return self._decide(record, view, now)
        precedence = record.precedence
        kind = record.destination, record.previous_node, precedence, record.size_bytes.bit_length()
        settled = self._settled.get(kind)
        if settled is not None and record.expiry_ms >= settled.expiry_min_ms and now < settled.until:
            watched = settled.watched
            if watched is None or view.backlog_bytes(watched, precedence) <= settled.backlog_max_bytes:
                return settled.decision
        return self._decide(record, view, now)

    def choose_copies(
        self, record: BundleRecord, view: LinkView, now: float, served: frozenset[Eid], *, is_kept: bool = False
    ) -> Copying:
        """Where else a bundle goes, of which these neighbours have a copy or are about to get one."""
        self._refresh_if_due(view, now)
        if is_kept or not (served or self._is_known(record, view, now)):
            return self._spread(record, view, now, served)
        fresh = self._chosen_ways(record, view, now, served)
        links = tuple(way.links[0] for way in fresh if way.is_now)
        later = [way.legs[0].begin_s - view.utc_offset_s for way in fresh if not way.is_now]
        return Copying(links, min(later, default=None))

    def release(self, bundle: BundleId) -> None:
        """The bundle is gone: what was booked for it is free."""
        self._bookings.release(bundle)

    def take_displaced(self) -> Sequence[BundleId]:
        """Bundles that lost their place in a contact to come since the last call."""
        return self._bookings.take_displaced()

    def ways(self, record: BundleRecord, view: LinkView, now: float, start_s: float | None = None) -> list[list[Way]]:
        """For people: every way on each level of confidence, best first, as a bundle would find them at a DTN time.

        Nothing is booked. The way that a bundle takes is the first of the first level that has any.
        """
        self._refresh_if_due(view, now)
        dtn_s = now + view.utc_offset_s if start_s is None else start_s
        candidates = self._finder.search(record, view, record.size_bytes, dtn_s, is_booked=True)
        return [
            sorted(self._finder.assess(candidates, level, record, view, dtn_s), key=choice_order) for level in LEVELS
        ]

    def next_static(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        """What the static routes say, for people."""
        return self._static.choose_next_hops(record, view, now)

    # The parts of a decision

    def _decide(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        if record.id in self._bookings:
            self._bookings.release(record.id)
        destination = record.destination.node
        if destination == record.previous_node or destination == self._own_node:
            return self._by_static_route(record, view, now)
        ways = self._finder.ways(record, view, now)
        if not ways:
            return self._by_static_route(record, view, now)
        best = ways[0]
        if any(leg.contact.kind in UNSURE for leg in best.legs):
            configured = self._static.choose_next_hops(record, view, now)
            if isinstance(configured, Forward):
                return configured
        chosen = self._chosen_ways(record, view, now) if may_need_copies(record, best) else [best]
        best = next((way for way in chosen if way.is_now), min(chosen, key=_begin))
        if not best.is_now:
            waiting = self._wait(record, best, view, now)
            return self._unknown(record, waiting, view, now) if _is_guess(best) else waiting
        decision = self._forward(record, best, ways, view, now, needs_copies=len(chosen) > 1)
        if view is view.base and not decision.needs_copies and best is ways[0]:
            self._settle(record, decision, best, view, now)
        return decision

    def _forward(
        self, record: BundleRecord, best: Way, ways: Sequence[Way], view: LinkView, now: float, *, needs_copies: bool
    ) -> Forward:
        others = [way for way in ways if way is not best]
        links = tuple(dict.fromkeys(link for way in (best, *others) for link in way.links))
        dtn_s = now + view.utc_offset_s
        volumes_bytes: dict[LinkId, int] = {}
        for link in links:
            contact = self.contacts.live(link)
            if contact.end_s != math.inf:
                volumes_bytes[link] = max(int((contact.end_s - dtn_s) / seconds_per_byte(contact)), 0)
            elif (volume_bytes := view.volume_bytes(link)) is not None:
                volumes_bytes[link] = volume_bytes
        self._bookings.book(record.id, record.precedence, record.size_bytes, best.hops[1:], dtn_s, is_waiting=False)
        end_s = self.contacts.live(links[0]).end_s
        until = None if end_s == math.inf else end_s - view.utc_offset_s
        return Forward(links, volumes_bytes, until, needs_copies)

    def _wait(self, record: BundleRecord, best: Way, view: LinkView, now: float) -> Contraindicated:
        offset_s = view.utc_offset_s
        self._bookings.book(record.id, record.precedence, record.size_bytes, best.hops, now + offset_s, is_waiting=True)
        contact = best.legs[0].contact
        is_late = contact.kind is ContactKind.SUSPECTED
        what = f"for a contact with {contact.receiver.uri}" + (f" on {contact.bearer}" if contact.bearer else "")
        wait_s = max(best.legs[0].begin_s - offset_s - now, 0.0)
        reason = f"waits {what}" + (" that should have begun" if is_late else f" in {wait_s:.0f} s")
        at = min(contact.start_s - offset_s, self.contacts.changes_at) if is_late else contact.start_s - offset_s
        if at <= now:  # it has begun, and others' bundles go first: it waits for the link as they do
            at = self.contacts.changes_at
        is_for_all = all(link.neighbour == record.previous_node for link in view.links())
        return Contraindicated(reason, None if at == math.inf else at, is_for_all=is_for_all)

    def _by_static_route(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        decision = self._static.choose_next_hops(record, view, now)
        if isinstance(decision, Forward) or record.destination.node == self._own_node:
            return decision
        back = record.previous_node
        small = structs.replace(record, previous_node=None)
        route = self._finder.search(small, view, 1, now + view.utc_offset_s, is_booked=False).route(0.0, 0)
        if route is None:
            return self._unknown(record, decision, view, now)
        leads_back = back is not None and back in [contact.receiver for contact in route.hops]
        reason = decision.reason if leads_back else f"no way to {record.destination.node.uri} takes it in time"
        return Contraindicated(reason, None, is_for_all=leads_back, leads_back=leads_back or decision.leads_back)

    def _unknown(self, record: BundleRecord, decision: Contraindicated, view: LinkView, now: float) -> Contraindicated:
        """Nothing leads there, or a guess does: whether neighbours get copies."""
        if record.previous_node is not None or self._static.has_route(record.destination.node):
            return decision
        if not self._relays(record, view, now, frozenset()):
            return decision
        if record.size_bytes > SPRAY_MAX_BYTES:
            return replace(decision, is_for_all=False)
        at = record.received_ms / 1000 + SPRAY_AFTER_S - view.utc_offset_s
        if now < at:
            return replace(decision, wake_at=at if decision.wake_at is None else min(at, decision.wake_at))
        return replace(decision, is_for_all=False, may_spray=True)

    def _is_known(self, record: BundleRecord, view: LinkView, now: float) -> bool:
        ways = self._finder.ways(record, view, now)
        return bool(ways) and not _is_guess(ways[0])

    def _spread(self, record: BundleRecord, view: LinkView, now: float, served: frozenset[Eid]) -> Copying:
        """Copies while no way is known; the last one goes when there is one, unless who would get it has one."""
        decision = self.choose_next_hops(record, view, now)
        if isinstance(decision, Forward):
            first = decision.links[0]
            return Copying(() if first.neighbour in served else (first,), None)
        links = self._relays(record, view, now, served) if decision.may_spray else ()
        return Copying(links, decision.wake_at, is_kept=True)

    def _relays(self, record: BundleRecord, view: LinkView, now: float, served: frozenset[Eid]) -> tuple[LinkId, ...]:
        """Links to the neighbours that get a copy now; none to who is silent and could not pass it on."""
        dtn_s = now + view.utc_offset_s
        neighbours = {link.neighbour for link in view.links()} - served
        speaking = [each for each in neighbours if not self.contacts.is_silent(each, dtn_s)]
        left = copies_of(is_made_here=True) - len(served)
        chosen = relays(record.destination.node, left, speaking, self.history.predictabilities, dtn_s)
        return tuple(view.usable_links(each)[0] for each in chosen)

    def _settle(self, record: BundleRecord, decision: Forward, best: Way, view: LinkView, now: float) -> None:
        """Remember a decision that all bundles of the kind share, as long as nothing is queued if that may matter."""
        if decision.volumes_bytes or any(leg.contact.end_s != math.inf for leg in best.legs):
            return
        start_s = now + view.utc_offset_s
        has_others = (
            len(best.links) > 1 or self._finder.remembered(record, view, start_s).route(best.level, 1) is not None
        )
        legs = walk(best.hops, 1 << record.size_bytes.bit_length(), start_s)
        if len(legs) < len(best.legs):
            return
        if len(self._settled) >= REMEMBERED_MAX:
            self._settled.clear()
        margin_s = 0.0 if self._forget_at == math.inf else self._forget_at - now
        watched, backlog_bytes, until = None, 0, math.inf
        if has_others:
            watched = decision.links[0]
            backlog_bytes = view.backlog_bytes(watched, record.precedence)
            if backlog_bytes:
                margin_s += best.arrival_s - start_s
                until = now + SPREAD_S
                backlog_bytes += int(SPREAD_S / seconds_per_byte(self.contacts.live(watched)))
        expiry_min_ms = (legs[-1].arrival_s + margin_s) * 1000
        kind = record.destination, record.previous_node, record.precedence, record.size_bytes.bit_length()
        self._settled[kind] = _Settled(decision, expiry_min_ms, watched, backlog_bytes, until)

    def _chosen_ways(
        self, record: BundleRecord, view: LinkView, now: float, served: frozenset[Eid] = frozenset()
    ) -> list[Way]:
        """Those of all ways that get a copy besides these neighbours, the best one first."""
        best = self._finder.ways(record, view, now)
        if not best:
            return []
        ways = [best[0]]
        neighbours = {best[0].neighbour}
        candidates = self._finder.remembered(record, view, now + view.utc_offset_s)
        for level in LEVELS:
            for way in sorted(
                self._finder.assess(candidates, level, record, view, now + view.utc_offset_s), key=choice_order
            ):
                if way.neighbour not in neighbours:
                    neighbours.add(way.neighbour)
                    ways.append(way)
        return choose_ways(record, ways, served)

    def _refresh_if_due(self, view: LinkView, now: float) -> LinkView:
        base = view.base
        if (
            now >= self._refresh_at
            or base is not self._view
            or base.version != self._version
            or self.plan.version != self._plan_version
        ):
            self._refresh(base, now)
        return base

    def _refresh(self, view: LinkView, now: float) -> None:
        """Look whether something has changed, and forget what it may have made wrong."""
        contacts = self.contacts
        has_changed = contacts.refresh(view, now)
        self._refresh_at = min(contacts.refresh_at, contacts.changes_at)
        if has_changed or now >= self._forget_at or view is not self._view or view.version != self._version:
            self._settled.clear()
            self._finder.forget()
            remembered_s = REMEMBERED_S + len(contacts.graph) / CONTACTS_PER_S
            self._forget_at = math.inf if contacts.is_timeless else now + remembered_s
            self._bookings.drop_ended(now + view.utc_offset_s)
        self._view, self._version, self._plan_version = view, view.version, self.plan.version


def _is_guess(way: Way) -> bool:
    """Whether it waits for what history alone lets expect, and not surely."""
    unsure = not way.is_now and way.confidence < SURE_ENOUGH
    return unsure and any(leg.contact.kind is ContactKind.PREDICTED for leg in way.legs)


def _begin(way: Way) -> float:
    return way.legs[0].begin_s
