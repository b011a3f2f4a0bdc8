# SPDX-License-Identifier: Apache-2.0
"""What waits for one destination in one precedence: bundles not begun, and objects that may send symbols.

Bundles are put together only when the link is ready for them, so that a queue gives large objects and an idle link
small ones. On an idle link a small bundle waits COMPANY_S for company, an urgent one not at all.
"""

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final

from meshd.bundle.precedence import Precedence
from meshd.cl.fountain.object_format import BUNDLE_HEAD_BYTES, BUNDLES_MAX, Chunks, head_bytes
from meshd.cl.fountain.outgoing_object import BundleKey, OutgoingObject

COMPANY_S: Final = 0.02


class Waiting:
    """A bundle that was not begun."""

    __slots__ = ("chunks", "expires_at", "key", "nodes", "queued_at", "size_bytes")

    def __init__(
        self,
        key: BundleKey,
        chunks: Chunks,
        size_bytes: int,
        expires_at: float,
        queued_at: float,
        node: int,
    ) -> None:
        self.key = key
        self.chunks = chunks
        self.size_bytes = size_bytes
        self.expires_at = expires_at
        self.queued_at = queued_at
        self.nodes = [node]
        """For whom it is; more than one on a multicast bearer only. Empty: cancelled."""


class Lane:
    """One destination in one precedence."""

    def __init__(self, precedence: int, scope: int) -> None:
        self.precedence = precedence
        self.scope = scope
        """The destination: a node's index, or -1 for all of a multicast bearer."""
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
            heappush(self._ready, (item.number, item))

    def next_ready(self) -> OutgoingObject | None:
        """The oldest object that may send; those that may not any more are let go."""
        while self._ready:
            item = self._ready[0][1]
            if item.may_send:
                return item
            heappop(self._ready)
            item.is_ready = False
        return None
