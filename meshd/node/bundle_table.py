# SPDX-License-Identifier: Apache-2.0
"""Every bundle that is here: its state, its quota share and its expiry.

An entry's state is its retention constraint (RFC 9171 section 5): a bundle leaves the table only when nothing holds it.
A bundle that has only waited since the start is parked: it gets its entry when somebody asks for it.
"""

import enum
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import msgspec

from meshd.bundle.eid import Eid
from meshd.bundle.header import BundleHeader
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.link.identity import LinkId
from meshd.node.expiries import Expiries
from meshd.node.parked_bundles import Kind, ParkedBundles
from meshd.node.replication import Copies
from meshd.node.superseding import Superseding

INLINE_MAX_BYTES: Final = 32 * 1024 * 1024
"""Encoded bundles kept in memory beside the store, so that what passes through need not be read back."""

URGENT_RESERVE: Final = 0.05
"""Share of the quota that only IMMEDIATE and above may use: bulk never shuts the door on what is urgent."""

URGENT_PRECEDENCE: Final = 3


class Room(enum.Enum):
    """How much of the quota may be in use for a bundle to be taken, by what it is for.

    Two full nodes that wait for each other would wait for ever, so bundles that have arrived where they are going get
    room that bundles in transit do not; and many messages that each lack a part would fill the store together, so
    beyond half of it only the oldest of them grows. A message of up to 45 % of the quota can always be completed.
    """

    ONWARD = 0.80
    OTHER_MESSAGES = 0.50
    ARRIVED = 1.0 - URGENT_RESERVE


class BundleState(enum.Enum):
    """Why a bundle is kept."""

    STORING = "storing"
    """Not durable yet; its transfers are not acknowledged yet."""
    HELD = "held"
    """Part of a submission that is not complete."""
    WAITING = "waiting"
    """Forwarding is contraindicated for now."""
    QUEUED = "queued"
    """In the out-queue of a link."""
    IN_FLIGHT = "in_flight"
    """Handed to a convergence layer, not acknowledged by the neighbour."""
    FRAGMENTING = "fragmenting"
    """Being cut into fragments that a link can take."""
    REPLICATING = "replicating"
    """For a group: members are left to whom it has to be forwarded."""
    REASSEMBLING = "reassembling"
    """A fragment at its destination, until its siblings are here."""
    FOR_DELIVERY = "for_delivery"
    """At its destination, until an application has confirmed it."""


class Entry(msgspec.Struct, eq=False, gc=False):
    """One bundle that is here. Two entries are the same only if they are one object."""

    record: BundleRecord
    header: BundleHeader | None
    inline: bytes | None
    is_own: bool
    transfers: tuple[tuple[LinkId, object], ...] = ()
    """Transfers to acknowledge once it is durable."""
    state: BundleState = BundleState.STORING
    link: LinkId | None = None
    """Where it is queued or in flight."""
    reason: str = ""
    """Why it waits."""
    attempts: int = 0
    copies: Copies | None = None
    """Of a bundle to a group: where it still has to go."""
    returned_by: Eid | None = None
    """The neighbour that has brought it while it was here."""


class BundleTable:
    """Owns the entries, their quota and their expiry."""

    def __init__(self, quota_bytes: int, bundles_max: int) -> None:
        self.quota_bytes = quota_bytes
        self.bundles_max = bundles_max
        self.size_bytes = 0
        self.reserved_bytes = 0
        """For bundles that are arriving piece by piece and are not here yet."""
        self.inline_bytes = 0
        self.parked = ParkedBundles()
        self.superseding = Superseding()
        self._entries: dict[BundleId, Entry] = {}
        self._expiries: Expiries[Entry] = Expiries()
        self.get: Callable[[BundleId], Entry | None] = self._entries.get
        """The entry of an ID, or None; a parked bundle is not parked any more then."""

    def __len__(self) -> int:
        return len(self._entries) + len(self.parked.records)

    def __contains__(self, bundle: BundleId) -> bool:
        return bundle in self._entries or bundle in self.parked.records

    def ids(self) -> list[BundleId]:
        """Of all that is here, oldest first."""
        return [*self.parked.records, *self._entries]

    def records(self) -> Iterator[BundleRecord]:
        """Of all that is here, oldest first."""
        yield from self.parked.records.values()
        for entry in self._entries.values():
            yield entry.record

    def unparked(self) -> Iterator[Entry]:
        """The entries of all that is not parked."""
        return iter(self._entries.values())

    def look_at(self, bundle: BundleId) -> Entry | None:
        """An entry that is only to be read: of a parked bundle it is made for this one purpose."""
        entry = self._entries.get(bundle)
        if entry is None:
            record = self.parked.records.get(bundle)
            if record is not None:
                entry = self._waiting(record)
        return entry

    def has_room(self, size_bytes: int, precedence: int, room: Room, count: int = 1) -> bool:
        """Whether quota and count allow more bundles, of this size together."""
        share = room.value + (URGENT_RESERVE if precedence >= URGENT_PRECEDENCE else 0.0)
        return (
            self.size_bytes + self.reserved_bytes + size_bytes <= self.quota_bytes * share
            and len(self) + count <= self.bundles_max * share
        )

    def add(self, entry: Entry) -> None:
        """Take a bundle in."""
        record = entry.record
        self._entries[record.id] = entry
        self.size_bytes += record.size_bytes
        if entry.inline is not None:
            self.inline_bytes += len(entry.inline)
        self._expiries.add(entry, record.expiry_ms)

    def park(
        self, records: Sequence[BundleRecord], reasons: dict[Kind, str], samples: dict[Kind, BundleRecord]
    ) -> None:
        """Take in, at the start, bundles that have to wait; see ParkedBundles."""
        self.parked.fill(records, reasons, samples)
        self.size_bytes += self.parked.size_bytes
        if records:
            self.get = self._get_or_unpark

    def unpark(self, kinds: Collection[Kind]) -> list[Entry]:
        """The bundles of these kinds need not wait any more: their entries, oldest first."""
        records = self.parked.take_kinds(kinds)
        entries = [self._waiting(record) for record in records]
        self._entries.update(zip([record.id for record in records], entries, strict=True))
        for entry in entries:
            self._expiries.add(entry, entry.record.expiry_ms)
        self._after_unparking()
        return entries

    def _get_or_unpark(self, bundle: BundleId) -> Entry | None:
        entry = self._entries.get(bundle)
        if entry is not None:
            return entry
        record = self.parked.take(bundle)
        if record is None:
            return None
        entry = self._entries[record.id] = self._waiting(record)
        self._expiries.add(entry, record.expiry_ms)
        self._after_unparking()
        return entry

    def _after_unparking(self) -> None:
        if not self.parked.records:
            self.parked = ParkedBundles()
            self.get = self._entries.get

    def _waiting(self, record: BundleRecord) -> Entry:
        reason = self.parked.reason(record)
        return Entry(record, None, None, record.previous_node is None, state=BundleState.WAITING, reason=reason)

    def remove(self, entry: Entry) -> None:
        """Let a bundle go."""
        record = entry.record
        del self._entries[record.id]
        if record.supersession is not None:
            self.superseding.discard(record)
        self.size_bytes -= record.size_bytes
        if entry.inline is not None:
            self.drop_inline(entry)
        self._expiries.remove(entry, record.expiry_ms)

    def became_durable(self, entry: Entry, payload: PayloadRef) -> None:
        """It lies in the store now; its bytes stay in memory only while there is room."""
        entry.record.payload = payload
        if self.inline_bytes > INLINE_MAX_BYTES:
            self.drop_inline(entry)

    def drop_inline(self, entry: Entry) -> None:
        """Forget the bytes in memory."""
        if entry.inline is not None:
            self.inline_bytes -= len(entry.inline)
            entry.inline = None
            entry.header = None

    def wait(self, entry: Entry, reason: str) -> None:
        """Forwarding is contraindicated for now."""
        entry.state, entry.link, entry.reason = BundleState.WAITING, None, reason
        self.drop_inline(entry)

    def waiting(self) -> list[Entry]:
        """All that wait for a next hop and are not parked, oldest first."""
        return [entry for entry in self._entries.values() if entry.state is BundleState.WAITING]

    def next_expiry_ms(self) -> int | None:
        """DTN time of the next expiry, or a little before it; None when nothing is here."""
        expiry_ms = self._expiries.next_ms()
        if not self.parked.records:
            return expiry_ms
        parked_ms = self.parked.next_expiry_ms()
        return parked_ms if expiry_ms is None or (parked_ms is not None and parked_ms < expiry_ms) else expiry_ms

    def pop_expired(self, now_ms: int) -> list[Entry]:
        """Entries whose time has come; they are still in the table."""
        for bundle in self.parked.due(now_ms):
            self._get_or_unpark(bundle)
        return self._expiries.due(now_ms)

    def reschedule(self) -> None:
        """Order the expiries anew after records were replaced."""
        self._expiries = Expiries()
        for entry in self._entries.values():
            self._expiries.add(entry, entry.record.expiry_ms)
