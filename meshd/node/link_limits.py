# SPDX-License-Identifier: Apache-2.0
"""Bundles that not every link takes: because of their size, or because the link ends before it could carry them.

Says what becomes of such a bundle; doing it is the forwarding's work.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from meshd.bundle.record import BundleRecord
from meshd.link.identity import LinkId
from meshd.link.link_table import LinkTable
from meshd.node.fragmentation import Fragmentation
from meshd.node.outqueue import OutQueue
from meshd.node.route_view import RouteView, ViewForSize
from meshd.routing.decision import Forward, Router

FRAGMENT_MIN_BYTES: Final = 256
"""A link that ends before it could carry so much gets nothing: most of it would be blocks."""


class Room(NamedTuple):
    """What a link takes at most."""

    size_max_bytes: int
    """Of any bundle."""
    left_bytes: int
    """Of one that is queued now, before the link ends; not above the other."""


class LinkLimits:
    """Chooses a link, or sizes of fragments."""

    def __init__(
        self,
        links: LinkTable,
        view: RouteView,
        fragmentation: Fragmentation,
        queue: Callable[[LinkId], OutQueue],
    ) -> None:
        """`queue` gives the out-queue of a link."""
        self._view = view
        self._links = links
        self._fragmentation = fragmentation
        self._queue = queue

    def place(self, record: BundleRecord, decision: Forward, router: Router, now: float) -> LinkId | Room | str:
        """The first of the links that takes it whole; or else how to cut it, for the first link that can carry a piece
        worth its while; or else a link of a way round; or else why it has to wait.
        """
        precedence = record.precedence
        rooms = [self._room(link_id, decision, precedence) for link_id in decision.links]
        for link_id, room in zip(decision.links, rooms, strict=True):
            if record.size_bytes <= room.left_bytes:
                return link_id
        if self._fragmentation.may_cut(record):
            for room in rooms:
                if room.left_bytes >= min(FRAGMENT_MIN_BYTES, room.size_max_bytes):
                    return room
        view = self.view(record)
        way_round = router.choose_next_hops(record, view, now)
        if isinstance(way_round, Forward):
            for link_id in way_round.links:
                if record.size_bytes <= self._room(link_id, way_round, precedence).left_bytes:
                    return link_id
        return self._why_not(record, decision.links[0], rooms[0])

    def view(self, record: BundleRecord) -> ViewForSize:
        """The links that take it whole, and now."""
        size_bytes, limit = record.size_bytes + self._fragmentation.growth_bytes, self._links.transfer_mtu_bytes
        floor, precedence = self._links.floor, self._links.standing(record.id, record.precedence)
        return ViewForSize(
            self._view,
            lambda link_id: limit(link_id) >= size_bytes and floor(link_id.bearer) <= precedence,
            self._view.for_precedence(precedence).is_open,
        )

    def _room(self, link_id: LinkId, decision: Forward, precedence: int) -> Room:
        queue = self._queue(link_id)
        volume_bytes = decision.volumes_bytes.get(link_id)
        if volume_bytes is None:
            return Room(queue.size_limit_bytes, queue.size_limit_bytes)
        left_bytes = volume_bytes - queue.bytes_from(precedence) - self._fragmentation.growth_bytes
        return Room(queue.size_limit_bytes, min(queue.size_limit_bytes, left_bytes))

    def _why_not(self, record: BundleRecord, link_id: LinkId, room: Room) -> str:
        if not self._fragmentation.may_cut(record) and record.size_bytes > room.size_max_bytes:
            return f"it must not be fragmented, and {link_id} takes at most {room.size_max_bytes} bytes"
        return f"{link_id} ends before it could carry more than {max(room.left_bytes, 0)} bytes of it"
