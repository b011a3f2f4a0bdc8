# SPDX-License-Identifier: Apache-2.0
"""The files of a stream's archive: segments of records, appended to and never changed, and their tables of contents.

A record is length, CRC-32 of what follows it, kind, key, content. A crash can tear the
last record of the last segment only; reading ends there, and the tear is cut off. A full segment gets a table of
contents beside it, so that a start need not read it. All calls block; the shell makes them in a thread.
"""

import enum
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from meshd.base.errors import StoreError
from meshd.daemon.state_file import read_state, write_state
from meshd.stream.piece import PieceError, decode_piece_untrusted

MAGIC: Final = b"meshdST1"
SEGMENT_MAX_BYTES: Final = 8 * 1024 * 1024
"""Half a minute of 2 Mbit/s; the window of an archive moves by segments."""
RECORD_MAX_BYTES: Final = 1 << 17
CONTENTS_MAX_BYTES: Final = 16 * 1024 * 1024
_HEAD: Final = struct.Struct(">IIBQ")
"""Size of the content, checksum, kind, key."""
_CHECKED_FROM: Final = 8
_SUM_BYTES: Final = 4
_ROW: Final = msgspec.msgpack.Decoder(tuple[int, int, bytes, bytes, bytes])


class Kind(enum.IntEnum):
    """Of a record."""

    PIECE = 0
    """Key: sequence * 4 + tier."""
    MANIFEST = 1
    """Key: span."""
    SETTLED = 2
    """Key: span, whose bytes have been compared with the digest. No content."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """To be appended."""

    kind: Kind
    key: int
    content: bytes
    ingest_ms: int
    """Of a piece; 0 otherwise."""


class Contents:
    """What a segment has: its records in order."""

    def __init__(self) -> None:
        self.size_bytes = len(MAGIC)
        self.newest_ms = 0
        """The latest ingest time of its pieces."""
        self.kinds = bytearray()
        self.keys = array("Q")
        self.offsets = array("I")
        """Where the records begin."""

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """Kind, key and offset of each record."""
        return zip(self.kinds, self.keys, self.offsets, strict=True)


class SegmentDamaged(StoreError):
    """A record is not what was written."""


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}.seg"


def encode_record(record: Record) -> bytes:
    """As it is appended."""
    tail = _HEAD.pack(len(record.content), 0, record.kind, record.key)[_CHECKED_FROM:] + record.content
    return struct.pack(">II", len(record.content), zlib.crc32(tail)) + tail


def record_bytes(record: Record) -> int:
    """What it takes on the disk."""
    return _HEAD.size + len(record.content)


def read_record(descriptor: int, offset: int) -> tuple[int, int, bytes]:
    """Kind, key and content of the record there. Errors: OSError; SegmentDamaged."""
    head = os.pread(descriptor, _HEAD.size, offset)
    if len(head) < _HEAD.size:
        raise SegmentDamaged(f"no record is at {offset}")
    size, checksum, kind, key = _HEAD.unpack(head)
    content = os.pread(descriptor, size, offset + _HEAD.size) if size <= RECORD_MAX_BYTES else b""
    if len(content) != size or zlib.crc32(content, zlib.crc32(head[_CHECKED_FROM:])) != checksum:
        raise SegmentDamaged(f"the record at {offset} is damaged")
    return kind, key, content


def scan_segment(path: Path) -> Contents:
    """Read a segment without a table of contents; what is torn at its end is cut off. Errors: OSError."""
    contents = Contents()
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.pread(descriptor, len(MAGIC), 0) != MAGIC:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, MAGIC, 0)
        while True:
            try:
                kind, key, content = read_record(descriptor, contents.size_bytes)
            except SegmentDamaged:
                break
            note(contents, kind, key, len(content))
            if kind == Kind.PIECE:
                contents.newest_ms = max(contents.newest_ms, _ingest_ms(content))
        os.ftruncate(descriptor, contents.size_bytes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return contents


def note(contents: Contents, kind: int, key: int, content_bytes: int) -> int:
    """A record with so much content follows in the segment: its offset."""
    offset = contents.size_bytes
    contents.kinds.append(kind)
    contents.keys.append(key)
    contents.offsets.append(offset)
    contents.size_bytes = offset + _HEAD.size + content_bytes
    return offset


def write_contents(path: Path, contents: Contents) -> None:
    """The table of contents beside a segment; durable on return. Errors: OSError."""
    row = (
        contents.size_bytes,
        contents.newest_ms,
        bytes(contents.kinds),
        contents.keys.tobytes(),
        contents.offsets.tobytes(),
    )
    body = msgspec.msgpack.encode(row)
    write_state(path.with_suffix(".toc"), struct.pack(">I", zlib.crc32(body)) + body)


def read_contents(path: Path) -> Contents | None:
    """The table of contents of a segment; None: there is none that fits. Errors: OSError."""
    data = read_state(path.with_suffix(".toc"), CONTENTS_MAX_BYTES)
    if (
        data is None
        or len(data) < _SUM_BYTES
        or zlib.crc32(data[_SUM_BYTES:]) != int.from_bytes(data[:_SUM_BYTES], "big")
    ):
        return None
    size_bytes, newest_ms, kinds, keys, offsets = _ROW.decode(data[_SUM_BYTES:])
    contents = Contents()
    contents.size_bytes, contents.newest_ms = size_bytes, newest_ms
    contents.kinds.extend(kinds)
    contents.keys.frombytes(keys)
    contents.offsets.frombytes(offsets)
    return contents if path.stat().st_size >= size_bytes else None


def _ingest_ms(encoded: bytes) -> int:
    """Of a piece; 0 when it can't be read."""
    try:
        return decode_piece_untrusted(encoded).ingest_ms
    except PieceError:
        return 0
