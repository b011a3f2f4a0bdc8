# SPDX-License-Identifier: Apache-2.0
"""The node's part in topology advertisements (DESIGN section 3): it makes its own, and takes in and passes on others'.

An advertisement is a bundle to `dtn://meshd/~topology`, a group whose members are all who may sign. It is flooded from
neighbour to neighbour by the group mechanism, but never by way of a route: each node that has the newest one of a node
brings it to every member that is a neighbour and lacks it, now or when it comes up, until it expires or a newer one
takes its place; those whom its bringer reaches by radio are left to that one. So it needs no route, costs one
transmission on a radio net, and reaches who comes later.

PRIORITY lets it pass bulk and routine traffic, hence it gets through congestion, and holds up nothing that is urgent.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from meshd.base.token_bucket import TokenBucket
from meshd.bundle.blocks import BundleFlag
from meshd.bundle.dtn_time import DTN_EPOCH_UNIX_S
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.header import BundleHeader
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleRecord, bundle_id_text, bundle_ref, parse_bundle_id_text
from meshd.link.identity import LinkId
from meshd.link.link_table import Link
from meshd.link.settings import BearerKind, Posture
from meshd.node.bundle_table import Entry, Room
from meshd.node.emission_plans import EmissionPlans
from meshd.node.foresight import Foresight
from meshd.node.forwarding import Forwarding
from meshd.node.origination import originate
from meshd.node.replication import begin
from meshd.node.state import NodeState
from meshd.routing.advertisement import (
    LINKS_MAX,
    PLANNED_MAX,
    TOPOLOGY_ENDPOINT,
    VALID_MAX_S,
    Advertisement,
    LinkNews,
    contacts_of,
    decode_body_untrusted,
    encode_body,
)
from meshd.routing.announcer import PLAN_AHEAD_S, Announcer, valid_s
from meshd.routing.contact import Contact
from meshd.routing.topology import ContactSink, Held, PlanSource, Topology, Verdict
from meshd.security.advertisement import AdvertisementError, sign_advertisement
from meshd.security.boot_number import BootNumberError, choose_boot_number
from meshd.security.signing_peers import SigningFiles

NOTE_PREFIX: Final = "topology/"
BOOT_NOTE: Final = "topology-boot"
CHECKS_PER_S: Final = 50.0
CHECKS_BURST: Final = 1100
"""Signatures checked of what one link brings, a tenth of a millisecond each; more than there can be members at once."""
LEARNED_PAUSE_S: Final = 1.0
"""What several advertisements change is decided at once."""
TELLS_PER_S: Final = 1.0
TELLS_BURST: Final = 20
"""Advertisements that are dropped and told of one by one; the counts go on."""

_UNUSABLE: Final = int(BundleFlag.IS_FRAGMENT) | int(BundleFlag.IS_ADMIN_RECORD)


class Advertising:
    """Owns what all nodes have said last, and this node's own numbers."""

    def __init__(self, state: NodeState, forwarding: Forwarding, now: float) -> None:
        self._state = state
        self._forwarding = forwarding
        self._files: SigningFiles | None = None
        self._announcer = Announcer(state.settings.id)
        self._boot: int | None = None
        self._sequence = 0
        self._silent_until_ms: int | None = None
        self._news_at: float | None = None
        """The router has heard something new: what waits is to be decided anew, once for all that came together."""
        self._checks: dict[LinkId, TokenBucket] = {}
        self._tells = TokenBucket(TELLS_PER_S, TELLS_BURST, now)
        self.topology = Topology()
        self._foresight = Foresight(state, forwarding, now)
        self.plans = EmissionPlans(state, forwarding)

    def configure(self, files: SigningFiles | None, reason: str, now: float) -> None:
        """Sign and check with these keys from now on; None: neither, and `reason` says why. Follow it with an event."""
        self._files = files
        own = self._state.settings.id
        self._state.set_topology_members(frozenset() if files is None else frozenset(files.peers) - {own})
        if files is None:
            self._state.report("topology.off", reason=reason)
        for node in self.topology.valid():
            self._teach(node, now)

    def recover(self, notes: dict[str, bytes], now: float) -> None:
        """Go on where the last run ended: what others said still holds, and no number of ours is used again."""
        state = self._state
        self._foresight.recover(notes, now)
        for name, note in notes.items():
            if name.startswith(NOTE_PREFIX):
                node = parse_eid(name.removeprefix(NOTE_PREFIX))
                state.kept_notes[name] = note
                self.topology.take(node, msgspec.msgpack.decode(note, type=Held))
                self._teach(node, now)
        saved = notes.get(BOOT_NOTE)
        try:
            self._boot = choose_boot_number(None if saved is None else int.from_bytes(saved), self._utc_s(now))
        except BootNumberError:
            if self._files is not None:
                reason = "no boot number is surely new: set the clock, and [node] clock_trusted"
                state.report("topology.mute", reason=reason)

    @property
    def next_at(self) -> float | None:
        """Monotonic time at which to call `look`."""
        if self._files is None:
            return self.plans.next_at
        expiry_ms = self.topology.next_expiry_ms()
        expires_at = None if expiry_ms is None else self._state.monotonic(expiry_ms) + 0.001
        times = (self._news_at, self._announcer.look_at, expires_at, self.plans.next_at)
        return min((at for at in times if at is not None), default=None)

    # Others' advertisements

    def refuses(self, header: BundleHeader, data: bytes, link_id: LinkId, transfer: object, now: float) -> bool:
        """One has arrived: take it over, or deal with its transfer, and True."""
        state, node = self._state, header.source
        bucket = self._checks.get(link_id)
        if bucket is None:
            bucket = self._checks[link_id] = TokenBucket(CHECKS_PER_S, CHECKS_BURST, now)
        if self._files is not None and not bucket.take(now):
            state.refuse(link_id, transfer, "too many advertisements at a time: later", retriable=True)
            return True
        reason = self._take_untrusted(header, data, now)
        if not reason:
            return False
        state.accept(link_id, transfer)
        if self._tells.take(now):
            bundle = bundle_ref(header.id)
            state.report("topology.dropped", bundle=bundle, node=node.uri, link=str(link_id), reason=reason)
        return True

    def _take_untrusted(self, header: BundleHeader, data: bytes, now: float) -> str:
        """Why it is dropped; empty when it is taken over."""
        if self._files is None:
            return "advertisements are off here"
        if header.flags & _UNUSABLE:
            return "an advertisement is neither a fragment nor an administrative record"
        state, node, bundle = self._state, header.source, bundle_id_text(header.id)
        payload = data[header.payload_offset : header.payload_offset + header.payload_size]
        verdict, reason, envelope, said = self.topology.check_untrusted(
            node, bundle, payload, self._files.peers, self._utc_s(now)
        )
        if node == state.settings.id and verdict is Verdict.TAKEN:
            return "it is this node's own, of a state that is lost"
        if verdict is not Verdict.TAKEN or envelope is None or said is None:
            return reason
        expiry_ms = state.dtn_ms(now) + said.valid_s * 1000
        if said.issued_s and state.has_clock:
            expiry_ms = min(expiry_ms, (said.issued_s + said.valid_s) * 1000)
        self._hold(node, Held(envelope.boot, envelope.sequence, bundle, expiry_ms, envelope.body))
        self._foresight.hear(node, said.likely, now)
        self._tell_router(node, said, now)
        state.report("topology.learned", node=node.uri, links=len(said.links), planned=len(said.planned))
        return ""

    def is_newest(self, record: BundleRecord) -> bool:
        """Whether a bundle to the group is worth passing on."""
        held = self.topology.get(record.id.source)
        return held is not None and held.bundle == bundle_id_text(record.id)

    def spare(self, entry: Entry) -> None:
        """Members that whoever brought it reaches by radio are left to it: that saves a transmission for each."""
        record, members = entry.record, self._state.groups.get(TOPOLOGY_ENDPOINT)
        held = None if record.previous_node is None else self.topology.get(record.previous_node)
        if held is None or record.previous_node is None or entry.header is None or not members:
            return
        try:
            said = decode_body_untrusted(held.body, record.previous_node)
        except AdvertisementError:  # it holds no more
            return
        by_radio = [link for link in said.links if link.kind is not BearerKind.TERRESTRIAL and not link.begins_s]
        entry.copies = entry.copies or begin(record, members, self._state.settings.id)
        entry.copies.left -= {link.neighbour for link in by_radio}

    def _hold(self, node: Eid, held: Held) -> None:
        """The newest of its node; the bundle of the one before need not go any further."""
        state, before = self._state, self.topology.get(node)
        self.topology.take(node, held)
        self._note(node, held)
        if before is None or before.bundle == held.bundle:
            return
        entry = state.table.get(parse_bundle_id_text(before.bundle))
        if entry is not None:
            self._forwarding.withdraw(entry)
            state.delete(entry)

    def _note(self, node: Eid, held: Held) -> None:
        self._state.keep_note(f"{NOTE_PREFIX}{node.uri}", msgspec.msgpack.encode(held))

    def _teach(self, node: Eid, now: float) -> None:
        """Tell the router what a node said that still holds."""
        held = self.topology.get(node)
        if held is None or not held.body or node == self._state.settings.id:
            return
        try:
            said = decode_body_untrusted(held.body, node)
        except AdvertisementError:  # what another version of this program took
            return
        self._tell_router(node, said, now)

    def _tell_router(self, node: Eid, said: Advertisement, now: float) -> None:
        self.plans.hear(node, said.plan if said.issued_s else None, now)
        router = self._forwarding.router
        if isinstance(router, ContactSink):
            router.learn(node, contacts_of(node, said, self._state.dtn_ms(now) / 1000), now)
            self._news_at = now
            self._forwarding.review(now + LEARNED_PAUSE_S, now)

    def _expire(self, now: float) -> None:
        router = self._forwarding.router
        for node in self.topology.expire(self._state.dtn_ms(now)):
            held = self.topology.get(node)
            assert held is not None, "it has expired just now"
            self._note(node, held)
            self.plans.forget(node, now)
            if isinstance(router, ContactSink):
                router.forget(node)
                self._news_at = now
            self._state.report("topology.forgotten", node=node.uri)

    # Our own

    def postures_changed(self, silent_until_ms: int | None) -> None:
        """The order in force has this end, in DTN time; None: no end is known."""
        self._silent_until_ms = silent_until_ms

    def look(self, now: float) -> None:
        """Links, postures or the time have changed: forget what holds no more, and advertise if that is due."""
        self._foresight.look(now)
        self._expire(now)
        self.plans.look(now)
        if self._news_at is not None:
            self._news_at = None
            self._forwarding.reconsider(now)
        if self._files is None or self._boot is None:
            return
        links, planned = self._own_links(now), self._planned(now)
        if self._announcer.is_due(links, planned, now, self.plans.own(now)):
            self._advertise(self._files, links, planned, now)

    def _advertise(
        self, files: SigningFiles, links: Sequence[LinkNews], planned: Sequence[Contact], now: float
    ) -> None:
        state, own = self._state, self._state.settings.id
        assert self._boot is not None, "without a boot number nothing is advertised"
        self._sequence += 1
        issued_s = state.dtn_ms(now) // 1000 if state.has_clock else 0
        to_come = (*planned, *self._foresight.contacts()) if issued_s else ()
        likely = tuple(self._foresight.likely(now))
        plan, holds_s = self.plans.own(now), valid_s(links, self.plans.quiet_s(now))
        body = encode_body(Advertisement(issued_s, holds_s, tuple(links), to_come, likely, plan))
        entry = originate(
            state,
            own,
            TOPOLOGY_ENDPOINT,
            sign_advertisement(files.key, own, self._boot, self._sequence, body),
            now,
            lifetime_ms=holds_s * 1000,
            precedence=Precedence.PRIORITY,
            flags=BundleFlag.MUST_NOT_FRAGMENT,
        )
        self._announcer.told(links, planned, now, plan)
        record = entry.record
        if not state.has_place_for_ids() or not state.table.has_room(record.size_bytes, record.precedence, Room.ONWARD):
            return
        if self._sequence == 1:
            state.keep_note(BOOT_NOTE, self._boot.to_bytes(4))
        bundle = bundle_id_text(record.id)
        self._hold(own, Held(self._boot, self._sequence, bundle, record.expiry_ms, body))
        state.add(entry)
        state.report("topology.advertised", links=len(links), planned=len(planned), size_bytes=record.size_bytes)

    def _own_links(self, now: float) -> list[LinkNews]:
        """Those that carry something now, or will after a silence whose end is known; the best first."""
        links = [link for link in self._state.links.links() if link.is_up]
        news = [each for link in links if (each := self._news(link, now)) is not None]
        return sorted(news, key=lambda each: (each.begins_s, -each.rate_bps, each.neighbour.uri))[:LINKS_MAX]

    def _news(self, link: Link, now: float) -> LinkNews | None:
        state, metric, begins_s = self._state, link.metric, 0.0
        if state.links.posture(link.id.bearer) is not Posture.OPEN:
            if self._silent_until_ms is None:
                return None
            begins_s = max(1.0, (self._silent_until_ms - state.dtn_ms(now)) / 1000)
            if begins_s >= VALID_MAX_S:
                return None
        return LinkNews(
            link.id.neighbour,
            link.bearer.kind,
            link.bearer.radiating,
            max(1, round(metric.rate_bps)),
            metric.owd_s,
            metric.loss,
            metric.availability(now),
            begins_s,
        )

    def _planned(self, now: float) -> list[Contact]:
        """The part of the plan in which this node sends; of no use to others without a clock."""
        state, router = self._state, self._forwarding.router
        if not state.has_clock or not isinstance(router, PlanSource):
            return []
        from_s = state.dtn_ms(now) / 1000
        own = state.settings.id
        return list(router.planned(own, from_s, from_s + PLAN_AHEAD_S))[:PLANNED_MAX]

    def _utc_s(self, now: float) -> int | None:
        state = self._state
        return state.dtn_ms(now) // 1000 + DTN_EPOCH_UNIX_S if state.has_clock else None
