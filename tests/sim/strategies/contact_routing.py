# SPDX-License-Identifier: Apache-2.0
"""meshd's own router in the simulation of bundles alone: what its agent does with a decision, without the agent.

Bundles stand in queues by link and precedence, as many as the link carries before it ends; a link that comes or goes
has everything decided anew, as does the time that a decision names. Nodes that have no plan remember whom they met, and
tell each other when they meet, as their advertisements would.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec import structs

from meshd.bundle.codec import HOP_LIMIT_DEFAULT as HOP_LIMIT
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.link.identity import LinkId
from meshd.link.metric import LinkMetric, seeded
from meshd.routing.contact import Contact
from meshd.routing.contact_router import ContactRouter
from meshd.routing.decision import Forward, LinkView, Router
from meshd.routing.history import HistoryUser
from tests.sim.contact_mesh import Strategy
from tests.sim.scenario import Load, Scenario

UTC_OFFSET_S = 820_000_000.0
RETRY_S = 0.5
EXACT_S = 1e-3
"""Times are sums of floats."""


class SimLinks:
    """The links of one node. Implements `LinkView`."""

    def __init__(self) -> None:
        self.version = 0
        self.up: dict[LinkId, Contact] = {}
        self.queues: dict[LinkId, dict[int, Load]] = {}
        self.on_air: dict[LinkId, Load] = {}

    @property
    def base(self) -> LinkView:
        """Nothing is left out."""
        return self

    @property
    def utc_offset_s(self) -> float:
        """Of virtual time."""
        return UTC_OFFSET_S

    def links(self) -> Sequence[LinkId]:
        """Those that are up."""
        return list(self.up)

    def is_open(self, bearer: str) -> bool:
        """No orders here."""
        return True

    def radiates(self, bearer: str) -> bool:
        """Nobody listens."""
        return False

    def backlog_bytes(self, link: LinkId, precedence: int) -> int:
        """What is queued at this precedence or above, and what is on the air."""
        queued = self.queues.get(link, {}).values()
        on_air = self.on_air.get(link)
        return sum(load.size_bytes for load in queued if load.precedence >= precedence) + (
            on_air.size_bytes if on_air is not None else 0
        )

    def usable_links(self, neighbour: Eid) -> Sequence[LinkId]:
        """Fastest first."""
        links = [link for link in self.up if link.neighbour == neighbour]
        return sorted(links, key=lambda link: (-self.up[link].rate_bps, link.bearer))

    def is_neighbour(self, node: Eid) -> bool:
        """Every node may meet every other."""
        return True

    def volume_bytes(self, link: LinkId) -> int | None:
        """Links come and go unannounced."""
        return None

    def metric(self, link: LinkId) -> LinkMetric | None:
        """As it is."""
        contact = self.up.get(link)
        return None if contact is None else seeded(contact.rate_bps, contact.owd_s)


class _Held:
    """A bundle here."""

    def __init__(self, load: Load, record: BundleRecord) -> None:
        self.load = load
        self.record = record
        self.links: set[LinkId] = set()
        """Queued or on the air there."""
        self.served: set[Eid] = set()
        """Neighbours that have a copy."""
        self.ask_at: float | None = None
        self.ends_s: dict[LinkId, float] = {}
        """When the link that it was queued for first is expected to end."""
        self.more_at: float | None = None
        """When one more copy can go."""
        self.is_copied = False
        """Several copies were wanted."""
        self.is_kept = False
        """Copies were sprayed; the last one waits for a way."""
        self.last: set[LinkId] = set()
        """Where that one is queued or on the air."""


class ContactRouting:
    """One node. Implements `Strategy`."""

    def __init__(
        self, node: Eid, scenario: Scenario, make_router: Callable[[Eid, Scenario], Router], *, learns: bool = False
    ) -> None:
        self.node = node
        self._learns = learns
        self.router = make_router(node, scenario)
        self.links = SimLinks()
        self._held: dict[int, _Held] = {}
        self._numbers: dict[BundleId, int] = {}
        self._visits: Counter[int] = Counter()
        """How often each bundle came: what is bounded by the hop count elsewhere."""
        self._rank = scenario.nodes.index(node)
        self._now = 0.0

    # Strategy

    def begins(self, contact: Contact, peer: Strategy, now: float) -> None:
        """A link comes up."""
        self.links.version += 1
        self.links.up[_link(contact)] = contact
        if self._learns:
            self._meet(contact, peer, UTC_OFFSET_S + now)
        self._reconsider(now)

    def ends(self, contact: Contact, now: float) -> None:
        """A link goes down; what is on the air is lost with it (`failed` follows)."""
        link = _link(contact)
        self.links.version += 1
        del self.links.up[link]
        if self._learns and isinstance(self.router, HistoryUser):
            history, dtn_s = self.router.history, UTC_OFFSET_S + now
            history.link_down(link, dtn_s)
            self.router.predict(history.encounters.predicted(dtn_s))
        for number in self.links.queues.pop(link, {}):
            self._held[number].links.discard(link)
        self._reconsider(now)

    def take(self, load: Load, contact: Contact | None, now: float) -> bool:
        """A bundle that is not here, whether or not it was before; one on its way to a relay is refused for now."""
        here = self._held.get(load.number)
        if here is not None:
            return self._brought_again(here, contact)
        self._visits[load.number] += 1
        if self._visits[load.number] > HOP_LIMIT:
            return True
        record = _record(load, contact, now)
        held = self._held[load.number] = _Held(load, record)
        self._numbers[record.id] = load.number
        self._decide(held, now)
        self._displaced(now)
        return True

    def _brought_again(self, held: _Held, contact: Contact | None) -> bool:
        load = held.load
        on_air = [link for link in held.links if self.links.on_air.get(link) is load]
        if any(link.neighbour != load.destination for link in on_air):
            return False
        if contact is not None and held.is_copied:
            held.record = structs.replace(held.record, previous_node=contact.sender)
        held.served.clear()
        return True

    def next_for(self, contact: Contact, now: float) -> Load | None:
        """The most urgent one in the link's queue, then what expires first."""
        link = _link(contact)
        queue = self.links.queues.get(link, {})
        for load in sorted(queue.values(), key=lambda each: (-each.precedence, each.expiry_s)):
            end_s = self._held[load.number].ends_s.get(link, math.inf)
            if now + load.size_bytes * 8 / contact.rate_bps > end_s + EXACT_S:
                continue
            del queue[load.number]
            if load.expiry_s > now:
                self.links.on_air[link] = load
                return load
            self._forget(self._held[load.number])
        return None

    def sent(self, contact: Contact, load: Load, now: float) -> None:
        """The neighbour has it: unless copies are still to go, it is gone from here."""
        link = _link(contact)
        held = self._held.get(load.number)
        if self.links.on_air.get(link) is load:
            del self.links.on_air[link]
        if held is None:
            return
        held.links.discard(link)
        held.served.add(contact.receiver)
        is_over = not held.links and held.more_at is None and (not held.is_kept or link in held.last)
        if contact.receiver == load.destination or is_over:
            self._let_go(held)  # what is booked for it further on stays booked

    def failed(self, contact: Contact, load: Load, now: float) -> None:
        """Decide anew."""
        link = _link(contact)
        if self.links.on_air.get(link) is load:
            del self.links.on_air[link]
        held = self._held.get(load.number)
        if held is not None:
            held.links.discard(link)
            if not held.links:
                self._decide(held, now)
                self._displaced(now)

    def refused(self, contact: Contact, load: Load, now: float) -> None:
        """Once more after a pause, which is another at each node."""
        link = _link(contact)
        if self.links.on_air.get(link) is load:
            del self.links.on_air[link]
        held = self._held[load.number]
        held.links.discard(link)
        held.ask_at = now + RETRY_S * (2 + self._rank)

    def holds(self, load: Load) -> bool:
        """It is still here."""
        return load.number in self._held

    def get_timer(self) -> float | None:
        """The first time that a decision named."""
        times = [at for held in self._held.values() for at in (held.ask_at, held.more_at) if at is not None]
        return min(times, default=None)

    def handle_timer(self, now: float) -> None:
        """Ask again."""
        due = [held for held in self._held.values() if held.ask_at is not None and held.ask_at <= now]
        for held in due:
            self._withdraw(held)
            self._decide(held, now)
        for held in [held for held in self._held.values() if held.more_at is not None and held.more_at <= now]:
            self._copy(held, now)
        self._displaced(now)

    # What the agent does

    def _meet(self, contact: Contact, peer: Strategy, dtn_s: float) -> None:
        """It hears from the peer, over the contact that comes back, whom that one is likely to meet and expects."""
        assert isinstance(peer, ContactRouting), "all nodes of a mesh have the same strategy"
        mine, theirs = self.router, peer.router
        assert isinstance(mine, ContactRouter)
        assert isinstance(theirs, ContactRouter)
        mine.history.link_up(_link(contact), contact.rate_bps, contact.owd_s, dtn_s, radiates=False)
        mine.hear(peer.node, theirs.history.table(dtn_s), dtn_s)
        mine.learn(peer.node, theirs.history.encounters.predicted(dtn_s), dtn_s - UTC_OFFSET_S)
        mine.predict(mine.history.encounters.predicted(dtn_s))

    def _reconsider(self, now: float) -> None:
        """All that is queued or waits."""
        for held in list(self._held.values()):
            self._withdraw(held)
        for held in list(self._held.values()):
            if not held.links:
                self._decide(held, now)
        self._displaced(now)

    def _decide(self, held: _Held, now: float) -> None:
        held.ask_at = held.more_at = None
        if held.load.expiry_s <= now:
            self._forget(held)
        elif held.served:
            self._copy(held, now)
        else:
            decision = self.router.choose_next_hops(held.record, self.links, now)
            if isinstance(decision, Forward):
                held.ends_s = {} if decision.until is None else {decision.links[0]: decision.until}
                held.ask_at = decision.until
                link = self._link_with_room(held.load, decision)
                if link is not None:
                    self._queue(held, link)
                if decision.needs_copies:
                    self._copy(held, now)
            elif decision.may_spray:
                self._copy(held, now)
            else:
                held.ask_at = decision.wake_at
        if held.ask_at is not None:
            held.ask_at = max(held.ask_at, now + 0.001)

    def _link_with_room(self, load: Load, decision: Forward) -> LinkId | None:
        for link in decision.links:
            room_bytes = decision.volumes_bytes.get(link)
            if room_bytes is None or load.size_bytes <= room_bytes - self.links.backlog_bytes(link, load.precedence):
                return link
        return None

    def _copy(self, held: _Held, now: float) -> None:
        """Where else it goes."""
        out = frozenset(held.served | {link.neighbour for link in held.links})
        copying = self.router.choose_copies(held.record, self.links, now, out, is_kept=held.is_kept)
        held.last = {
            *held.last.intersection(held.links),
            *(copying.links if held.is_kept and not copying.is_kept else ()),
        }
        held.is_kept = held.is_kept or copying.is_kept
        held.is_copied = True
        for link in copying.links:
            self._queue(held, link)
        held.more_at = None if copying.later is None else max(copying.later, now + 0.001)
        if held.served and not held.links and held.more_at is None and not copying.is_kept:
            self._forget(held)

    def _queue(self, held: _Held, link: LinkId) -> None:
        held.links.add(link)
        self.links.queues.setdefault(link, {})[held.load.number] = held.load

    def _withdraw(self, held: _Held) -> None:
        """Out of the queues; what is on the air stays there."""
        for link in list(held.links):
            if self.links.queues.get(link, {}).pop(held.load.number, None) is not None:
                held.links.discard(link)

    def _displaced(self, now: float) -> None:
        while displaced := self.router.take_displaced():
            for bundle in displaced:
                number = self._numbers.get(bundle)
                held = self._held.get(number) if number is not None else None
                if held is not None:
                    self._withdraw(held)
                    if not held.links:
                        self._decide(held, now)

    def _forget(self, held: _Held) -> None:
        self._let_go(held)
        self.router.release(held.record.id)

    def _let_go(self, held: _Held) -> None:
        self._withdraw(held)
        self._held.pop(held.load.number, None)
        self._numbers.pop(held.record.id, None)


def _link(contact: Contact) -> LinkId:
    return LinkId(contact.bearer, contact.receiver)


def _record(load: Load, contact: Contact | None, now: float) -> BundleRecord:
    created_ms = round((UTC_OFFSET_S + load.created_s) * 1000)
    return BundleRecord(
        BundleId(load.source, created_ms, load.number),
        load.destination,
        load.precedence,
        round((UTC_OFFSET_S + load.expiry_s) * 1000),
        round((UTC_OFFSET_S + now) * 1000),
        load.size_bytes,
        0,
        False,
        None if contact is None else contact.sender,
        None,
        False,
        PayloadRef(0, 0, load.size_bytes),
    )
