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

from meshd.base.errors import StoreError
from meshd.bundle.errors import EidError
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.store.contents import Contents, Segment, mark_bytes, place
from meshd.store.disk import Disk
from meshd.store.record_format import (
    CRC_BYTES,
    SEGMENT_HEAD_BYTES,
    SEGMENT_HEADER_MAX_BYTES,
    SegmentHeader,
    decode_segment_header,
    put_record,
    row_id,
)
from meshd.store.segment_scan import Damage, Group, SegmentScan

_SUFFIX: Final = ".seg"
_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found; `records`, `known` and `notes` are what StoreRecovered wants."""

    records: Sequence[BundleRecord]
    known: Sequence[tuple[BundleId, int]]
    """Duplicate memory: (ID, DTN time in ms until which it is remembered), live bundles included."""
    notes: dict[str, bytes]
    torn_bytes: int
    """Cut off the last segment: groups that were never acknowledged."""
    damage: Sequence[str]
    """What was lost although it had been durable, in words."""


def segment_name(number: int) -> str:
    """The file of a segment."""
    return f"{number:0{_DIGITS}d}{_SUFFIX}"


def segment_number(name: str) -> int | None:
    """The segment of a file; None for a file that is none of ours."""
    digits = name.removesuffix(_SUFFIX)
    if name == digits or len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)


def read_header(disk: Disk, name: str) -> tuple[SegmentHeader | None, int]:
    """A segment's header, None when it is torn or damaged, and where to look for the first group."""
    decoded = decode_segment_header(disk.read(name, 0, SEGMENT_HEADER_MAX_BYTES), name)
    return decoded or (None, SEGMENT_HEAD_BYTES)


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
    records: dict[BundleId, BundleRecord] = field(default_factory=dict)
    remembered: dict[BundleId, int] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    torn_bytes: int = 0
    number_max: int = 0
    """Highest segment number seen: never used again."""
    cuts: dict[int, int] = field(default_factory=dict)
    """Segments that end before their files do."""

    def run(self, now_ms: int) -> Recovered:
        """Scan everything.

        Args:
            now_ms: DTN time; IDs remembered until then or less are left out (0: none is).

        Errors:
            StoreError: a segment is of another version, or its names can't be read.
            OSError: the disk failed.
        """
        found = self._find()
        self.number_max = max((segment.number for segment in found), default=0)
        ends: dict[int, int] = {}
        for segment in found:
            if segment.header is not None:
                ends.update(segment.header.ends)
        last = self._drop_unborn(found)
        for segment in found:
            self._scan(segment, ends.get(segment.number), segment is last)
        self._forget_held()
        notes = {name: note.value for name, note in self.contents.notes.items() if note.value}
        return Recovered(list(self.records.values()), self._known(now_ms), notes, self.torn_bytes, self.damage)

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
        """Do a group's changes once more."""
        try:
            self._apply_puts(group, segment)
        except EidError as error:
            raise StoreError(f"{segment_name(segment.number)} names an impossible endpoint: {error}") from error
        body, records = group.body, self.records
        for row in body.deletes:
            self._apply_delete(row_id(row), row.put_segment, row.remember_until_ms)
            segment.count_mark(row.put_segment, row.remember_until_ms, mark_bytes(row.source))
        for row in body.releases:
            record = records.get(row_id(row))
            if record is not None and record.payload.segment == row.put_segment:
                records[record.id] = msgspec.structs.replace(record, held=False)
            segment.count_mark(row.put_segment, 0, mark_bytes(row.source))
        for name, value in body.notes.items():
            self.contents.note(name, value, segment.number)

    def _apply_puts(self, group: Group, segment: Segment) -> None:
        number, offset = segment.number, group.head.bundles_offset
        for row in group.body.puts:
            bundle_id = row_id(row)
            self.records[bundle_id] = put_record(row, bundle_id, PayloadRef(number, offset, row.size_bytes))
            self.contents.put(bundle_id, place(number, row.size_bytes))
            offset += row.size_bytes + CRC_BYTES

    def _apply_delete(self, bundle_id: BundleId, put_segment: int, until_ms: int) -> None:
        """Delete what was put up to that segment; a later bundle of the same ID stays."""
        record = self.records.get(bundle_id)
        if record is not None and record.payload.segment <= put_segment:
            del self.records[bundle_id]
            self.contents.remove(bundle_id)
        if until_ms:
            self.remembered[bundle_id] = max(until_ms, self.remembered.get(bundle_id, 0))

    def _forget_held(self) -> None:
        """Parts of messages whose submission was never finished: nobody was told that they are here."""
        for bundle_id in [record.id for record in self.records.values() if record.held]:
            del self.records[bundle_id]
            self.contents.remove(bundle_id)

    def _known(self, now_ms: int) -> list[tuple[BundleId, int]]:
        """The duplicate memory: what is here, and what is still remembered."""
        records, remembered = self.records, self.remembered
        here = [
            (key, max(record.expiry_ms, remembered[key]) if key in remembered else record.expiry_ms)
            for key, record in records.items()
        ]
        gone = [(key, until) for key, until in remembered.items() if until > now_ms and key not in records]
        return here + gone
