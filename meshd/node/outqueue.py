# SPDX-License-Identifier: Apache-2.0
"""What waits for one link: highest precedence first, then what expires first, then what has waited longest."""

from heapq import heappop, heappush

from meshd.base.limits import BUNDLE_SIZE_MAX_BYTES
from meshd.bundle.record import BundleId, BundleRecord

_Item = tuple[int, int, int, int, BundleId]


class OutQueue:
    """A priority queue in which any bundle can be withdrawn in O(1): its heap item is skipped when it comes up."""

    def __init__(self, size_limit_bytes: int = BUNDLE_SIZE_MAX_BYTES) -> None:
        self.size_limit_bytes = size_limit_bytes
        """Larger bundles can't go over this link."""
        self._heap: list[_Item] = []
        self._sizes: dict[BundleId, int] = {}
        self._arrivals = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, bundle: BundleId) -> bool:
        return bundle in self._sizes

    def push(self, record: BundleRecord) -> None:
        """Queue a bundle that is not queued yet."""
        self._arrivals += 1
        heappush(
            self._heap,
            (-record.precedence, record.expiry_ms, record.received_ms, self._arrivals, record.id),
        )
        self._sizes[record.id] = record.size_bytes
        self.size_bytes += record.size_bytes

    def pop(self) -> BundleId | None:
        """Take the most urgent bundle; None when empty."""
        while self._heap:
            bundle = heappop(self._heap)[4]
            size_bytes = self._sizes.pop(bundle, None)
            if size_bytes is not None:
                self.size_bytes -= size_bytes
                return bundle
        return None

    @property
    def top_precedence(self) -> int | None:
        """Of the most urgent bundle; None when empty."""
        while self._heap and self._heap[0][4] not in self._sizes:
            heappop(self._heap)
        return -self._heap[0][0] if self._heap else None

    def withdraw(self, bundle: BundleId) -> None:
        """Take one bundle out wherever it stands; nothing happens when it is not there."""
        size_bytes = self._sizes.pop(bundle, None)
        if size_bytes is None:
            return
        self.size_bytes -= size_bytes
        if len(self._heap) > 2 * len(self._sizes) + 64:
            self._heap = [item for item in self._heap if item[4] in self._sizes]
            self._heap.sort()

    def drain(self) -> list[BundleId]:
        """Empty the queue; the bundles in no order."""
        bundles = list(self._sizes)
        self._heap.clear()
        self._sizes.clear()
        self.size_bytes = 0
        return bundles
