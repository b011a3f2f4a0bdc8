# SPDX-License-Identifier: Apache-2.0
"""The two checksums of BPv7 (RFC 9171 section 4.2.1): CRC-16 X.25 and CRC-32C (Castagnoli).

Both can be carried on over pieces, so that a payload need not be joined with its block's other bytes. The field itself
counts as zeros (RFC 9171 section 4.3). Not a protection against an adversary: that is BPSec's work.
"""

import binascii
from collections.abc import Callable
from typing import Final

import google_crc32c

CRC_NONE: Final = 0
CRC_16: Final = 1
CRC_32C: Final = 2

CHUNK_BYTES: Final = 128 * 1024
"""An extent is copied out in pieces of this size (the C function takes whole `bytes` objects only): stays in cache."""

FIELD_BYTES: Final = (0, 2, 4)
"""Size of the CRC field by CRC type."""
FIELD_HEADS: Final = (b"", b"\x42", b"\x44")
"""CBOR head of the CRC field by CRC type."""
ZERO_FIELDS: Final = (b"", b"\x42\x00\x00", b"\x44\x00\x00\x00\x00")
"""The CRC field, head included, as it counts in its own computation."""

_BYTE_REVERSED: Final = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))

crc32c: Final[Callable[[bytes], int]] = google_crc32c.value
"""CRC-32C of bytes."""
extend_crc32c: Final[Callable[[int, bytes], int]] = google_crc32c.extend
"""CRC-32C carried on: (value for the bytes before, more bytes)."""


def _reverse16(value: int) -> int:
    return _BYTE_REVERSED[value & 0xFF] << 8 | _BYTE_REVERSED[value >> 8]


def crc16(data: bytes, crc: int = 0) -> int:
    """CRC-16 X.25 of `data`, carried on from `crc` (the value for the bytes before it).

    X.25 shifts to the right, `binascii.crc_hqx` to the left: both are the same polynomial once the bits of every byte
    and of the result are reversed, which `bytes.translate` does at C speed.
    """
    register = _reverse16(crc ^ 0xFFFF)
    return _reverse16(binascii.crc_hqx(data.translate(_BYTE_REVERSED), register)) ^ 0xFFFF


def extend(crc_type: int, crc: int, data: bytes) -> int:
    """Carry a CRC of type CRC_16 or CRC_32C on over `data`."""
    return extend_crc32c(crc, data) if crc_type == CRC_32C else crc16(data, crc)


def extent_crc(crc_type: int, data: bytes, start: int, end: int) -> int:
    """CRC of `data[start:end]`; a large extent is copied piece by piece, never whole."""
    if end - start <= CHUNK_BYTES:
        return extend(crc_type, 0, data[start:end])
    crc = 0
    for offset in range(start, end, CHUNK_BYTES):
        crc = extend(crc_type, crc, data[offset : min(offset + CHUNK_BYTES, end)])
    return crc


def field(crc_type: int, crc: int) -> bytes:
    """The encoded CRC field of a block, head included; empty for CRC_NONE."""
    return FIELD_HEADS[crc_type] + crc.to_bytes(FIELD_BYTES[crc_type], "big")


def sealed(crc_type: int, block: bytes) -> bytes:
    """A whole block: `block` holds its bytes up to the CRC field, which is computed and added here."""
    if crc_type == CRC_NONE:
        return block
    return block + field(crc_type, extend(crc_type, 0, block + ZERO_FIELDS[crc_type]))
