# SPDX-License-Identifier: Apache-2.0
"""The bytes of a large bundle, in a file of its own: a segment's header, then blocks of 64 KiB, each with its CRC-32C.

One file for one bundle: it is contiguous, it goes by one unlink when the bundle is deleted, and its dead bytes never
have to be compacted. The CRC of a block counts the file's number and the block's index first, so that a block in the
wrong place is as wrong as a flipped bit. Nothing in the file says whether the bundle exists: its record in a segment
does, and a file without one is removed at the next start.
"""

import struct
from typing import Final

from meshd.base.errors import StoreError
from meshd.bundle.crc import crc32c, extend_crc32c
from meshd.bundle.record import PayloadRef
from meshd.store.disk import Disk
from meshd.store.file_names import large_name
from meshd.store.record_format import CRC_BYTES, pack_crc

BLOCK_BYTES: Final = 64 * 1024
_STORED_BLOCK_BYTES: Final = BLOCK_BYTES + CRC_BYTES
_PLACE: Final = struct.Struct("<II")


def stored_bytes(size_bytes: int) -> int:
    """What a bundle of this size takes in its file, the header apart."""
    return size_bytes + CRC_BYTES * -(-size_bytes // BLOCK_BYTES)


def block_crc(number: int, index: int, block: bytes) -> bytes:
    """What follows a block in the file of this number."""
    return pack_crc(extend_crc32c(crc32c(_PLACE.pack(number, index)), block))


def read_extent(disk: Disk, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
    """These bytes of a large bundle, checked; fewer where the bundle ends.

    Errors:
        StoreError: a block is damaged.
        OSError: the disk failed.
    """
    end = min(offset + size_bytes, ref.size_bytes)
    if not 0 <= offset < end:
        return b""
    name, first = large_name(ref.segment), offset // BLOCK_BYTES
    last_end = min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, ref.size_bytes)
    begin = first * _STORED_BLOCK_BYTES
    data = disk.read(name, ref.offset + begin, stored_bytes(last_end) - begin)
    blocks = []
    for index in range(first, -(-last_end // BLOCK_BYTES)):
        start = (index - first) * _STORED_BLOCK_BYTES
        stop = start + min(BLOCK_BYTES, ref.size_bytes - index * BLOCK_BYTES)
        block = data[start:stop]
        if data[stop : stop + CRC_BYTES] != block_crc(ref.segment, index, block):
            raise StoreError(f"the large bundle in {name} is damaged at offset {index * BLOCK_BYTES}")
        blocks.append(block)
    skipped = offset - first * BLOCK_BYTES
    if len(blocks) == 1:
        return blocks[0][skipped : skipped + end - offset]
    blocks[0] = blocks[0][skipped:]
    blocks[-1] = blocks[-1][: (end - 1) % BLOCK_BYTES + 1]
    return b"".join(blocks)
