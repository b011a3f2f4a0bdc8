# SPDX-License-Identifier: Apache-2.0
"""Looking for flipped bits in what nobody reads: everything durable, from the medium, a little at a time.

A damaged live bundle is reported as a row, for its owner to drop it: it is never delivered wrong, since reading checks
the same CRC, but found early its sender may still be reachable. Damaged groups are reported in words: their bundles are
still known, and are lost at the next start. A segment whose sync has failed comes first, since nobody knows what a
disk that fails has done to the rest. How fast, and when, is for the caller: SCRUB_BYTES_PER_S is what it should allow.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from meshd.base.errors import StoreError
from meshd.bundle.crc import crc32c
from meshd.bundle.record import BundleId, PayloadRef
from meshd.node.events import StoredRow
from meshd.store.contents import Contents, Segment
from meshd.store.disk import Disk
from meshd.store.errors import reason
from meshd.store.file_names import large_name, segment_name
from meshd.store.large_file import read_extent
from meshd.store.record_format import CRC_BYTES, pack_crc
from meshd.store.segment_scan import Damage, Group, scan_segment

SCRUB_BYTES_PER_S: Final = 1024 * 1024
"""A terabyte takes twelve days, an idle node under a hundredth of a core."""
_PIECE_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class ScrubReport:
    """What one step has found."""

    read_bytes: int = 0
    damaged: list[StoredRow] = field(default_factory=list)
    """Live bundles that can't be read any more."""
    problems: list[str] = field(default_factory=list)
    """Everything that is damaged, in words."""
    is_round_done: bool = False
    """True: all has been looked at since the last time that this was true."""


class Scrubber:
    """Goes round and round through all segments and large bundles. One thread, the one that commits."""

    def __init__(self, disk: Disk, contents: Contents) -> None:
        self._disk = disk
        self._contents = contents
        self._suspects: deque[int] = deque()
        self._report = ScrubReport()
        self._walk: Iterator[int] = iter(())
        self._is_walking = False

    def suspect(self, number: int) -> None:
        """Look at this segment next."""
        self._suspects.append(number)

    def step(self, max_bytes: int) -> ScrubReport:
        """Read about this many bytes, at least one group, and report."""
        self._report = report = ScrubReport()
        if not self._is_walking:
            self._walk, self._is_walking = self._round(), True
        while report.read_bytes < max_bytes:
            size_bytes = next(self._walk, None)
            if size_bytes is None:
                self._is_walking = False
                report.is_round_done = True
                break
            report.read_bytes += size_bytes
        return report

    def _round(self) -> Iterator[int]:
        """Everything once; yields how much was read, piece by piece."""
        for number in sorted(self._contents.segments):
            yield from self._suspected()
            yield from self._segment(number)
        yield from self._suspected()
        files = list(self._contents.large)
        owners = {ref.segment: key for key, ref in self._contents.where.items() if ref.segment in self._contents.large}
        for number in files:
            if number in owners:
                yield from self._large(owners[number])

    def _suspected(self) -> Iterator[int]:
        while self._suspects:
            yield from self._segment(self._suspects.popleft())

    def _segment(self, number: int) -> Iterator[int]:
        segment = self._contents.segments.get(number)
        if segment is None or not segment.size_bytes:
            return
        name = segment_name(number)
        try:
            self._disk.forget_cache(name)
            for item in scan_segment(self._disk, number, segment.size_bytes):
                if isinstance(item, Damage):
                    segment.is_damaged = True
                    self._say(f"{name}: {item.size_bytes} bytes from offset {item.offset} on are damaged")
                    yield item.size_bytes
                else:
                    self._check(item, segment)
                    yield item.head.end - item.head.offset
                if number not in self._contents.segments:
                    return
        except OSError as error:
            self._say(f"{name} can't be read: {reason(error)}")

    def _check(self, group: Group, segment: Segment) -> None:
        head = group.head
        if not head.bundle_bytes:
            return
        where = self._contents.where
        live = [(record.id, record.payload) for record in group.body.puts if where.get(record.id) == record.payload]
        for key, ref in live:
            if ref.segment == segment.number:
                data = self._disk.read(segment_name(ref.segment), ref.offset, ref.size_bytes + CRC_BYTES)
                if data[ref.size_bytes :] != pack_crc(crc32c(data[: ref.size_bytes])):
                    segment.is_damaged = True
                    self._lose(key, ref, f"{segment_name(ref.segment)}: the bundle at offset {ref.offset} is damaged")

    def _large(self, key: BundleId) -> Iterator[int]:
        ref = self._contents.where.get(key)
        if ref is None or ref.segment not in self._contents.large:
            return
        try:
            self._disk.forget_cache(large_name(ref.segment))
            for offset in range(0, ref.size_bytes, _PIECE_BYTES):
                yield len(read_extent(self._disk, ref, offset, _PIECE_BYTES))
                if self._contents.where.get(key) != ref:
                    return
        except (StoreError, OSError) as error:
            text = str(error) if isinstance(error, StoreError) else reason(error)
            self._lose(key, ref, text)

    def _lose(self, key: BundleId, ref: PayloadRef, problem: str) -> None:
        self._report.damaged.append(StoredRow(key, ref))
        self._say(problem)

    def _say(self, problem: str) -> None:
        self._report.problems.append(problem)
