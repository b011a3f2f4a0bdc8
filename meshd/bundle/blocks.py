# SPDX-License-Identifier: Apache-2.0
"""The blocks of a bundle as values (RFC 9171 section 4.3), and the flags and codes in them.

Whoever handles many bundles uses `scan` and `forward`, which never make these; they are for building unusual bundles,
for tests and for showing.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from meshd.bundle.eid import Eid


class BundleFlag(IntFlag):
    """Bundle processing control flags (RFC 9171 section 4.2.3)."""

    IS_FRAGMENT = 0x000001
    IS_ADMIN_RECORD = 0x000002
    MUST_NOT_FRAGMENT = 0x000004
    ACKNOWLEDGEMENT_REQUESTED = 0x000020
    STATUS_TIME_REQUESTED = 0x000040
    REPORT_RECEPTION = 0x004000
    REPORT_FORWARDING = 0x010000
    REPORT_DELIVERY = 0x020000
    REPORT_DELETION = 0x040000


REPORT_FLAGS: Final = (
    BundleFlag.REPORT_RECEPTION | BundleFlag.REPORT_FORWARDING | BundleFlag.REPORT_DELIVERY | BundleFlag.REPORT_DELETION
)
"""All requests for status reports."""


class BlockFlag(IntFlag):
    """Block processing control flags (RFC 9171 section 4.2.4)."""

    REPLICATE_IN_FRAGMENTS = 0x01
    REPORT_IF_UNPROCESSABLE = 0x02
    DELETE_BUNDLE_IF_UNPROCESSABLE = 0x04
    DISCARD_IF_UNPROCESSABLE = 0x10


class BlockType(IntEnum):
    """The block types that meshd reads (RFC 9171 section 9.1; 193, 201 and 202 are private ones)."""

    PAYLOAD = 1
    PREVIOUS_NODE = 6
    BUNDLE_AGE = 7
    HOP_COUNT = 10
    QUALITY_OF_SERVICE = 193
    SUPERSESSION = 201
    PART = 202


class CrcType(IntEnum):
    """CRC types (RFC 9171 section 4.2.1)."""

    NONE = 0
    CRC16 = 1
    CRC32C = 2


PAYLOAD_NUMBER: Final = 1
"""Block number of every payload block."""
BLOCKS_MAX: Final = 32
"""Canonical blocks of a bundle above this are refused; a previous node block, which a forwarder adds, not counted."""


@dataclass(frozen=True, slots=True)
class PrimaryBlock:
    """The primary block (RFC 9171 section 4.3.1). Fragment fields are None unless the flags say IS_FRAGMENT."""

    destination: Eid
    source: Eid
    report_to: Eid
    time_ms: int
    """Creation time, DTN time in ms, 0 when the source had no clock."""
    sequence: int
    lifetime_ms: int
    flags: int = 0
    crc_type: int = CrcType.CRC32C
    fragment_offset: int | None = None
    total_adu_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CanonicalBlock:
    """Any other block (RFC 9171 section 4.3.2); `data` is the block-type-specific data, not looked into."""

    type: int
    number: int
    data: bytes
    flags: int = 0
    crc_type: int = CrcType.NONE


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle; the payload block comes last."""

    primary: PrimaryBlock
    blocks: tuple[CanonicalBlock, ...]

    @property
    def payload(self) -> bytes:
        """The payload block's data."""
        return self.blocks[-1].data
