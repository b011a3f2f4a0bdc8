# SPDX-License-Identifier: Apache-2.0
"""Bundles that the tests of this folder share, and shorthands for making them."""

from typing import Any

from meshd.bundle import cbor
from meshd.bundle.blocks import BlockType, Bundle, BundleFlag, CanonicalBlock, CrcType, PrimaryBlock
from meshd.bundle.codec import build, encode
from meshd.bundle.eid import parse_eid
from meshd.bundle.extension import encode_hop_count, encode_part
from meshd.bundle.precedence import Precedence, encode_precedence
from meshd.bundle.record import Part

DPOP1 = parse_eid("dtn://dpop1/")
DPOP2 = parse_eid("dtn://dpop2/")
SOURCE = parse_eid("dtn://dpop1/inbox")
DESTINATION = parse_eid("dtn://home/inbox")
TIME_MS = 820_454_400_123
PAYLOAD = b"mission data"


def own_bundle(**changes: Any) -> bytes:
    """What `build` makes of usual values, some of them changed."""
    values: dict[str, Any] = {
        "source": SOURCE,
        "destination": DESTINATION,
        "report_to": DPOP1,
        "flags": BundleFlag.MUST_NOT_FRAGMENT,
        "time_ms": TIME_MS,
        "sequence": 7,
        "lifetime_ms": 86_400_000,
        "payload": PAYLOAD,
    }
    return build(**(values | changes))


def primary(**changes: Any) -> PrimaryBlock:
    """A primary block of usual values, some of them changed."""
    values: dict[str, Any] = {
        "destination": DESTINATION,
        "source": SOURCE,
        "report_to": DPOP1,
        "time_ms": TIME_MS,
        "sequence": 7,
        "lifetime_ms": 86_400_000,
    }
    return PrimaryBlock(**(values | changes))


def payload_block(data: bytes = PAYLOAD, **changes: Any) -> CanonicalBlock:
    """A payload block."""
    values: dict[str, Any] = {"flags": 0, "crc_type": CrcType.CRC32C, "number": 1}
    return CanonicalBlock(BlockType.PAYLOAD, data=data, **(values | changes))


def bundle_of(*extensions: CanonicalBlock, **changes: Any) -> bytes:
    """An encoded bundle with these extension blocks and changes to its primary block."""
    return encode(Bundle(primary(**changes), (*extensions, payload_block())))


def extension(kind: int, data: bytes, number: int = 2, flags: int = 0, crc_type: int = CrcType.NONE) -> CanonicalBlock:
    """An extension block."""
    return CanonicalBlock(kind, number, data, flags, crc_type)


PART = Part(TIME_MS, 5, 2, 2 << 20, True)

EXTENSIONS = (
    extension(BlockType.PREVIOUS_NODE, DPOP2.cbor, 9, crc_type=CrcType.CRC32C),
    extension(BlockType.BUNDLE_AGE, cbor.encode_uint(70_000), 2, 1, CrcType.CRC16),
    extension(BlockType.HOP_COUNT, encode_hop_count(32, 3), 3, 1, CrcType.CRC32C),
    extension(BlockType.QUALITY_OF_SERVICE, encode_precedence(Precedence.FLASH), 4, 1, CrcType.CRC16),
    extension(BlockType.PART, encode_part(PART), 5, 1, CrcType.CRC32C),
)
"""One of each known type, all with CRCs, so that no bit of a bundle with them is uncovered."""

FULL = bundle_of(*EXTENSIONS)
