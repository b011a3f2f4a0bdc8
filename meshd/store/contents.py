# SPDX-License-Identifier: Apache-2.0
"""What the segment log knows of its own contents: where each live bundle lies, what each segment holds, the notes.

Kept small (a dictionary entry and one integer per live bundle; the ID is the one that the agent holds too, nothing per
deleted bundle): the agent has the records. Only what is durable is ever entered here.
"""

from typing import Final, NamedTuple

from meshd.bundle.record import BundleId
from meshd.store.record_format import MarkRow, row_id

NOTE_NAMES_MAX: Final = 16384
"""Notes by name, counting deleted ones whose deletion still matters; a group that needs more is refused."""
NOTE_SIZE_MAX_BYTES: Final = 64 * 1024
MARK_BYTES: Final = 56
"""Size of a typical mark in a segment: what carrying one on costs."""
_HOUR_MS: Final = 3_600_000
_SIZE_BITS: Final = 32
_SIZE_MASK: Final = (1 << _SIZE_BITS) - 1


def place(segment: int, size_bytes: int) -> int:
    """Where a bundle lies and how large it is, in one integer: a million of them have to be cheap."""
    return segment << _SIZE_BITS | size_bytes


def place_segment(where: int) -> int:
    """The segment of a place."""
    return where >> _SIZE_BITS


class Note(NamedTuple):
    """A note's newest value (empty: deleted) and the segment that holds it."""

    value: bytes
    segment: int


class Segment:
    """What one segment still holds. `size_bytes` counts durable bytes only."""

    __slots__ = ("guards", "is_sealed", "live_bytes", "live_count", "number", "remembered", "size_bytes")

    def __init__(self, number: int, size_bytes: int, is_sealed: bool) -> None:
        self.number = number
        self.is_sealed = is_sealed
        self.size_bytes = size_bytes
        self.live_count = 0
        self.live_bytes = 0
        self.remembered: dict[int, int] = {}
        """Hour of DTN time until which they are remembered, to number of deletions."""
        self.guards: dict[int, int] = {}
        """Segment that a mark here is about, to number of such marks: it is needed while that one exists."""


class Contents:
    """The index over all segments."""

    def __init__(self) -> None:
        self.segments: dict[int, Segment] = {}
        self.where: dict[BundleId, int] = {}
        self.notes: dict[str, Note] = {}
        self.has_emptied = True
        """A sealed segment lost its last bundle since somebody looked."""
        self.unlinked: set[int] = set()
        """Segments whose removal may not be durable yet: after a power failure they may be back."""

    @property
    def live_bytes(self) -> int:
        """Encoded bundles that are not deleted. Any thread may ask: the copied list holds still."""
        return sum(segment.live_bytes for segment in list(self.segments.values()))

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size_bytes for segment in list(self.segments.values()))

    def put(self, bundle_id: BundleId, where: int) -> None:
        """A bundle lies there now, and no longer where an earlier one of this ID lay."""
        self.remove(bundle_id)
        self.where[bundle_id] = where
        segment = self.segments[where >> _SIZE_BITS]
        segment.live_count += 1
        segment.live_bytes += where & _SIZE_MASK

    def remove(self, bundle_id: BundleId) -> None:
        """This bundle is gone, if it was here."""
        where = self.where.pop(bundle_id, None)
        if where is not None:
            segment = self.segments[where >> _SIZE_BITS]
            segment.live_count -= 1
            segment.live_bytes -= where & _SIZE_MASK
            if not segment.live_count and segment.is_sealed:
                self.has_emptied = True

    def count_mark(self, segment: Segment, put_segment: int, remember_until_ms: int) -> None:
        """A deletion or release was written to `segment`."""
        if remember_until_ms:
            hour = remember_until_ms // _HOUR_MS
            segment.remembered[hour] = segment.remembered.get(hour, 0) + 1
        if put_segment not in (-1, segment.number):
            segment.guards[put_segment] = segment.guards.get(put_segment, 0) + 1

    def note(self, name: str, value: bytes, segment: int) -> None:
        """The newest value of a note; empty deletes it, which has to be remembered while older values lie around."""
        self.notes[name] = Note(value, segment)

    def may_exist(self, number: int) -> bool:
        """True while a power failure could bring this segment's records back."""
        return number in self.segments or number in self.unlinked

    def carry_bytes(self, segment: Segment, now_ms: int) -> int:
        """About how much would have to be carried on if this segment, all of whose bundles are gone, were unlinked."""
        hour_now = now_ms // _HOUR_MS
        marks = sum(count for hour, count in segment.remembered.items() if hour >= hour_now)
        marks += sum(count for number, count in segment.guards.items() if self.may_exist(number))
        return marks * MARK_BYTES

    def needs_delete(self, row: MarkRow, dying: int, now_ms: int) -> bool:
        """True when a deletion has to outlive its segment: still remembered, or its put is still in some file."""
        return row.remember_until_ms > now_ms or (row.put_segment != dying and self._is_guard(row))

    def needs_release(self, row: MarkRow) -> bool:
        """True when a release has to outlive its segment: the bundle is still here."""
        where = self.where.get(row_id(row))
        return where is not None and where >> _SIZE_BITS == row.put_segment

    def _is_guard(self, row: MarkRow) -> bool:
        return self.may_exist(row.put_segment)

    def notes_to_carry(self, dying: int) -> dict[str, bytes]:
        """Notes whose newest value lies in this segment; deletions only while an older value may be in some file."""
        oldest = min([*self.segments, *self.unlinked])
        return {
            name: note.value
            for name, note in self.notes.items()
            if note.segment == dying and (note.value or oldest < dying)
        }

    def forget_segment(self, number: int) -> None:
        """The segment was unlinked."""
        del self.segments[number]
        self.unlinked.add(number)
        for name in [name for name, note in self.notes.items() if note.segment == number]:
            del self.notes[name]
