# SPDX-License-Identifier: Apache-2.0
"""Reading and writing canonical blocks (RFC 9171 section 4.3.2), whatever is in them."""

from typing import NamedTuple

from meshd.bundle import cbor, crc
from meshd.bundle.blocks import CanonicalBlock
from meshd.bundle.errors import BundleError
from meshd.bundle.primary import is_crc_right, read_crc_extent


class BlockExtent(NamedTuple):
    """A block and where its parts lie; offsets count from the bundle's first byte."""

    start: int
    type: int
    number: int
    flags: int
    crc_type: int
    data_offset: int
    """Of the block-type-specific data, after its CBOR head."""
    data_end: int
    crc_offset: int
    """Of the CRC's bytes."""
    end: int


def read_block(data: bytes, start: int) -> BlockExtent:
    """Read the block that begins at `start`; its CRC is found, not checked.

    Errors:
        BundleError: `block`, `crc-type`, `crc`, `cbor` or `truncated`.
    """
    head = data[start : start + 7]
    if len(head) == 7 and head[0] == 0x85:  # without a CRC; in line: all fields of one byte, the type of one or two
        is_wide = head[1] == 0x18
        type_code, number, flags, crc_type, size = head[2:] if is_wide else head[1:6]
        if (is_wide or type_code < 24) and number < 24 and flags < 24 and crc_type == 0 and 0x40 <= size < 0x58:
            data_offset = start + 7 if is_wide else start + 6
            end = data_offset + size - 0x40
            if end <= len(data):
                return BlockExtent(start, type_code, number, flags, 0, data_offset, end, end, end)
    return _read_any_block(data, start)


def _read_any_block(data: bytes, start: int) -> BlockExtent:
    length, pos = cbor.read_array_header(data, start)
    if length not in (5, 6, cbor.INDEFINITE):
        raise BundleError("block", f"the block at byte {start} has {length} items; a block has 5, or 6 with a CRC")
    type_code, pos = cbor.read_uint(data, pos)
    number, pos = cbor.read_uint(data, pos)
    flags, pos = cbor.read_uint(data, pos)
    crc_type, pos = cbor.read_uint(data, pos)
    if crc_type > crc.CRC_32C:
        raise BundleError("crc-type", f"block {number} has the unknown CRC type {crc_type}: 0, 1 and 2 are known")
    if length == (6 if crc_type == crc.CRC_NONE else 5):
        raise BundleError(
            "block", f"block {number} has {length} items, which does not agree with its CRC type {crc_type}"
        )
    data_offset, data_end = cbor.read_bytes_extent(data, pos)
    crc_offset, pos = read_crc_extent(data, data_end, crc_type)
    end = cbor.read_array_end(data, pos, length)
    return BlockExtent(start, type_code, number, flags, crc_type, data_offset, data_end, crc_offset, end)


def check_block_crc(data: bytes, block: BlockExtent) -> None:
    """Check the CRC of a block, if it has one.

    Errors:
        BundleError: `crc`.
    """
    if not is_crc_right(data, block.crc_type, block.start, block.crc_offset, block.end):
        raise wrong_crc(block.number, block.type)


def wrong_crc(number: int, type_code: int) -> BundleError:
    """What is raised for a block whose CRC is wrong."""
    return BundleError("crc", f"the CRC of block {number} (type {type_code}) is wrong")


def encode_block(block: CanonicalBlock) -> bytes:
    """Encode a block, CRC included."""
    return encode_fields(block.type, block.number, block.flags, block.crc_type, block.data)


def encode_fields(type_code: int, number: int, flags: int, crc_type: int, data: bytes) -> bytes:
    """Encode a block given by its fields, CRC included."""
    return crc.sealed(crc_type, encode_block_head(type_code, number, flags, crc_type, len(data)) + data)


def encode_block_head(type_code: int, number: int, flags: int, crc_type: int, size_bytes: int) -> bytes:
    """The same up to its data, which have this size."""
    encode_uint = cbor.encode_uint
    head = b"\x86" if crc_type else b"\x85"
    head += encode_uint(type_code) + encode_uint(number) + encode_uint(flags) + encode_uint(crc_type)
    return head + cbor.encode_bytes_head(size_bytes)
