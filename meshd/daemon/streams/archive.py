# SPDX-License-Identifier: Apache-2.0
"""What one node has of one stream on its disk: pieces, manifests, and which spans have been compared with their digest.

Records are appended to segments by the archive's one writer, in a thread; what they say counts here when they are on
the disk. What is read may be read from any thread. Segments that are wholly older than the archive's window go.
"""

import errno
import os
import shutil
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from meshd.daemon.state_file import DIRECTORY_MODE, sync_directory
from meshd.daemon.streams.segment import (
    MAGIC,
    SEGMENT_MAX_BYTES,
    Contents,
    Kind,
    Record,
    SegmentDamaged,
    encode_record,
    note,
    read_contents,
    read_record,
    record_bytes,
    scan_segment,
    segment_path,
    write_contents,
)
from meshd.stream.archive_index import BLOCK_CUTS, ArchiveIndex
from meshd.stream.manifest import Manifest, ManifestError, cut_bytes, decode_manifest_untrusted
from meshd.stream.piece import Piece, PieceError, Tier, decode_piece_untrusted

_TIERS: Final = len(Tier)
_TIER_BITS: Final = 2
_OFFSET_BITS: Final = 32
_UNREADABLE: Final = frozenset((errno.ENOENT, errno.EIO))
"""The segment has just been dropped, or the disk is bad: the record is not there."""


def piece_key(sequence: int, tier: int) -> int:
    """Of the record of a piece."""
    return sequence << _TIER_BITS | tier


class Archive:
    """Of one stream, in a folder of its own."""

    def __init__(self, stream: bytes, folder: Path) -> None:
        """Nothing is read yet."""
        self.stream = stream
        self.folder = folder
        self.index = ArchiveIndex()
        self.settled: set[int] = set()
        """Spans that are whole and identical."""
        self.manifests: dict[int, int] = {}
        """Where each span's manifest is."""
        self.newest_ms = 0
        self.size_bytes = 0
        self._places: dict[int, array[int]] = {}
        """Where each piece of a block of cuts is: one more than its place; 0: not here."""
        self._segments: dict[int, tuple[int, int]] = {}
        """Size, and the newest ingest time in it."""
        self._open: Contents | None = None
        """Of the segment that is appended to."""
        self._descriptor = -1
        self._last = 0

    def recover(self) -> None:
        """Read what is there. Blocks. Errors: OSError."""
        self.folder.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        for path in sorted(self.folder.glob("*.seg")):
            number = int(path.stem)
            contents = read_contents(path)
            if contents is None:
                contents = scan_segment(path)
                write_contents(path, contents)
            for kind, key, offset in contents.rows():
                self.note_place(kind, key, number << _OFFSET_BITS | offset)
            self.newest_ms = max(self.newest_ms, contents.newest_ms)
            self._segments[number] = contents.size_bytes, contents.newest_ms or self.newest_ms
            self.size_bytes += contents.size_bytes
            self._last = number

    # In the writer's thread

    def write(self, records: Sequence[Record]) -> list[int]:
        """Append these: their places; durable on return. Errors: OSError: none of them counts."""
        places: list[int] = []
        try:
            for record in records:
                if self._open is None or self._open.size_bytes >= SEGMENT_MAX_BYTES:
                    self.close()
                    self._begin_segment()
                assert self._open is not None
                data = encode_record(record)
                _write_all(self._descriptor, data, self._open.size_bytes)
                places.append(
                    self._last << _OFFSET_BITS | note(self._open, record.kind, record.key, len(record.content))
                )
                # What has no time of its own stays as long as the newest piece of its days.
                self._open.newest_ms = max(self._open.newest_ms, record.ingest_ms or self.newest_ms)
            if records:
                os.fdatasync(self._descriptor)
        except OSError:
            self._give_up_segment()
            raise
        return places

    def close(self) -> None:
        """Finish the segment that is appended to. Errors: OSError."""
        if self._open is None:
            return
        os.fdatasync(self._descriptor)
        os.close(self._descriptor)
        contents, self._open = self._open, None
        write_contents(segment_path(self.folder, self._last), contents)

    def drop_segments(self, numbers: Sequence[int]) -> list[Contents]:
        """Remove these from the disk: what was in them. Errors: OSError."""
        dropped = []
        for number in numbers:
            path = segment_path(self.folder, number)
            dropped.append(read_contents(path) or scan_segment(path))
            path.unlink(missing_ok=True)
            path.with_suffix(".toc").unlink(missing_ok=True)
        return dropped

    def remove(self) -> None:
        """Remove all of it from the disk. Errors: OSError."""
        if self._open is not None:
            os.close(self._descriptor)
            self._open = None
        shutil.rmtree(self.folder, ignore_errors=False)

    def _begin_segment(self) -> None:
        self._last += 1
        self.folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        path = segment_path(self.folder, self._last)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._open = Contents()
        _write_all(self._descriptor, MAGIC, 0)
        sync_directory(self.folder)

    def _give_up_segment(self) -> None:
        """What of it counted stays; a start reads it record by record."""
        if self._open is not None:
            os.close(self._descriptor)
            self._open = None
            if self._last not in self._segments:
                segment_path(self.folder, self._last).unlink(missing_ok=True)

    # In the daemon's thread

    def written(self, records: Sequence[Record], places: Sequence[int]) -> None:
        """These are on the disk now."""
        for record, place in zip(records, places, strict=True):
            self.note_place(record.kind, record.key, place)
            number = place >> _OFFSET_BITS
            if number not in self._segments:
                self._segments[number] = len(MAGIC), 0
                self.size_bytes += len(MAGIC)
            size_bytes, newest_ms = self._segments[number]
            more = record_bytes(record)
            self.newest_ms = max(self.newest_ms, record.ingest_ms)
            self._segments[number] = size_bytes + more, max(newest_ms, record.ingest_ms or self.newest_ms)
            self.size_bytes += more

    def note_place(self, kind: int, key: int, place: int) -> None:
        """A record is there."""
        if kind == Kind.SETTLED:
            self.settled.add(key)
        elif kind == Kind.MANIFEST:
            self.manifests[key] = place
        else:
            sequence, tier = key >> _TIER_BITS, key & (1 << _TIER_BITS) - 1
            if tier < _TIERS and self.index.add(sequence, tier):
                block = self._places.get(sequence // BLOCK_CUTS)
                if block is None:
                    block = self._places[sequence // BLOCK_CUTS] = array("Q", bytes(8 * BLOCK_CUTS * _TIERS))
                block[sequence % BLOCK_CUTS * _TIERS + tier] = place + 1

    def older_segments(self, before_ms: int) -> list[int]:
        """Segments all of whose pieces were ingested before this time; never the last one."""
        rows = self._segments.items()
        return [number for number, (_, newest) in rows if 0 < newest < before_ms and number != self._last]

    def dropped(self, numbers: Sequence[int], contents: Sequence[Contents]) -> None:
        """These segments are gone."""
        for number, each in zip(numbers, contents, strict=True):
            self.size_bytes -= self._segments.pop(number)[0]
            for kind, key, offset in each.rows():
                place = number << _OFFSET_BITS | offset
                if kind == Kind.MANIFEST and self.manifests.get(key) == place:
                    del self.manifests[key]
                elif kind == Kind.PIECE and self._place(key >> _TIER_BITS, key & (1 << _TIER_BITS) - 1) == place:
                    self.forget(key >> _TIER_BITS, key & (1 << _TIER_BITS) - 1)

    def forget(self, sequence: int, tier: int) -> None:
        """This piece is not what was published, or is gone."""
        block = self._places.get(sequence // BLOCK_CUTS)
        if block is not None:
            block[sequence % BLOCK_CUTS * _TIERS + tier] = 0
            self.index.discard(sequence, tier)

    # From any thread

    def has(self, sequence: int, tier: int) -> bool:
        """Whether this piece is here."""
        return self.index.has(sequence, tier)

    def read_encoded(self, sequence: int, tier: int) -> bytes | None:
        """A piece as it was published; None: it is not here, or can't be read."""
        place = self._place(sequence, tier)
        return None if place is None else self._read(Kind.PIECE, piece_key(sequence, tier), place)

    def read_piece(self, sequence: int, tier: int) -> Piece | None:
        """The same, decoded."""
        encoded = self.read_encoded(sequence, tier)
        try:
            return None if encoded is None else decode_piece_untrusted(encoded)
        except PieceError:
            return None

    def read_manifest(self, span: int) -> Manifest | None:
        """None: it is not here, or can't be read."""
        place = self.manifests.get(span)
        data = None if place is None else self._read(Kind.MANIFEST, span, place)
        try:
            return None if data is None else decode_manifest_untrusted(data)
        except ManifestError:
            return None

    def read_span(self, manifest: Manifest) -> tuple[bytes, list[tuple[int, int]]]:
        """The bytes of a span as they were ingested; or which of its pieces are missing or wrong here."""
        parts: list[bytes] = []
        wrong: list[tuple[int, int]] = []
        cut: list[Piece] = []
        for sequence, tier in manifest.pieces():
            if cut and cut[0].sequence != sequence:
                parts.append(cut_bytes(cut))
                cut = []
            piece = self._vouched_piece(manifest, sequence, tier)
            if piece is None:
                wrong.append((sequence, tier))
            else:
                cut.append(piece)
        parts.append(cut_bytes(cut))
        data = b"".join(parts)
        if not wrong and not manifest.is_identical(data):
            wrong = list(manifest.pieces())
        return (b"", wrong) if wrong else (data, [])

    def _vouched_piece(self, manifest: Manifest, sequence: int, tier: int) -> Piece | None:
        encoded = self.read_encoded(sequence, tier)
        if encoded is None:
            return None
        try:
            piece = decode_piece_untrusted(encoded)
        except PieceError:
            return None
        return piece if manifest.vouches_for(piece, encoded) else None

    def _place(self, sequence: int, tier: int) -> int | None:
        block = self._places.get(sequence // BLOCK_CUTS)
        place = 0 if block is None else block[sequence % BLOCK_CUTS * _TIERS + tier]
        return place - 1 if place else None

    def _read(self, kind: Kind, key: int, place: int) -> bytes | None:
        path = segment_path(self.folder, place >> _OFFSET_BITS)
        try:
            found_kind, found_key, content = _read_at(path, place & (1 << _OFFSET_BITS) - 1)
        except SegmentDamaged:
            return None
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            return None
        return content if (found_kind, found_key) == (kind, key) else None


def _read_at(path: Path, offset: int) -> tuple[int, int, bytes]:
    """Errors: SegmentDamaged, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_record(descriptor, offset)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Errors: OSError."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done
