# SPDX-License-Identifier: Apache-2.0
"""What a store still knows after a stop, a kill or a power failure.

Everything that was ever synced comes back. The tail of the last segment may be torn: it is dropped, and whatever
remains is made durable before anybody is told of it, since after a kill it may have been in the page cache alone.
Damage anywhere else is reported, and the groups around it survive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.store.contents import Contents, Segment
from meshd.store.disk import Disk
from meshd.store.file_names import large_name, large_number, segment_name, segment_number
from meshd.store.group_body import GroupBody, Marks
from meshd.store.large_file import stored_bytes
from meshd.store.record_format import SegmentHeader
from meshd.store.segment_scan import Damage, Group, SegmentScan, read_header

_DEAD_RECORDS_MAX: Final = 65_536
"""Records of deleted bundles are dropped when they are so many more than the live ones."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found; `records`, `known` and `notes` are what StoreRecovered wants."""

    records: Sequence[BundleRecord]
    known: Sequence[tuple[BundleId, int]]
    """Duplicate memory beyond the records: (ID, DTN time in ms until which it is remembered). A live bundle is known
    until it expires, and is here only when it is remembered for longer."""
    notes: dict[str, bytes]
    torn_bytes: int
    """Cut off the last segment: groups that were never acknowledged."""
    damage: Sequence[str]
    """What was lost although it had been durable, in words."""


@dataclass(slots=True)
class _Found:
    """A segment file before it is scanned."""

    number: int
    size_bytes: int
    header: SegmentHeader | None
    start: int


@dataclass(slots=True)
class Recovery:
    """One recovery: fills `contents` and yields what the agent gets."""

    disk: Disk
    contents: Contents
    records: list[BundleRecord] = field(default_factory=list)
    """In the order of `contents.where`, with those that are deleted by now in between."""
    remembered: dict[BundleId, int] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    torn_bytes: int = 0
    number_max: int = 0
    """Highest number seen, of a segment, or of a large bundle's file that may be gone while a record still names it:
    never used again."""
    cuts: dict[int, int] = field(default_factory=dict)
    """Segments that end before their files do."""

    def run(self, now_ms: int) -> Recovered:
        """Scan everything.

        Args:
            now_ms: DTN time; IDs remembered until then or less are left out (0: none is).

        Errors:
            StoreError: a segment is of another version, or what it says makes no sense.
            OSError: the disk failed.
        """
        found = self._find()
        large = {number for number in map(large_number, self.disk.names()) if number is not None}
        self.number_max = max([segment.number for segment in found] + list(large), default=0)
        ends: dict[int, int] = {}
        for segment in found:
            if segment.header is not None:
                ends.update(segment.header.ends)
        last = self._drop_unborn(found)
        for segment in found:
            self._scan(segment, ends.get(segment.number), segment is last)
        self.contents.recount()
        self._check_large(large)
        self.contents.remove(list(self.contents.held))  # of submissions never finished: nobody was told of them
        self._drop_dead()
        self._unlink_dead(large)
        notes = {name: note.value for name, note in self.contents.notes.items() if note.value}
        return Recovered(self.records, self._known(now_ms), notes, self.torn_bytes, self.damage)

    def _find(self) -> list[_Found]:
        numbers = sorted(number for number in map(segment_number, self.disk.names()) if number is not None)
        return [self._open(number) for number in numbers]

    def _open(self, number: int) -> _Found:
        name = segment_name(number)
        size_bytes = self.disk.size_bytes(name)
        header, start = read_header(self.disk, name)
        return _Found(number, size_bytes, header, min(start, size_bytes))

    def _drop_unborn(self, found: list[_Found]) -> _Found | None:
        """Unlink segments at the end whose header never became durable; the last one that did."""
        while found and found[-1].header is None and not self._has_synced_groups(found[-1]):
            segment = found.pop()
            self.torn_bytes += segment.size_bytes
            self.disk.unlink(segment_name(segment.number))
            self.contents.unlinked.add(segment.number)
        return found[-1] if found else None

    def _has_synced_groups(self, segment: _Found) -> bool:
        scan = SegmentScan(
            self.disk, segment_name(segment.number), segment.number, segment.start, segment.size_bytes, is_last=True
        )
        return any(isinstance(item, Group) and item.head.synced_bytes > 0 for item in scan.groups())

    def _scan(self, found: _Found, end: int | None, is_last: bool) -> None:
        name = segment_name(found.number)
        stop = found.size_bytes if end is None else min(end, found.size_bytes)
        segment = self.contents.segments[found.number] = Segment(found.number, stop, is_sealed=True)
        if found.header is None and found.size_bytes and end != 0:
            self.damage.append(f"{name}: the header is damaged")
        if stop < found.size_bytes:
            self.cuts[found.number] = stop
        if end is not None and end > found.size_bytes:
            self.damage.append(f"{name}: {end - found.size_bytes} bytes are missing at its end")
        for item in SegmentScan(self.disk, name, found.number, found.start, stop, is_last).groups():
            if isinstance(item, Group):
                self._apply(item, segment)
            elif item.is_tail:
                segment.size_bytes = item.offset
                self.torn_bytes += item.size_bytes
            else:
                self._report(name, item)
        if is_last:
            self._settle(name, segment.size_bytes)

    def _report(self, name: str, damage: Damage) -> None:
        self.damage.append(f"{name}: {damage.size_bytes} bytes from offset {damage.offset} on are damaged and lost")

    def _settle(self, name: str, size_bytes: int) -> None:
        """Cut the torn tail off; always: it also makes durable what an earlier run unlinked before it was killed."""
        self.disk.truncate(name, size_bytes)
        self.contents.unlinked.clear()
        self.disk.datasync(name)

    def _apply(self, group: Group, segment: Segment) -> None:
        """Do a group's changes once more; what each segment holds then is counted at the end."""
        body, contents = group.body, self.contents
        if body.put_count:
            self._apply_puts(body, segment)
        deletes, releases = body.deletes, body.releases
        self._apply_deletes(deletes)
        segment.count_marks(deletes)
        for bundle_id, put_segment, _ in zip(*releases, strict=True):
            if bundle_id in contents.held and contents.needs_release(bundle_id, put_segment):
                contents.held.discard(bundle_id)
        segment.count_marks(releases)
        for name, value in body.notes.items():
            contents.note(name, value, segment.number)

    def _apply_puts(self, body: GroupBody, segment: Segment) -> None:
        contents, where, puts = self.contents, self.contents.where, body.puts
        expected = len(where) + len(puts)
        where.update([(record.id, record.payload) for record in puts])
        if len(where) != expected:
            for record in puts:  # put before: to the end with it, where its new record is
                where[record.id] = where.pop(record.id)
        if contents.held:
            contents.held.difference_update([record.id for record in puts])
        if body.has_held:
            contents.held.update([record.id for record in puts if record.held])
            puts = [msgspec.structs.replace(record, held=False) for record in puts]
        if body.has_large:
            files = [record.payload.segment for record in puts if record.payload.segment != segment.number]
            contents.large.update(dict.fromkeys(files, segment.number))
            self.number_max = max([self.number_max, *files])
        self.records += puts
        if len(self.records) > 2 * len(where) + _DEAD_RECORDS_MAX:
            self._drop_dead()

    def _drop_dead(self) -> None:
        """Keep the records of live bundles: those that `where` refers to, in the same order."""
        where = self.contents.where
        if len(self.records) == len(where):
            return
        refs = iter(where.values())
        ref = next(refs, None)
        live = []
        for record in self.records:
            if record.payload is ref:
                live.append(record)
                ref = next(refs, None)
        self.records = live

    def _apply_deletes(self, deletes: Marks) -> None:
        """Delete what was put up to the segment that each mark names; a later bundle of the same ID stays."""
        contents, remembered = self.contents, self.remembered
        where, large, known_until = contents.where, contents.large, remembered.get
        for bundle_id, put_segment, until_ms in zip(*deletes, strict=True):  # a hot loop after many deliveries
            ref = where.get(bundle_id)
            if ref is not None and (contents.segment_of(ref) if large else ref.segment) <= put_segment:
                del where[bundle_id]
                contents.held.discard(bundle_id)
            if until_ms > known_until(bundle_id, 0):
                remembered[bundle_id] = until_ms

    def _check_large(self, files: set[int]) -> None:
        """Large bundles whose files are not as their records say are lost."""
        if not self.contents.large:
            return
        lost = []
        for bundle_id, ref in self.contents.where.items():
            if ref.segment in self.contents.large:
                problem = self._large_problem(ref, files)
                if problem:
                    self.damage.append(problem)
                    lost.append(bundle_id)
        self.contents.remove(lost)

    def _large_problem(self, ref: PayloadRef, files: set[int]) -> str:
        name = large_name(ref.segment)
        if ref.segment not in files:
            return f"{name}: the file is missing, its large bundle is lost"
        header, start = read_header(self.disk, name)
        if header is None or start != ref.offset:
            return f"{name}: the header is damaged, its large bundle is lost"
        missing_bytes = ref.offset + stored_bytes(ref.size_bytes) - self.disk.size_bytes(name)
        return f"{name}: {missing_bytes} bytes are missing, its large bundle is lost" if missing_bytes > 0 else ""

    def _unlink_dead(self, files: set[int]) -> None:
        """Files of large bundles that were never finished, or deleted: everything that says so is durable by now."""
        for number in files - self.contents.large.keys():
            self.disk.unlink(large_name(number))
        self.contents.dead_files.clear()

    def _known(self, now_ms: int) -> list[tuple[BundleId, int]]:
        """What is remembered beyond the live bundles' own lifetime."""
        remembered, where = self.remembered, self.contents.where
        if where and not where.keys().isdisjoint(remembered):
            for record in self.records:
                if remembered.get(record.id, record.expiry_ms + 1) <= record.expiry_ms:
                    del remembered[record.id]
        return [row for row in remembered.items() if row[1] > now_ms]
