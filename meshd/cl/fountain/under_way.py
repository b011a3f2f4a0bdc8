# SPDX-License-Identifier: Apache-2.0
"""The objects that one bearer has under way, and how many more there may be to each destination."""

from collections import Counter
from typing import Final

from meshd.bundle.precedence import Precedence
from meshd.cl.fountain.outgoing_object import OutgoingObject

OPEN_MAX: Final = 512
"""Objects under way to one destination, and"""
OPEN_MAX_BYTES: Final = 24 * 1024 * 1024
"""their bytes: some seconds of the bearer's rate, and what silent nodes have not acknowledged."""
URGENT_MORE_BYTES: Final = 8 * 1024 * 1024
"""Urgent ones may take more. With a largest bundle beyond each limit that is what a receiver has room for."""


class UnderWay:
    """Objects that somebody has not acknowledged."""

    def __init__(self) -> None:
        self.objects: dict[bytes, OutgoingObject] = {}
        self._open: Counter[int] = Counter()
        self._open_bytes: Counter[int] = Counter()

    def has_room(self, scope: int, precedence: int) -> bool:
        """One more may be opened to this destination."""
        is_urgent = precedence >= Precedence.FLASH
        most_bytes = OPEN_MAX_BYTES + URGENT_MORE_BYTES * is_urgent
        return self._open[scope] < OPEN_MAX * (1 + is_urgent) and self._open_bytes[scope] < most_bytes

    def add(self, item: OutgoingObject) -> None:
        """It is opened."""
        self.objects[item.object_id] = item
        self._open[item.scope] += 1
        self._open_bytes[item.scope] += len(item.data)

    def remove(self, item: OutgoingObject) -> bool:
        """Nobody needs it any more; False: it was removed before."""
        if self.objects.pop(item.object_id, None) is None:
            return False
        self._open[item.scope] -= 1
        self._open_bytes[item.scope] -= len(item.data)
        return True

    def count_to(self, node: int) -> int:
        """Those that this node has not acknowledged."""
        return sum(node in item.receivers for item in self.objects.values())
