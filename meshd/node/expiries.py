# SPDX-License-Identifier: Apache-2.0
"""When what expires: a heap of short spans of time, and in each what expires in it.

One heap item stands for thousands of bundles that came together, and what leaves before its time (nearly all) is taken
out in O(1).
"""

from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

SPAN_BITS: Final = 6
"""A span has 64 ms."""

_T = TypeVar("_T")


class _Span(Generic[_T]):
    """What expires in one span."""

    __slots__ = ("earliest_ms", "items")

    def __init__(self, earliest_ms: int) -> None:
        self.earliest_ms = earliest_ms
        """Nothing in here expires before."""
        self.items: dict[_T, int] = {}


class Expiries(Generic[_T]):
    """Things, each with the DTN time at which it expires."""

    def __init__(self) -> None:
        self._spans: dict[int, _Span[_T]] = {}
        self._heap: list[int] = []

    def add(self, item: _T, expiry_ms: int) -> None:
        """A thing that is not here yet."""
        number = expiry_ms >> SPAN_BITS
        span = self._spans.get(number)
        if span is None:
            span = self._spans[number] = _Span(expiry_ms)
            heappush(self._heap, number)
        elif expiry_ms < span.earliest_ms:
            span.earliest_ms = expiry_ms
        span.items[item] = expiry_ms

    def remove(self, item: _T, expiry_ms: int) -> None:
        """It is gone; the time is the one that it was added with."""
        number = expiry_ms >> SPAN_BITS
        span = self._spans.get(number)
        if span is not None and span.items.pop(item, None) is not None and not span.items:
            del self._spans[number]
            if len(self._heap) > 2 * len(self._spans) + 64:
                self._heap = sorted(self._spans)

    def next_ms(self) -> int | None:
        """Not after the next expiry; None when nothing is here."""
        heap, spans = self._heap, self._spans
        while heap:
            span = spans.get(heap[0])
            if span is not None:
                return span.earliest_ms
            heappop(heap)
        return None

    def due(self, now_ms: int) -> list[_T]:
        """What has expired; it stays until it is removed."""
        due: list[_T] = []
        looked_at: set[int] = set()
        while self._heap and self._heap[0] <= now_ms >> SPAN_BITS:
            number = heappop(self._heap)
            span = self._spans.get(number)
            if span is None or number in looked_at:
                continue
            looked_at.add(number)
            due += [item for item, expiry_ms in span.items.items() if expiry_ms <= now_ms]
            later = [expiry_ms for expiry_ms in span.items.values() if expiry_ms > now_ms]
            if later:
                span.earliest_ms = min(later)
        for number in looked_at:
            heappush(self._heap, number)
        return due
