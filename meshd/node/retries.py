# SPDX-License-Identifier: Apache-2.0
"""When which bundle is to be decided anew."""

from collections.abc import Iterator
from heapq import heappop, heappush

from meshd.bundle.record import BundleId


class Retries:
    """Bundles by their times; one may be here several times."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, BundleId]] = []
        self._number = 0

    @property
    def next_at(self) -> float | None:
        """Monotonic time of the first; None: there is none."""
        return self._heap[0][0] if self._heap else None

    def add(self, at: float, bundle: BundleId) -> None:
        """At this monotonic time."""
        self._number += 1
        heappush(self._heap, (at, self._number, bundle))

    def take_due(self, now: float) -> Iterator[BundleId]:
        """Those whose time has come, each taken out."""
        while self._heap and self._heap[0][0] <= now:
            yield heappop(self._heap)[2]
