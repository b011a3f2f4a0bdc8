# SPDX-License-Identifier: Apache-2.0
"""What the segment log knows of its own contents: where each live bundle lies, what each segment holds, the notes.

Kept small (a dictionary entry per live bundle, nothing per deleted one): the agent has the records, and the ID and the
place here are the objects that it holds too. Only what is durable is ever entered.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from meshd.bundle.record import BundleId, PayloadRef
from meshd.store.columns import packed
from meshd.store.group_body import Marks

NOTE_NAMES_MAX: Final = 16384
"""Notes by name, counting deleted ones whose deletion still matters; a group that needs more is refused."""
NOTE_SIZE_MAX_BYTES: Final = 64 * 1024
MARK_BYTES: Final = 40
"""Size of a mark in a segment, nearly: what carrying it on costs."""
SPAN_MS: Final = 5 * 60_000
"""Marks that may be forgotten within the same span are counted together."""


class Note(NamedTuple):
    """A note's newest value (empty: deleted) and the segment that holds it."""

    value: bytes
    segment: int


class Segment:
    """What one segment still holds. `size_bytes` counts durable bytes only."""

    __slots__ = ("is_damaged", "is_sealed", "live_bytes", "live_count", "marks", "number", "size_bytes")

    def __init__(self, number: int, size_bytes: int, is_sealed: bool) -> None:
        self.number = number
        self.is_sealed = is_sealed
        self.is_damaged = False
        """A live bundle in it could not be read: it is not compacted."""
        self.size_bytes = size_bytes
        self.live_count = 0
        self.live_bytes = 0
        """Without large bundles, which lie in files of their own."""
        self.marks: dict[tuple[int, int], int] = {}
        """Number of deletions and releases by (span of DTN time in which they may be forgotten, segment that they are
        about): they are needed until that span is over, and while that segment exists."""

    def count_marks(self, marks: Marks) -> None:
        """Deletions or releases were written here."""
        if not marks.ids:
            return
        abouts, untils = packed(marks.put_segments), packed(marks.remember_until_ms)
        if len(abouts) == len(untils) == 1:
            self._count(untils[0] // SPAN_MS, abouts[0], len(marks.ids))
            return
        spans = [until_ms // SPAN_MS for until_ms in marks.remember_until_ms]
        for (span, about), count in Counter(zip(spans, marks.put_segments, strict=True)).items():
            self._count(span, about, count)

    def _count(self, span: int, about: int, count: int) -> None:
        key = (span, -1 if about == self.number else about)
        self.marks[key] = self.marks.get(key, 0) + count


class Contents:
    """The index over all segments."""

    def __init__(self) -> None:
        self.segments: dict[int, Segment] = {}
        self.where: dict[BundleId, PayloadRef] = {}
        self.held: set[BundleId] = set()
        """Those whose release is not durable yet."""
        self.large: dict[int, int] = {}
        """File number of each live large bundle to the segment that holds its record."""
        self.large_bytes = 0
        self.finished: dict[int, PayloadRef] = {}
        """Files of large bundles that are durable as a whole, and wait for their record."""
        self.unfinished: dict[int, int] = {}
        """Files of large bundles that are still being written, and how much of each there is."""
        self.dead_files: set[int] = set()
        """Files of large bundles that are gone."""
        self.notes: dict[str, Note] = {}
        self.has_emptied = True
        """A sealed segment lost its last bundle since somebody looked."""
        self.unlinked: set[int] = set()
        """Segments whose removal may not be durable yet: after a power failure they may be back."""

    @property
    def live_bytes(self) -> int:
        """Encoded bundles that are not deleted. Any thread may ask: the copied list holds still."""
        return sum(segment.live_bytes for segment in list(self.segments.values())) + self.large_bytes

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments, and of large bundles."""
        streams_bytes = sum(self.unfinished.copy().values())
        streams_bytes += sum(ref.size_bytes for ref in list(self.finished.values()))
        return sum(segment.size_bytes for segment in list(self.segments.values())) + self.large_bytes + streams_bytes

    def segment_of(self, ref: PayloadRef) -> int:
        """The segment with the record of the bundle that lies there."""
        return self.large.get(ref.segment, ref.segment)

    def put(self, refs: Mapping[BundleId, PayloadRef], segment: Segment) -> None:
        """These bundles, none of which is here, lie there now; their records are in this segment."""
        number = segment.number
        self.where.update(refs)
        segment.live_count += len(refs)
        segment.live_bytes += sum([ref.size_bytes for ref in refs.values() if ref.segment == number])
        for ref in [ref for ref in refs.values() if ref.segment != number]:
            self.large[ref.segment] = number
            self.large_bytes += ref.size_bytes
            self.dead_files.discard(ref.segment)

    def recount(self) -> None:
        """Count anew what each segment holds, and which files are alive: `where` was filled without that."""
        self.large = {ref.segment: self.large[ref.segment] for ref in self.where.values() if ref.segment in self.large}
        self.large_bytes = 0
        for ref in self.where.values():  # a hot loop at a start
            if ref.segment in self.large:
                self.large_bytes += ref.size_bytes
                self.segments[self.large[ref.segment]].live_count += 1
            else:
                segment = self.segments[ref.segment]
                segment.live_count += 1
                segment.live_bytes += ref.size_bytes

    def remove(self, ids: Iterable[BundleId]) -> None:
        """These bundles are gone, those that were here."""
        pop = self.where.pop
        gone = [ref for ref in [pop(bundle_id, None) for bundle_id in ids] if ref is not None]
        by_number = {ref.segment: gone for ref in gone[:1]}
        if len({ref.segment for ref in gone}) > 1:
            by_number = {}
            for ref in gone:
                by_number.setdefault(ref.segment, []).append(ref)
        for number, refs in by_number.items():
            size_bytes = sum([ref.size_bytes for ref in refs])
            if number in self.large:
                self._leave(self.large.pop(number), 1, 0)
                self.large_bytes -= size_bytes
                self.dead_files.add(number)
                self.has_emptied = True
            else:
                self._leave(number, len(refs), size_bytes)
        if self.held:
            self.held.difference_update(ids)

    def _leave(self, number: int, count: int, size_bytes: int) -> None:
        """Bundles are gone from this segment."""
        segment = self.segments[number]
        segment.live_count -= count
        segment.live_bytes -= size_bytes
        if not segment.live_count and segment.is_sealed:
            self.has_emptied = True

    def note(self, name: str, value: bytes, segment: int) -> None:
        """The newest value of a note; empty deletes it, which has to be remembered while older values lie around."""
        self.notes[name] = Note(value, segment)

    def may_exist(self, number: int) -> bool:
        """True while a power failure could bring this segment's records back."""
        return number in self.segments or number in self.unlinked

    def carry_bytes(self, segment: Segment, now_ms: int) -> int:
        """About how much would have to be carried on if this segment were unlinked, live bundles apart."""
        span_now = now_ms // SPAN_MS
        marks = [count for (span, about), count in segment.marks.items() if span >= span_now or self.may_exist(about)]
        notes = self.notes_to_carry(segment.number).items()
        return MARK_BYTES * sum(marks) + sum(len(name) + len(value) for name, value in notes)

    def needs_delete(self, put_segment: int, remember_until_ms: int, dying: int, now_ms: int) -> bool:
        """True when a deletion has to outlive its segment: still remembered, or its put is still in some file."""
        return remember_until_ms > now_ms or (put_segment != dying and self.may_exist(put_segment))

    def needs_release(self, bundle_id: BundleId, put_segment: int) -> bool:
        """True when a release has to outlive its segment: the bundle is still here."""
        ref = self.where.get(bundle_id)
        return ref is not None and self.segment_of(ref) == put_segment

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
