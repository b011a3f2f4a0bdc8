# SPDX-License-Identifier: Apache-2.0
"""What waits for one destination in one precedence: bundles not begun, and objects that may send symbols.

Bundles are put together only when the link is ready for them, so that a queue gives large objects and an idle link
small ones. On an idle link a small bundle waits COMPANY_S for company, an urgent one not at all.
"""

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Final

from meshd.bundle.precedence import Precedence
from meshd.cl.fountain.object_format import BUNDLE_HEAD_BYTES, BUNDLES_MAX, Chunks, head_bytes
from meshd.cl.fountain.outgoing_object import BundleKey, OutgoingObject
from meshd.cl.fountain.peer import Peer

COMPANY_S: Final = 0.02

PeerOf = Callable[[int], Peer]
"""The node of an index."""


class Waiting:
    """A bundle that was not begun."""

    __slots__ = ("chunks", "expires_at", "key", "nodes", "queued_at", "size_bytes", "tier")

    def __init__(
        self,
        key: BundleKey,
        chunks: Chunks,
        size_bytes: int,
        expires_at: float,
        queued_at: float,
        node: int,
        tier: int | None = None,
    ) -> None:
        self.key = key
        self.chunks = chunks
        self.size_bytes = size_bytes
        self.expires_at = expires_at
        self.queued_at = queued_at
        self.nodes = [node]
        """For whom it is; more than one on a multicast bearer only. Empty: cancelled."""
        self.tier = tier
        """Of a live bundle."""


class Lane:
    """One destination in one precedence."""

    def __init__(self, precedence: int, scope: int, seconds_per_byte: float) -> None:
        self.precedence = precedence
        self.scope = scope
        """The destination: a node's index, or -1 for all of a multicast bearer."""
        self.seconds_per_byte = seconds_per_byte
        """Of the bearer."""
        self._waiting: deque[Waiting] = deque()
        self.waiting_bytes = 0
        self._ready: list[tuple[int, OutgoingObject]] = []

    @property
    def first_nodes(self) -> Sequence[int]:
        """For whom the first bundle is that waits."""
        return self._waiting[0].nodes if self._waiting else ()

    def add(self, waiting: Waiting) -> None:
        """A further bundle."""
        self._waiting.append(waiting)
        self.waiting_bytes += waiting.size_bytes

    def put_first(self, waiting: Waiting) -> None:
        """This one goes before all others that wait here."""
        self._waiting.remove(waiting)
        self._waiting.appendleft(waiting)

    def cancel(self, waiting: Waiting) -> None:
        """Nobody is to get this one any more."""
        self._waiting.remove(waiting)
        self.waiting_bytes -= waiting.size_bytes

    def opens_at(self, full_bytes: float) -> float | None:
        """When an object may be opened, at the latest; None: nothing waits."""
        if not self._waiting:
            return None
        is_prompt = self.precedence >= Precedence.FLASH or self.waiting_bytes >= full_bytes
        return float("-inf") if is_prompt else self._waiting[0].queued_at + COMPANY_S

    def late(self, peer_of: PeerOf, now: float) -> Sequence[Waiting]:
        """Those that would come too late if they left now."""
        del peer_of, now
        return ()

    def take_bundles(self, room_bytes: int) -> list[Waiting]:
        """The first bundle, however large, and those behind it for the same nodes that fit with it into an object."""
        first = self._take()
        taken = [first]
        room_bytes -= head_bytes(len(first.nodes)) + BUNDLE_HEAD_BYTES + first.size_bytes
        while self._waiting and len(taken) < BUNDLES_MAX:
            following = self._waiting[0]
            room_bytes -= BUNDLE_HEAD_BYTES + following.size_bytes
            if room_bytes < 0 or following.nodes != first.nodes:
                break
            taken.append(self._take())
        return taken

    def _take(self) -> Waiting:
        waiting = self._waiting.popleft()
        self.waiting_bytes -= waiting.size_bytes
        return waiting

    def make_ready(self, item: OutgoingObject) -> None:
        """This object may send."""
        if not item.is_ready:
            item.is_ready = True
            heappush(self._ready, (self._rank(item), item))

    def _rank(self, item: OutgoingObject) -> int:
        """The least goes first: the oldest."""
        return item.number

    def next_ready(self, now: float) -> OutgoingObject | None:
        """The object that goes first of those that may send; those that may not any more are let go."""
        del now
        while self._ready:
            item = self._ready[0][1]
            if item.may_send:
                return item
            heappop(self._ready)
            item.is_ready = False
        return None

    def prefers_news(self, item: OutgoingObject) -> bool:
        """Whether what waits goes before an object that may send."""
        del item
        return False
