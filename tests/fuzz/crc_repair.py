# SPDX-License-Identifier: Apache-2.0
"""Right CRCs for a bundle that a fuzzer has mutated: chance alone never gets behind a checksum of 32 bits.

Reads with the lenient readers of `meshd.bundle` and stops at the first thing that is no block.
"""

from meshd.bundle import crc
from meshd.bundle.blocks import BLOCKS_MAX
from meshd.bundle.canonical import read_block
from meshd.bundle.errors import BundleError
from meshd.bundle.primary import PRIMARY_START, read_primary_head, read_primary_tail


def with_right_crcs(data: bytes) -> bytes:
    """A copy whose CRC fields, as many as can be found, are right."""
    repaired = bytearray(data)
    try:
        head, pos = read_primary_head(data)
        tail = read_primary_tail(data, pos, head)
        _repair(repaired, head.crc_type, PRIMARY_START, tail.crc_offset, tail.end)
        pos = tail.end
        for _ in range(BLOCKS_MAX + 1):
            block = read_block(data, pos)
            _repair(repaired, block.crc_type, block.start, block.crc_offset, block.end)
            pos = block.end
    except BundleError:
        pass
    return bytes(repaired)


def _repair(data: bytearray, crc_type: int, start: int, crc_offset: int, end: int) -> None:
    if crc_type == crc.CRC_NONE:
        return
    after = crc_offset + crc.FIELD_BYTES[crc_type]
    data[crc_offset:after] = bytes(after - crc_offset)
    value = crc.extend(crc_type, 0, bytes(data[start:end]))
    data[crc_offset:after] = value.to_bytes(after - crc_offset, "big")
