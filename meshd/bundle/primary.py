# SPDX-License-Identifier: Apache-2.0
"""Reading and writing the primary block (RFC 9171 section 4.3.1).

Read in two steps. The *head*, from the bundle's first byte to the report-to EID, is the same for all bundles of a
flow and holds all rules about flags; the *tail* begins at the creation timestamp. CRCs are found here and checked by
the caller, so that a listing can show a block whose CRC is wrong.
"""

from typing import NamedTuple

from meshd.base.version import BUNDLE_PROTOCOL_VERSION
from meshd.bundle import cbor, crc
from meshd.bundle.blocks import REPORT_FLAGS, BundleFlag, PrimaryBlock
from meshd.bundle.eid import Eid, read_eid
from meshd.bundle.errors import BundleError

PRIMARY_START = 1
"""Offset of the primary block in every bundle, after the head of the outer array."""


class PrimaryHead(NamedTuple):
    """What comes before the creation timestamp."""

    length: int
    """Items of the block's array, or cbor.INDEFINITE."""
    flags: int
    crc_type: int
    destination: Eid
    source: Eid
    report_to: Eid


class PrimaryTail(NamedTuple):
    """What comes from the creation timestamp on."""

    time_ms: int
    sequence: int
    lifetime_ms: int
    fragment_offset: int
    """-1 when not a fragment."""
    total_adu_bytes: int
    """0 when not a fragment."""
    crc_offset: int
    """Of the CRC's bytes (after their CBOR head); the block's end when there is no CRC."""
    end: int
    """Offset after the block."""


def read_primary_head(data: bytes) -> tuple[PrimaryHead, int]:
    """Read from the bundle's first byte on; the head and the position of the creation timestamp.

    Errors:
        BundleError: `version`, `primary`, `crc-type`, `flags`, `eid`, `cbor` or `truncated`.
    """
    length, pos = _read_array_heads(data)
    version, pos = cbor.read_uint(data, pos)
    if version != BUNDLE_PROTOCOL_VERSION:
        raise BundleError("version", f"this is a bundle of version {version}; only version 7 is known")
    flags, pos = cbor.read_uint(data, pos)
    crc_type, pos = cbor.read_uint(data, pos)
    if crc_type > crc.CRC_32C:
        raise BundleError("crc-type", f"the primary block has the unknown CRC type {crc_type}: 0, 1 and 2 are known")
    _check_length(length, flags, crc_type)
    destination, pos = read_eid(data, pos)
    source, pos = read_eid(data, pos)
    report_to, pos = read_eid(data, pos)
    check_flags(flags, source)
    return PrimaryHead(length, flags, crc_type, destination, source, report_to), pos


def _read_array_heads(data: bytes) -> tuple[int, int]:
    if not data:
        raise BundleError("truncated", "there is nothing: no bundle has 0 bytes")
    if data[0] == 0x06:
        raise BundleError("version", "this is a bundle of version 6 (RFC 5050); only version 7 is known")
    if data[0] != 0x9F:
        raise BundleError("cbor", f"a bundle begins with byte 0x9f (an indefinite array), not with 0x{data[0]:02x}")
    return cbor.read_array_header(data, PRIMARY_START)


def _check_length(length: int, flags: int, crc_type: int) -> None:
    expected = 8 + (crc_type != crc.CRC_NONE) + 2 * (flags & BundleFlag.IS_FRAGMENT)
    if length not in (expected, cbor.INDEFINITE):
        raise BundleError("primary", f"the primary block has {length} items; its flags and CRC type ask for {expected}")


def check_flags(flags: int, source: Eid) -> None:
    """Check the rules of RFC 9171 section 4.2.3 about administrative records and anonymous sources.

    Errors:
        BundleError: `flags`.
    """
    if flags & REPORT_FLAGS and flags & BundleFlag.IS_ADMIN_RECORD:
        raise BundleError("flags", "an administrative record asks for status reports")
    if source.is_null:
        if flags & REPORT_FLAGS:
            raise BundleError("flags", "a bundle of an anonymous source asks for status reports")
        if not flags & BundleFlag.MUST_NOT_FRAGMENT:
            raise BundleError("flags", "a bundle of an anonymous source may be fragmented, but must not")


def read_primary_tail(data: bytes, pos: int, head: PrimaryHead) -> PrimaryTail:
    """Read from the creation timestamp on.

    Errors:
        BundleError: `primary`, `crc`, `cbor` or `truncated`.
    """
    length, pos = cbor.read_array_header(data, pos)
    if length not in (2, cbor.INDEFINITE):
        raise BundleError("primary", f"a creation timestamp has 2 items, not {length}")
    time_ms, pos = cbor.read_uint(data, pos)
    sequence, pos = cbor.read_uint(data, pos)
    pos = cbor.read_array_end(data, pos, length)
    lifetime_ms, pos = cbor.read_uint(data, pos)
    fragment_offset, total_adu_bytes = -1, 0
    if head.flags & BundleFlag.IS_FRAGMENT:
        fragment_offset, pos = cbor.read_uint(data, pos)
        total_adu_bytes, pos = cbor.read_uint(data, pos)
    crc_offset, pos = read_crc_extent(data, pos, head.crc_type)
    end = cbor.read_array_end(data, pos, head.length)
    return PrimaryTail(time_ms, sequence, lifetime_ms, fragment_offset, total_adu_bytes, crc_offset, end)


def read_crc_extent(data: bytes, pos: int, crc_type: int) -> tuple[int, int]:
    """Find a block's CRC field: the offset of its bytes and the position after them.

    Errors:
        BundleError: `crc` when it has the wrong size, `cbor` or `truncated`.
    """
    if crc_type == crc.CRC_NONE:
        return pos, pos
    start, end = cbor.read_bytes_extent(data, pos)
    if end - start != crc.FIELD_BYTES[crc_type]:
        raise BundleError(
            "crc", f"the CRC at byte {pos} has {end - start} bytes instead of {crc.FIELD_BYTES[crc_type]}"
        )
    return start, end


def is_crc_right(data: bytes, crc_type: int, start: int, crc_offset: int, end: int) -> bool:
    """Compute the CRC of the block `data[start:end]` with its field as zeros, and compare. True without a CRC."""
    if crc_type == crc.CRC_NONE:
        return True
    after = crc_offset + crc.FIELD_BYTES[crc_type]
    value = crc.extent_crc(crc_type, data, start, crc_offset)
    value = crc.extend(crc_type, value, bytes(after - crc_offset) + data[after:end])
    return value == int.from_bytes(data[crc_offset:after], "big")


def encode_primary(block: PrimaryBlock) -> bytes:
    """Encode a primary block, CRC included. Values that RFC 9171 forbids are the caller's fault and are encoded."""
    is_fragment = block.fragment_offset is not None and block.total_adu_bytes is not None
    length = 8 + (block.crc_type != crc.CRC_NONE) + 2 * is_fragment
    head = encode_primary_head(length, block.flags, block.crc_type, block.destination, block.source, block.report_to)
    pieces = [head, b"\x82", *map(cbor.encode_uint, (block.time_ms, block.sequence, block.lifetime_ms))]
    if block.fragment_offset is not None and block.total_adu_bytes is not None:
        pieces += map(cbor.encode_uint, (block.fragment_offset, block.total_adu_bytes))
    return crc.sealed(block.crc_type, b"".join(pieces))


def encode_primary_head(length: int, flags: int, crc_type: int, destination: Eid, source: Eid, report_to: Eid) -> bytes:
    """Encode what comes before the creation timestamp, without the head of the outer array."""
    numbers = (BUNDLE_PROTOCOL_VERSION, flags, crc_type)
    eids = (destination.cbor, source.cbor, report_to.cbor)
    return b"".join((cbor.encode_array_head(length), *map(cbor.encode_uint, numbers), *eids))
