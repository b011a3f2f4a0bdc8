# SPDX-License-Identifier: Apache-2.0
"""The duplicate memory: IDs of bundles that were here, each kept until its bundle has expired everywhere.

One dictionary for the look-up and one list per minute of expiry for forgetting, so that both cost O(1) for a bundle.
"""

from typing import Final

from meshd.bundle.record import BundleId

BUCKET_MS: Final = 60_000
"""IDs are forgotten by the minute: up to this much later than they could be."""


class KnownBundles:
    """Remembers at most `known_max` IDs; when it is full the node has to refuse new bundles."""

    def __init__(self, known_max: int) -> None:
        self.known_max = known_max
        self._until: dict[BundleId, int] = {}
        self._buckets: dict[int, list[BundleId]] = {}

    def __contains__(self, bundle: BundleId) -> bool:
        return bundle in self._until

    def __len__(self) -> int:
        return len(self._until)

    @property
    def is_full(self) -> bool:
        """No room for another ID."""
        return len(self._until) >= self.known_max

    def add(self, bundle: BundleId, until_ms: int) -> None:
        """Remember an ID until this DTN time; a second call changes nothing."""
        if bundle in self._until:
            return
        self._until[bundle] = until_ms
        bucket = until_ms // BUCKET_MS
        ids = self._buckets.get(bucket)
        if ids is None:
            self._buckets[bucket] = [bundle]
        else:
            ids.append(bundle)

    def discard(self, bundle: BundleId) -> None:
        """Forget one at once: it was never stored, so its sender has to be able to bring it again."""
        self._until.pop(bundle, None)

    def clock_stepped(self, step_ms: int, *, all_by_age: bool) -> None:
        """Move along what is remembered until some age: bundles without a creation time, or all of them.

        Costs a look at every ID; clocks step rarely.
        """
        until = self._until
        self._until, self._buckets = {}, {}
        for bundle, until_ms in until.items():
            self.add(bundle, until_ms + step_ms if all_by_age or not bundle.time_ms else until_ms)

    def expire(self, now_ms: int) -> None:
        """Forget what has expired before this DTN time."""
        for bucket in [bucket for bucket in self._buckets if (bucket + 1) * BUCKET_MS <= now_ms]:
            for bundle in self._buckets.pop(bucket):
                if self._until.get(bundle, now_ms) < now_ms:
                    del self._until[bundle]
