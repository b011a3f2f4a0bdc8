# SPDX-License-Identifier: Apache-2.0
"""Bundles that have waited since the start: nothing is kept of each but the record that the store brought.

There may be a million of them. What is the same for all of one kind (destination and previous node: routing says of
them all that they have to wait) is kept once for the kind; the bundle table makes an entry of its own for a bundle when
something happens to it.
"""

from collections.abc import Collection, Sequence
from operator import attrgetter

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, BundleRecord

Kind = tuple[Eid, Eid | None]
"""Destination and previous node."""


class ParkedBundles:
    """Records by ID, and in the order in which they expire."""

    def __init__(self) -> None:
        self.records: dict[BundleId, BundleRecord] = {}
        self.reasons: dict[Kind, str] = {}
        """Why the bundles of each kind wait."""
        self.samples: dict[Kind, BundleRecord] = {}
        """A bundle of each kind, perhaps gone by now: what routing says of it holds for the others."""
        self.size_bytes = 0
        self.wake_at: float | None = None
        """Monotonic time at which to ask again for all kinds; None: only on a change."""
        self._by_expiry: list[BundleRecord] = []
        """What expires next comes last; those that are not parked any more are skipped."""

    def fill(
        self, records: Sequence[BundleRecord], reasons: dict[Kind, str], samples: dict[Kind, BundleRecord]
    ) -> None:
        """Take these in; nothing is here yet."""
        self.records = {record.id: record for record in records}
        self.reasons = reasons
        self.samples = samples
        self.size_bytes = sum([record.size_bytes for record in records])
        self._order()

    def take(self, bundle: BundleId) -> BundleRecord | None:
        """Something happens to this bundle: it is not parked any more."""
        record = self.records.pop(bundle, None)
        if record is not None:
            self.size_bytes -= record.size_bytes
            if len(self._by_expiry) > 2 * len(self.records) + 64:
                self._order()
        return record

    def take_kinds(self, kinds: Collection[Kind]) -> list[BundleRecord]:
        """All bundles of these kinds, oldest first: they are not parked any more."""
        taken: list[BundleRecord] = []
        left: dict[BundleId, BundleRecord] = {}
        for bundle, record in self.records.items():
            if (record.destination, record.previous_node) in kinds:
                taken.append(record)
            else:
                left[bundle] = record
        self.records = left
        self.size_bytes -= sum([record.size_bytes for record in taken])
        for kind in kinds:
            self.samples.pop(kind, None)
        self._order()
        return taken

    def reason(self, record: BundleRecord) -> str:
        """Why it waits."""
        return self.reasons[record.destination, record.previous_node]

    def next_expiry_ms(self) -> int | None:
        """DTN time of the next expiry; None when nothing is here."""
        ordered = self._by_expiry
        while ordered:
            record = ordered[-1]
            if self.records.get(record.id) is record:
                return record.expiry_ms
            ordered.pop()
        return None

    def due(self, now_ms: int) -> list[BundleId]:
        """What has expired; it stays until it is taken."""
        due: list[BundleId] = []
        for record in reversed(self._by_expiry):
            if record.expiry_ms > now_ms:
                break
            if self.records.get(record.id) is record:
                due.append(record.id)
        return due

    def clock_stepped(self, step_ms: int) -> None:
        """Times move along with the node's reckoning, expiries only where they were reckoned from an age."""
        if not self.records:
            return
        for bundle, record in self.records.items():
            expiry_ms = record.expiry_ms + step_ms if record.by_age else record.expiry_ms
            self.records[bundle] = structs.replace(
                record, expiry_ms=expiry_ms, received_ms=record.received_ms + step_ms
            )
        self._order()

    def _order(self) -> None:
        self._by_expiry = sorted(self.records.values(), key=attrgetter("expiry_ms"))
        self._by_expiry.reverse()
