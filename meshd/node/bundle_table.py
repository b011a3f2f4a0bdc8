# SPDX-License-Identifier: Apache-2.0
"""Every bundle that is here: its state, its quota share and its expiry.

An entry's state is its retention constraint (RFC 9171 section 5): a bundle leaves the table only when nothing holds it.
"""

import enum
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.bundle.header import BundleHeader
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.link.identity import LinkId
from meshd.node.replication import Copies

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


class Entry:
    """One bundle that is here."""

    __slots__ = ("attempts", "copies", "header", "inline", "is_own", "link", "reason", "record", "state", "transfers")

    def __init__(
        self, record: BundleRecord, header: BundleHeader | None, inline: bytes | None, *, is_own: bool
    ) -> None:
        self.record = record
        self.header = header
        self.inline = inline
        self.is_own = is_own
        self.state = BundleState.STORING
        self.link: LinkId | None = None
        """Where it is queued or in flight, or where it came from while STORING."""
        self.transfers: list[tuple[LinkId, object]] = []
        """Transfers to acknowledge once it is durable."""
        self.reason = ""
        """Why it waits."""
        self.attempts = 0
        self.copies: Copies | None = None
        """Of a bundle to a group: where it still has to go."""


class BundleTable:
    """Owns the entries, their quota and their expiry heap."""

    def __init__(self, quota_bytes: int, bundles_max: int) -> None:
        self.quota_bytes = quota_bytes
        self.bundles_max = bundles_max
        self.size_bytes = 0
        self.inline_bytes = 0
        self._entries: dict[BundleId, Entry] = {}
        self._expiries: list[tuple[int, int, BundleId]] = []
        self._arrivals = 0
        self._waiting: dict[Eid, dict[BundleId, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, bundle: BundleId) -> Entry | None:
        """One entry."""
        return self._entries.get(bundle)

    def has_room(self, size_bytes: int, precedence: int, room: Room) -> bool:
        """Whether quota and count allow one more bundle of this size."""
        share = room.value + (URGENT_RESERVE if precedence >= URGENT_PRECEDENCE else 0.0)
        return (
            self.size_bytes + size_bytes <= self.quota_bytes * share
            and len(self._entries) + 1 <= self.bundles_max * share
        )

    def add(self, entry: Entry) -> None:
        """Take a bundle in."""
        record = entry.record
        self._entries[record.id] = entry
        self.size_bytes += record.size_bytes
        if entry.inline is not None:
            self.inline_bytes += len(entry.inline)
        self._arrivals += 1
        heappush(self._expiries, (record.expiry_ms, self._arrivals, record.id))

    def remove(self, entry: Entry) -> None:
        """Let a bundle go."""
        record = entry.record
        del self._entries[record.id]
        self.size_bytes -= record.size_bytes
        self.drop_inline(entry)
        self.stop_waiting(entry)
        if len(self._expiries) > 4 * len(self._entries) + 1024:
            self._expiries = [item for item in self._expiries if item[2] in self._entries]
            heapify(self._expiries)

    def became_durable(self, entry: Entry, payload: PayloadRef) -> None:
        """It lies in the store now; its bytes stay in memory only while there is room."""
        entry.record = structs.replace(entry.record, payload=payload)
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
        self._waiting.setdefault(entry.record.destination.node, {})[entry.record.id] = None
        self.drop_inline(entry)

    def stop_waiting(self, entry: Entry) -> None:
        """It is not waiting any more."""
        node = entry.record.destination.node
        ids = self._waiting.get(node)
        if ids is not None and ids.pop(entry.record.id, 0) is None and not ids:
            del self._waiting[node]

    def waiting(self) -> list[Entry]:
        """All that wait for a next hop, oldest first within a destination."""
        return [self._entries[bundle] for ids in self._waiting.values() for bundle in ids]

    def next_expiry_ms(self) -> int | None:
        """DTN time of the next expiry; None when nothing is here."""
        while self._expiries and self._expiries[0][2] not in self._entries:
            heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    def pop_expired(self, now_ms: int) -> list[Entry]:
        """Entries whose time has come; they are still in the table."""
        expired: dict[BundleId, Entry] = {}  # an ID that went and came again stands in the heap twice
        while self._expiries and self._expiries[0][0] <= now_ms:
            bundle = heappop(self._expiries)[2]
            entry = self._entries.get(bundle)
            if entry is not None and entry.record.expiry_ms <= now_ms:
                expired[bundle] = entry
        return list(expired.values())

    def reschedule(self) -> None:
        """Rebuild the expiry heap after records were replaced."""
        self._expiries = [
            (entry.record.expiry_ms, index, bundle) for index, (bundle, entry) in enumerate(self._entries.items())
        ]
        self._arrivals = len(self._expiries)
        heapify(self._expiries)
