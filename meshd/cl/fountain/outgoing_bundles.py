# SPDX-License-Identifier: Apache-2.0
"""The bundles under way: in which objects each lies, who still needs it, and what became of it.

A bundle is done for a receiver when every object that carries a part of it was acknowledged by that receiver. When a
link dies, its bundles are told to be failed, so that the owner may look for another way; but they stay here as
orphans: if the owner comes back with one, it goes on where it stopped, or is acknowledged at once.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final

from meshd.bundle.eid import Eid
from meshd.cl.fountain.events import Event, FailureReason, TransfersAcknowledged, TransfersFailed, TransfersSent
from meshd.cl.fountain.lane import Lane, Waiting
from meshd.cl.fountain.outgoing_object import BundleKey, OutgoingObject

DONE_MAX: Final = 4096
"""Orphans acknowledged that are remembered."""


class Bundle:
    """One bundle and how many objects each of its receivers still needs for it."""

    __slots__ = ("lane", "left", "name", "objects", "orphans", "waiting")

    def __init__(self, name: Hashable, lane: Lane, waiting: Waiting) -> None:
        self.name = name
        self.lane = lane
        self.waiting: Waiting | None = waiting
        """None once it was begun."""
        self.objects: list[OutgoingObject] = []
        self.left = dict.fromkeys(waiting.nodes, 0)
        self.orphans: set[int] = set()
        """Receivers whose link is dead."""

    @property
    def expires_at(self) -> float:
        """When it is given up."""
        return self.waiting.expires_at if self.waiting else max(item.expires_at for item in self.objects)


class Bundles:
    """All of one bearer, and what became of them since the owner last looked."""

    def __init__(self) -> None:
        self._bundles: dict[BundleKey, Bundle] = {}
        self._done: OrderedDict[tuple[int, Hashable], None] = OrderedDict()
        self._acknowledged: dict[int, list[Hashable]] = {}
        self._sent: dict[int, list[Hashable]] = {}
        self._failed: dict[tuple[int, FailureReason], list[Hashable]] = {}
        self.waiting_bytes: Counter[int] = Counter()
        """By receiver: of bundles that were not begun. One that is for several counts for each of them."""

    def __len__(self) -> int:
        return len(self._bundles)

    def get(self, key: BundleKey) -> Bundle | None:
        """One bundle."""
        return self._bundles.get(key)

    def of_name(self, name: Hashable) -> list[Bundle]:
        """One bundle for whatever destinations, by its owner's name."""
        return [bundle for bundle in self._bundles.values() if bundle.name == name]

    def add(self, key: BundleKey, bundle: Bundle) -> None:
        """A further one, which waits."""
        self._bundles[key] = bundle
        self._count_waiting(bundle, 1)

    def join(self, bundle: Bundle, node: int) -> None:
        """A further receiver."""
        bundle.left[node] = len(bundle.objects)
        if bundle.waiting is not None:
            bundle.waiting.nodes = sorted({*bundle.waiting.nodes, node})
            self.waiting_bytes[node] += bundle.waiting.size_bytes

    def _count_waiting(self, bundle: Bundle, sign: int) -> None:
        if bundle.waiting is not None:
            for node in bundle.waiting.nodes:
                self.waiting_bytes[node] += sign * bundle.waiting.size_bytes

    def recall(self, name: Hashable, node: int) -> bool:
        """The owner comes with this bundle: True when it was done as an orphan, and is told so now."""
        if (node, name) not in self._done:
            return False
        del self._done[node, name]
        self._acknowledged.setdefault(node, []).append(name)
        return True

    def open(self, key: BundleKey, item: OutgoingObject) -> None:
        """It goes, or a part of it, with this object."""
        bundle = self._bundles[key]
        self._count_waiting(bundle, -1)
        bundle.waiting = None
        bundle.objects.append(item)
        for node in bundle.left:
            bundle.left[node] += 1

    def finish_part(self, keys: Iterable[BundleKey], node: int, *, is_acknowledged: bool) -> None:
        """An object with these has been acknowledged by a node, or was sent to one that never answers."""
        for key in keys:
            bundle = self._bundles.get(key)
            if bundle is None or node not in bundle.left:
                continue
            bundle.left[node] -= 1
            if bundle.left[node] == 0:
                self._finish(key, bundle, node, is_acknowledged=is_acknowledged)

    def _finish(self, key: BundleKey, bundle: Bundle, node: int, *, is_acknowledged: bool) -> None:
        if node in bundle.orphans:
            self._done[node, bundle.name] = None
            if len(self._done) > DONE_MAX:
                self._done.popitem(last=False)
        else:
            told = self._acknowledged if is_acknowledged else self._sent
            told.setdefault(node, []).append(bundle.name)
        self._forget(key, bundle, node)

    def give_up(self, key: BundleKey, node: int, reason: FailureReason) -> list[OutgoingObject]:
        """It failed for this node; the objects that nothing else needs to carry to it now."""
        bundle = self._bundles.get(key)
        if bundle is None or node not in bundle.left:
            return []
        if node not in bundle.orphans:
            self._failed.setdefault((node, reason), []).append(bundle.name)
        self._forget(key, bundle, node)
        return [item for item in bundle.objects if not any(self._is_wanted(each, node) for each in item.bundles)]

    def _is_wanted(self, key: BundleKey, node: int) -> bool:
        bundle = self._bundles.get(key)
        return bundle is not None and node in bundle.left

    def _forget(self, key: BundleKey, bundle: Bundle, node: int) -> None:
        del bundle.left[node]
        if bundle.waiting is not None:
            bundle.waiting.nodes = [each for each in bundle.waiting.nodes if each != node]
            self.waiting_bytes[node] -= bundle.waiting.size_bytes
        if not bundle.left:
            del self._bundles[key]
            if bundle.waiting is not None:
                bundle.lane.cancel(bundle.waiting)

    def orphan(self, node: int) -> None:
        """The link to this node is dead."""
        for key, bundle in list(self._bundles.items()):
            if node not in bundle.left or node in bundle.orphans:
                continue
            if bundle.waiting is not None:
                self.give_up(key, node, FailureReason.LINK_DOWN)
            else:
                bundle.orphans.add(node)
                self._failed.setdefault((node, FailureReason.LINK_DOWN), []).append(bundle.name)

    def find_expired(self, now: float) -> list[tuple[BundleKey, Sequence[int]]]:
        """What is to be given up now, and for whom."""
        return [(key, list(bundle.left)) for key, bundle in self._bundles.items() if bundle.expires_at <= now]

    def take_events(self, node_of: Callable[[int], Eid]) -> list[Event]:
        """What became of bundles since this was last asked."""
        if not (self._acknowledged or self._sent or self._failed):
            return []
        events: list[Event] = []
        events += [TransfersAcknowledged(node_of(node), names) for node, names in self._acknowledged.items()]
        events += [TransfersSent(node_of(node), names) for node, names in self._sent.items()]
        events += [TransfersFailed(node_of(node), names, reason) for (node, reason), names in self._failed.items()]
        self._acknowledged, self._sent, self._failed = {}, {}, {}
        return events
