# SPDX-License-Identifier: Apache-2.0
"""The duplicate memory: IDs of bundles that were here, each kept until its bundle has expired everywhere.

Of each it is also known whether it is settled: delivered, handed to its destination, or given up for a reason that
holds. One that was only passed on to a relay may come back, and nobody else may have it then.

Look-up and forgetting cost O(1) for a bundle. There may be millions of them, so an ID is kept as one integer in a
dictionary of its source, and a second time in a list of what is forgotten in the same minute.
"""

from typing import Final

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.node.unsettled_ids import Key, UnsettledIds

BUCKET_MS: Final = 60_000
"""IDs are forgotten by the minute: up to this much later than they could be."""


class KnownBundles:
    """Remembers IDs. The node sees to it that there are not more than its settings allow."""

    def __init__(self) -> None:
        self._count = 0
        self._by_source: dict[Eid, dict[Key, list[Key]]] = {}
        """For each ID the list in which it waits to be forgotten."""
        self._minutes: dict[tuple[bool, int, bool], dict[Eid, list[Key]]] = {}
        """By whether the bundle has no creation time, by the minute on that kind's own scale, and by whether it may
        return."""
        self._offsets_ms = [0, 0]
        """DTN time minus the scale of IDs with a creation time, and without: a step of the clock moves the scale."""

    def __contains__(self, bundle: BundleId) -> bool:
        keys = self._by_source.get(bundle[0])
        if keys is None:
            return False
        if bundle[3] < 0 and not bundle[5]:  # as `_key`, without a call: asked for every bundle
            return bundle[1] << 64 | bundle[2] in keys
        return _key(bundle) in keys

    def __len__(self) -> int:
        return self._count

    def may_return(self, bundle: BundleId) -> bool:
        """Whether a bundle that is remembered is not settled."""
        keys = self._by_source.get(bundle.source)
        return keys is not None and isinstance(keys.get(_key(bundle)), UnsettledIds)

    def add(self, bundle: BundleId, until_ms: int, *, may_return: bool = False) -> None:
        """Remember an ID until this DTN time; a second call changes nothing but that it is settled now."""
        source = bundle[0]
        key = bundle[1] << 64 | bundle[2] if bundle[3] < 0 and not bundle[5] else _key(bundle)
        keys = self._by_source.get(source)
        if keys is None:
            keys = self._by_source[source] = {}
        elif key in keys:
            if may_return or not isinstance(keys[key], UnsettledIds):
                return
            self._count -= 1
        is_by_age = not bundle[1]
        minute = is_by_age, (until_ms - self._offsets_ms[is_by_age]) // BUCKET_MS, may_return
        sources = self._minutes.get(minute)
        if sources is None:
            sources = self._minutes[minute] = {}
        waiting = sources.get(source)
        if waiting is None:
            waiting = sources[source] = UnsettledIds() if may_return else []
        waiting.append(key)
        keys[key] = waiting
        self._count += 1

    def discard(self, bundle: BundleId) -> None:
        """Forget one at once: it was never stored, so its sender has to be able to bring it again."""
        keys = self._by_source.get(bundle.source)
        if keys is not None and keys.pop(_key(bundle), None) is not None:
            self._forgotten(bundle.source, keys, 1)

    def clock_stepped(self, step_ms: int, *, all_by_age: bool) -> None:
        """Move along what is remembered until some age: bundles without a creation time, or all of them."""
        self._offsets_ms[True] += step_ms
        if all_by_age:
            self._offsets_ms[False] += step_ms

    def expire(self, now_ms: int) -> None:
        """Forget what has expired before this DTN time."""
        for minute in [each for each in self._minutes if self._end_ms(*each[:2]) <= now_ms]:
            for source, waiting in self._minutes.pop(minute).items():
                keys = self._by_source.get(source, {})
                gone = [key for key in waiting if keys.get(key) is waiting]
                for key in gone:
                    keys.pop(key, None)
                self._forgotten(source, keys, len(gone))

    def _end_ms(self, is_by_age: bool, minute: int) -> int:
        return (minute + 1) * BUCKET_MS + self._offsets_ms[is_by_age]

    def _forgotten(self, source: Eid, keys: dict[Key, list[Key]], count: int) -> None:
        self._count -= count
        if not keys:
            self._by_source.pop(source, None)


def _key(bundle: BundleId) -> Key:
    """All of an ID but its source: one integer, unless it is a fragment or anonymous."""
    _, time_ms, sequence, fragment_offset, fragment_bytes, digest = bundle
    number = time_ms << 64 | sequence
    return number if fragment_offset < 0 and not digest else (number, fragment_offset, fragment_bytes, digest)
