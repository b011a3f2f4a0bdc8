# SPDX-License-Identifier: Apache-2.0
"""Which live bundles to move out of a segment that is mostly dead, so that it can be unlinked (DESIGN section 8).

Moved are at most MOVE_MAX_BYTES at a time, since groups that somebody waits for come in between. Writing them, and
unlinking the segment once nothing is left in it, is the segment log's work; a crash in between finds each bundle in the
old place, or in the new one, which wins.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from meshd.bundle.crc import crc32c
from meshd.bundle.record import BundleRecord
from meshd.store.contents import MARK_BYTES, Contents, Segment
from meshd.store.disk import Disk
from meshd.store.file_names import segment_name
from meshd.store.record_format import CRC_BYTES, pack_crc
from meshd.store.segment_scan import Group, scan_segment

DEAD_FACTOR: Final = 4
"""A segment is compacted when what would have to be written again is at most this part of it: each byte that is written
again frees three, so that moving can never take more of the disk's time than a third of what came in.
"""
MOVE_MAX_BYTES: Final = 1024 * 1024
MOVE_MAX_BUNDLES: Final = 512
_RECORD_BYTES: Final = 100
"""A moved bundle's metadata in a segment, nearly: its row, its mark about the old place and the CRC."""


class Compaction:
    """Goes through one mostly dead segment after the other.

    Args:
        move_max_bytes: given out at a time, and one bundle more.
    """

    def __init__(self, disk: Disk, contents: Contents, move_max_bytes: int = MOVE_MAX_BYTES) -> None:
        self._disk = disk
        self._contents = contents
        self._move_max_bytes = move_max_bytes
        self._segment: Segment | None = None
        self._batches: Iterator[list[BundleRecord]] = iter(())

    def next_move(self, now_ms: int) -> tuple[Segment, list[BundleRecord]] | None:
        """A segment and live bundles of it that should lie elsewhere, with their bytes; None when there is none.

        Errors:
            OSError: the disk failed.
        """
        while True:
            segment = self._segment
            if segment is None or not segment.live_count or segment.number not in self._contents.segments:
                segment = self._segment = self._find(now_ms)
                if segment is None:
                    return None
                self._batches = self._live(segment)
            batch = next(self._batches, [])
            if batch:
                return segment, batch
            segment.is_damaged = True  # a live bundle of it can't be found or read
            self._segment = None

    def restart(self) -> None:
        """What was given out last was not moved."""
        self._segment = None

    def give_up(self) -> None:
        """The segment can't be read: it stays as it is until all of its bundles are gone, and is not tried again."""
        if self._segment is not None:
            self._segment.is_damaged = True
            self._segment = None

    def _find(self, now_ms: int) -> Segment | None:
        for segment in self._contents.segments.values():
            if not segment.is_sealed or segment.is_damaged or not segment.live_count:
                continue
            cost_bytes = segment.live_bytes + _RECORD_BYTES * segment.live_count
            if DEAD_FACTOR * cost_bytes > segment.size_bytes:
                continue
            if DEAD_FACTOR * (cost_bytes + self._contents.carry_bytes(segment, now_ms)) <= segment.size_bytes:
                return segment
        return None

    def _live(self, segment: Segment) -> Iterator[list[BundleRecord]]:
        batch: list[BundleRecord] = []
        size_bytes = 0
        for item in scan_segment(self._disk, segment.number, segment.size_bytes):
            for record in item.body.puts if isinstance(item, Group) else ():
                loaded = self._load(record, segment) if self._is_live(record, segment) else None
                if loaded is None:
                    continue
                batch.append(loaded)
                size_bytes += len(loaded.payload.inline or b"")
                if size_bytes >= self._move_max_bytes or len(batch) >= MOVE_MAX_BUNDLES:
                    yield batch
                    batch, size_bytes = [], 0
        if batch:
            yield batch

    def _is_live(self, record: BundleRecord, segment: Segment) -> bool:
        ref = self._contents.where.get(record.id)
        return ref == record.payload and self._contents.segment_of(ref) == segment.number

    def _load(self, record: BundleRecord, segment: Segment) -> BundleRecord | None:
        """The record with the bundle's bytes; None when they are damaged: reading and scrubbing report that."""
        ref, held = record.payload, record.id in self._contents.held
        if ref.segment != segment.number:
            return msgspec.structs.replace(record, held=held)
        data = self._disk.read(segment_name(ref.segment), ref.offset, ref.size_bytes + CRC_BYTES)
        bundle = data[: ref.size_bytes]
        if data[ref.size_bytes :] != pack_crc(crc32c(bundle)):
            return None
        return msgspec.structs.replace(record, held=held, payload=msgspec.structs.replace(ref, inline=bundle))


def move_bytes(records: list[BundleRecord]) -> int:
    """About what these take in their new place."""
    return sum([len(record.payload.inline or b"") + _RECORD_BYTES + MARK_BYTES for record in records])
