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
MARK_BYTES: Final = 40
"""A mark without the source's text."""
_HOUR_MS: Final = 3_600_000
_SIZE_BITS: Final = 32
_SIZE_MASK: Final = (1 << _SIZE_BITS) - 1


def place(segment: int, size_bytes: int) -> int:
    """Where a bundle lies and how large it is, in one integer: a million of them have to be cheap."""
    return segment << _SIZE_BITS | size_bytes


def place_segment(where: int) -> int:
    """The segment of a place."""
    return where >> _SIZE_BITS


def mark_bytes(source: str) -> int:
    """Size of a mark in a segment, nearly: what carrying it on costs."""
    return MARK_BYTES + len(source)


class Note(NamedTuple):
    """A note's newest value (empty: deleted) and the segment that holds it."""

    value: bytes
    segment: int


class Segment:
    """What one segment still holds. `size_bytes` counts durable bytes only."""

    __slots__ = ("is_sealed", "live_bytes", "live_count", "marks", "number", "size_bytes")

    def __init__(self, number: int, size_bytes: int, is_sealed: bool) -> None:
        self.number = number
        self.is_sealed = is_sealed
        self.size_bytes = size_bytes
        self.live_count = 0
        self.live_bytes = 0
        self.marks: dict[tuple[int, int], int] = {}
        """Bytes of deletions and releases by (hour of DTN time until which they are remembered, segment that they are
        about): they are needed until that hour is over, and while that segment exists."""

    def count_mark(self, put_segment: int, remember_until_ms: int, size_bytes: int) -> None:
        """A deletion or release was written here."""
        key = (remember_until_ms // _HOUR_MS, -1 if put_segment == self.number else put_segment)
        self.marks[key] = self.marks.get(key, 0) + size_bytes


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
        if bundle_id in self.where:
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

    def note(self, name: str, value: bytes, segment: int) -> None:
        """The newest value of a note; empty deletes it, which has to be remembered while older values lie around."""
        self.notes[name] = Note(value, segment)

    def may_exist(self, number: int) -> bool:
        """True while a power failure could bring this segment's records back."""
        return number in self.segments or number in self.unlinked

    def carry_bytes(self, segment: Segment, now_ms: int) -> int:
        """About how much would have to be carried on if this segment, all of whose bundles are gone, were unlinked."""
        hour_now = now_ms // _HOUR_MS
        marks = [count for (hour, about), count in segment.marks.items() if hour >= hour_now or self.may_exist(about)]
        return sum(marks) + sum(len(name) + len(value) for name, value in self.notes_to_carry(segment.number).items())

    def needs_delete(self, row: MarkRow, dying: int, now_ms: int) -> bool:
        """True when a deletion has to outlive its segment: still remembered, or its put is still in some file."""
        return row.remember_until_ms > now_ms or (row.put_segment != dying and self.may_exist(row.put_segment))

    def needs_release(self, row: MarkRow) -> bool:
        """True when a release has to outlive its segment: the bundle is still here."""
        where = self.where.get(row_id(row))
        return where is not None and where >> _SIZE_BITS == row.put_segment

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
