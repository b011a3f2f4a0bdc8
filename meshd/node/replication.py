# SPDX-License-Identifier: Apache-2.0
"""Bundles to a group endpoint: which members are left, over which links copies go, and what a restart has to know.

Each node that has the bundle brings it to every member but itself, the source and whoever brought it; a copy that the
next hop has taken counts for all members that it was sent for. Members whom the only way leads back to are the
business of whoever brought it, unless there was a way once: then they were entrusted to this node, and wait. The
duplicate memory ends what goes around; one that comes back from whom members were entrusted to is taken for these.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import structs

from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.record import BundleId, BundleRecord, bundle_id_text
from meshd.link.identity import LinkId
from meshd.routing.advertisement import TOPOLOGY_ENDPOINT
from meshd.routing.decision import Contraindicated, Forward, LinkView, Router

NOTE_PREFIX: Final = "copies/"


class _Note(msgspec.Struct, array_like=True):
    """What the store keeps of a group's bundle."""

    is_delivered: bool
    left: list[str]


class Copies:
    """Where one bundle to a group still has to go."""

    __slots__ = (
        "cutting",
        "entrusted",
        "is_delivered",
        "is_flooded",
        "is_noted",
        "later",
        "left",
        "links",
        "reachable",
        "refused",
    )

    is_noteworthy = True
    """Whether a restart has to know of it."""

    def __init__(self, left: Iterable[Eid], *, is_delivered: bool, is_flooded: bool = False) -> None:
        self.left = set(left)
        """Members for whom no next hop has taken a copy."""
        self.is_delivered = is_delivered
        """An application here has confirmed it, or this node is no member."""
        self.is_flooded = is_flooded
        """It goes to neighbours only: whoever has it waits for members to become that, whatever routes there are."""
        self.links: dict[LinkId, set[Eid]] = {}
        """Where a copy is queued, under way or refused for a while, and the members that it is for."""
        self.refused: set[LinkId] = set()
        self.cutting: set[Eid] = set()
        """Members for whom fragments of it are being made."""
        self.entrusted: set[Eid] = set()
        """Members that somebody else has taken a copy for."""
        self.reachable: set[Eid] = set()
        """Members to whom there was a way that does not lead back."""
        self.is_noted = False
        self.later: float | None = None
        """Monotonic time from which one more can go."""

    @property
    def may_return(self) -> bool:
        """Whether it has to be taken again when all copies are gone and one comes back."""
        return False

    def taken(self, link: LinkId) -> None:
        """The neighbour has a copy."""
        members = self.links.pop(link, set())
        self.entrusted |= members - {link.neighbour}
        self.left -= members
        self.left.discard(link.neighbour)
        self.refused.discard(link)

    def leave_out(self, link: LinkId) -> None:
        """The copy is not worth sending over this link: its members go without."""
        self.left -= self.links.get(link, set())
        self.release(link)

    def release(self, link: LinkId) -> None:
        """The copy is not on this link any more: its members are to be decided anew."""
        self.links.pop(link, None)
        self.refused.discard(link)

    def release_refused(self) -> None:
        """Time to ask again."""
        for link in list(self.refused):
            self.release(link)

    def plan(self, record: BundleRecord, router: Router, links: LinkView, now: float) -> tuple[list[LinkId], str]:
        """Choose for the members without a copy: links on which one has to be queued now, and why others wait."""
        busy = self.cutting.union(*self.links.values())
        fresh: list[LinkId] = []
        reason = ""
        for member in sorted(self.left - busy, key=str):
            decision = self._choose(member, record, router, links, now)
            if isinstance(decision, Forward):
                self.reachable.add(member)
                link = self._shared_link(decision)
                if link not in self.links:
                    self.links[link] = set()
                    fresh.append(link)
                self.links[link].add(member)
            elif decision.leads_back and member not in self.reachable:
                self.left.discard(member)
            else:
                reason = decision.reason
        return fresh, reason

    def _shared_link(self, decision: Forward) -> LinkId:
        """One that has a copy already if it leads to the same neighbour: members behind it share a transmission."""
        first = decision.links[0]
        if first in self.links:
            return first
        same = (link for link in decision.links if link in self.links and link.neighbour == first.neighbour)
        return next(same, first)

    def narrow_links(self, record: BundleRecord, router: Router, links: LinkView, now: float) -> dict[LinkId, set[Eid]]:
        """Links that don't take the bundle whole, to members whom no other link leads to."""
        narrow: dict[LinkId, set[Eid]] = {}
        if self.is_flooded:
            return narrow
        for member in sorted(self.left.difference(*self.links.values()), key=str):
            decision = router.choose_next_hops(structs.replace(record, destination=member), links, now)
            if isinstance(decision, Forward) and decision.links[0] not in self.links:
                narrow.setdefault(decision.links[0], set()).add(member)
        return narrow

    def _choose(
        self, member: Eid, record: BundleRecord, router: Router, links: LinkView, now: float
    ) -> Forward | Contraindicated:
        if not self.is_flooded:
            return router.choose_next_hops(structs.replace(record, destination=member), links, now)
        usable = links.usable_links(member)
        return Forward((usable[0],)) if usable else Contraindicated("(not neighbours now)", None)

    def note(self) -> bytes:
        """For the store."""
        self.is_noted = True
        return msgspec.msgpack.encode(_Note(self.is_delivered, sorted(member.uri for member in self.left)))


def note_key(bundle: BundleId) -> str:
    """Where the store keeps the note."""
    return NOTE_PREFIX + bundle_id_text(bundle)


def begin(record: BundleRecord, members: frozenset[Eid], own_node: Eid) -> Copies:
    """A bundle to a group is here for the first time."""
    done = {own_node, record.id.source.node, record.previous_node}
    is_flooded = record.destination == TOPOLOGY_ENDPOINT
    return Copies(members - done, is_delivered=own_node not in members, is_flooded=is_flooded)


def resume(record: BundleRecord, notes: Mapping[str, bytes]) -> Copies | None:
    """After a restart: what the note says; None when nothing had happened yet."""
    data = notes.get(note_key(record.id))
    if not data:
        return None
    note = msgspec.msgpack.decode(data, type=_Note)
    is_flooded = record.destination == TOPOLOGY_ENDPOINT
    copies = Copies(map(parse_eid, note.left), is_delivered=note.is_delivered, is_flooded=is_flooded)
    copies.is_noted = True
    return copies
