# SPDX-License-Identifier: Apache-2.0
"""A bundle to one node of which routing wants several copies: which neighbours have one, and where else one has to go.

This node keeps the bundle until every copy that is wanted has been taken, or its destination has one. Where copies were
sprayed since no way was known, it keeps the last one until there is a way. A restart forgets who has one already; who
still has it when it is offered again drops it as a duplicate.
"""

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleRecord
from meshd.link.identity import LinkId
from meshd.node.replication import Copies
from meshd.routing.decision import LinkView, Router


class FurtherCopies(Copies):
    """`left` holds the neighbours that a copy is queued for, and the destination while one more is to go later."""

    __slots__ = ("_destination", "_is_kept", "_last", "served")

    is_noteworthy = False

    def __init__(self, destination: Eid) -> None:
        super().__init__((), is_delivered=True)
        self._destination = destination
        self.served: set[Eid] = set()
        """Neighbours that have taken one."""
        self._is_kept = False
        """They were sprayed."""
        self._last: set[LinkId] = set()
        """Where the one that was kept is queued."""

    def plan(self, record: BundleRecord, router: Router, links: LinkView, now: float) -> tuple[list[LinkId], str]:
        """Links on which one more copy has to be queued now, and what is waited for."""
        out = frozenset(self.served.union(*self.links.values()))
        copying = router.choose_copies(record, links, now, out, is_kept=self._is_kept)
        if self._is_kept and not copying.is_kept:
            self._last.update(copying.links)
        self._is_kept = self._is_kept or copying.is_kept
        for link in copying.links:
            self.links[link] = {link.neighbour}
            self.left.add(link.neighbour)
        self.later = copying.later
        if self.later is None and not copying.is_kept:
            self.left.intersection_update(*[set().union(*self.links.values())])
            return list(copying.links), ""
        self.left.add(self._destination)
        return list(copying.links), "no way is known" if copying.is_kept else "one more copy can go later"

    def narrow_links(self, record: BundleRecord, router: Router, links: LinkView, now: float) -> dict[LinkId, set[Eid]]:
        """Copies go whole."""
        return {}

    def taken(self, link: LinkId) -> None:
        """The neighbour has a copy; if it is the destination, nobody else needs one."""
        super().taken(link)
        self.served.add(link.neighbour)
        if link.neighbour == self._destination or link in self._last:
            self.left.clear()

    def release(self, link: LinkId) -> None:
        """The copy is not on this link any more."""
        self.left -= self.links.get(link, set())
        self._last.discard(link)
        super().release(link)

    @property
    def may_return(self) -> bool:
        """Its destination has none yet."""
        return self._destination not in self.served

    @property
    def is_idle(self) -> bool:
        """Nobody has a copy or is about to get one: it is to be decided as if it never had been more than one."""
        return not (self.served or self.links or (self.later is not None and not self._is_kept))
