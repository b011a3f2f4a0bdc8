# SPDX-License-Identifier: Apache-2.0
"""What waits for one link: highest precedence first, then what expires first, then what has waited longest.

Live bundles (those with a supersession block) go before the others of their precedence: the lowest tier first, and of
each tier the newest, since what is old may be late by the time that the link is free.
"""

from bisect import insort
from collections import deque
from heapq import heapify, heappop, heappush
from typing import Final

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.precedence import Precedence
from meshd.node.bundle_table import Entry

_LANES: Final = len(Precedence)


class _Lane:
    """Bundles of one precedence. Most come in the order in which they expire and just queue up; the others stand in a
    heap. What is in both orders at the same place came to the queue first.
    """

    __slots__ = ("fifo", "heap", "live", "size_bytes")

    def __init__(self) -> None:
        self.size_bytes = 0
        """Of those that are not to be skipped."""
        self.fifo: deque[Entry] = deque()
        self.heap: list[tuple[int, int, int, Entry]] = []
        self.live: list[tuple[int, int, Entry]] = []
        """What goes next stands last."""

    def pop(self) -> Entry | None:
        if self.live:
            return self.live.pop()[2]
        fifo, heap = self.fifo, self.heap
        if not heap:
            return fifo.popleft() if fifo else None
        if fifo:
            first = fifo[0].record
            if (first.expiry_ms, first.received_ms) <= heap[0][:2]:
                return fifo.popleft()
        return heappop(heap)[3]

    def keep(self, entries: dict[Entry, None]) -> None:
        self.fifo = deque(entry for entry in self.fifo if entry in entries)
        self.live = [item for item in self.live if item[2] in entries]
        self.heap = [item for item in self.heap if item[3] in entries]
        heapify(self.heap)


class OutQueue:
    """A priority queue in which any bundle can be withdrawn in O(1): its place is skipped when it comes up."""

    def __init__(self, size_limit_bytes: int = INLINE_SIZE_MAX_BYTES) -> None:
        self.size_limit_bytes = size_limit_bytes
        """Larger bundles can't go over this link."""
        self._lanes = [_Lane() for _ in range(_LANES)]
        self._entries: dict[Entry, None] = {}
        self._top = 0
        """No lane above this one has anything."""
        self._arrivals = 0
        self._places = 0
        """In all lanes together, those to be skipped included."""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._entries

    def bytes_from(self, precedence: int) -> int:
        """Of what goes before a bundle of this precedence that is queued now."""
        if self._top <= precedence:
            return self._lanes[precedence].size_bytes if self._top == precedence else 0
        return sum([lane.size_bytes for lane in self._lanes[precedence:]])

    def displaced(self, limit_bytes: int) -> list[Entry]:
        """Those that a link with so much room left does not carry: the least urgent, what came last first."""
        displaced: list[Entry] = []
        excess_bytes = self.size_bytes - limit_bytes
        if excess_bytes > 0:
            entries = list(self._entries)[::-1]
            entries.sort(key=lambda each: each.record.precedence)
            for entry in entries:
                displaced.append(entry)
                excess_bytes -= entry.record.size_bytes
                if excess_bytes <= 0:
                    break
        return displaced

    def push(self, entry: Entry) -> None:
        """Queue a bundle that is not queued yet."""
        record = entry.record
        precedence, expiry_ms, received_ms = record.precedence, record.expiry_ms, record.received_ms
        if precedence > self._top:
            self._top = precedence
        lane = self._lanes[precedence]
        fifo = lane.fifo
        if fifo:
            last = fifo[-1].record
            is_later = expiry_ms > last.expiry_ms or (expiry_ms == last.expiry_ms and received_ms >= last.received_ms)
        else:
            is_later = not lane.heap
        if record.supersession is not None:
            self._arrivals += 1
            insort(lane.live, (-record.supersession.tier, self._arrivals, entry))
        elif is_later:
            fifo.append(entry)
        else:
            self._arrivals += 1
            heappush(lane.heap, (expiry_ms, received_ms, self._arrivals, entry))
        self._places += 1
        self._entries[entry] = None
        size_bytes = record.size_bytes
        lane.size_bytes += size_bytes
        self.size_bytes += size_bytes

    def pop(self, precedence_min: int = 0) -> Entry | None:
        """Take the most urgent bundle; None when there is none that is at least so urgent."""
        entries = self._entries
        while self._top >= precedence_min:
            lane = self._lanes[self._top]
            entry = lane.pop()
            if entry is None:
                if not self._top:
                    break
                self._top -= 1
                continue
            self._places -= 1
            if entry in entries:
                del entries[entry]
                size_bytes = entry.record.size_bytes
                lane.size_bytes -= size_bytes
                self.size_bytes -= size_bytes
                return entry
        return None

    def withdraw(self, entry: Entry) -> None:
        """Take one bundle out wherever it stands; nothing happens when it is not there."""
        if entry not in self._entries:
            return
        del self._entries[entry]
        record = entry.record
        self._lanes[record.precedence].size_bytes -= record.size_bytes
        self.size_bytes -= record.size_bytes
        if self._places > 2 * len(self._entries) + 64:
            for lane in self._lanes:
                lane.keep(self._entries)
            self._places = sum(len(lane.fifo) + len(lane.heap) + len(lane.live) for lane in self._lanes)

    def drain(self) -> list[Entry]:
        """Empty the queue; the bundles in the order in which they came."""
        entries = list(self._entries)
        self._lanes = [_Lane() for _ in range(_LANES)]
        self._entries.clear()
        self._top = self._places = self.size_bytes = 0
        return entries
