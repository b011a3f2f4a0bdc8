# SPDX-License-Identifier: Apache-2.0
"""Making bundles, and taking them apart whole (RFC 9171 section 4).

`build` is the fast way for a node's own bundles: the payload is joined with the rest once. `encode` and
`decode_untrusted` go through the values of `blocks` and can express every bundle; reading is `scan`'s work here too.
"""

from functools import lru_cache
from typing import Final

from meshd.bundle import cbor, crc
from meshd.bundle.blocks import BlockFlag, BlockType, Bundle, BundleFlag, CanonicalBlock, CrcType, PrimaryBlock
from meshd.bundle.canonical import encode_block, encode_fields, read_block
from meshd.bundle.eid import Eid
from meshd.bundle.extension import encode_hop_count, encode_part
from meshd.bundle.header import BundleHeader
from meshd.bundle.precedence import PRECEDENCE_DEFAULT, encode_precedence
from meshd.bundle.primary import encode_primary, encode_primary_head
from meshd.bundle.record import Part
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.supersession import Supersession, encode_supersession

HOP_LIMIT_DEFAULT: Final = 32
"""Of own bundles: above any mesh's diameter, low enough to end a loop soon."""

_HEADS_MAX: Final = 4096
# Block numbers of own bundles; the previous node block that a forwarder adds takes a free one.
_HOP_COUNT_NUMBER, _PRECEDENCE_NUMBER, _PART_NUMBER, _AGE_NUMBER, _SUPERSESSION_NUMBER = 2, 3, 4, 5, 6
_REPLICATED: Final = BlockFlag.REPLICATE_IN_FRAGMENTS


def build(
    source: Eid,
    destination: Eid,
    report_to: Eid,
    flags: int,
    time_ms: int,
    sequence: int,
    lifetime_ms: int,
    payload: bytes,
    *,
    precedence: int = PRECEDENCE_DEFAULT,
    part: Part | None = None,
    supersession: Supersession | None = None,
    hop_limit: int = HOP_LIMIT_DEFAULT,
    age_ms: int | None = None,
    crc_type: int = CrcType.CRC32C,
) -> bytes:
    """Encode a bundle of our own, not a fragment.

    Args:
        source: an endpoint of this node, or NULL_EID (`flags` must say MUST_NOT_FRAGMENT then and ask for no reports).
        flags: bundle processing control flags.
        time_ms: creation time, DTN time in ms; 0 without a clock, and then `age_ms` is needed.
        precedence: 0 to 5; ROUTINE is expressed by leaving the block out.
        part: set when the payload is one of several parts of a message.
        supersession: set when newer bundles are to drop it.
        hop_limit: 1 to 255; 0 leaves the block out.
        crc_type: of the primary and the payload block; extension blocks, which change on the way, carry none.
    """
    pieces = [
        _bundle_head(flags, crc_type, destination, source, report_to),
        b"\x82",
        cbor.encode_uint(time_ms),
        cbor.encode_uint(sequence),
        cbor.encode_uint(lifetime_ms),
    ]
    pieces = [b"\x9f", crc.sealed(crc_type, b"".join(pieces)), _steady_run(hop_limit, precedence)]
    if part is not None:
        pieces.append(extension_block(BlockType.PART, _PART_NUMBER, _REPLICATED, encode_part(part)))
    if supersession is not None:
        content = encode_supersession(supersession)
        pieces.append(extension_block(BlockType.SUPERSESSION, _SUPERSESSION_NUMBER, _REPLICATED, content))
    if age_ms is not None:
        pieces.append(extension_block(BlockType.BUNDLE_AGE, _AGE_NUMBER, _REPLICATED, cbor.encode_uint(age_ms)))
    head = (b"\x86\x01\x01\x00" if crc_type else b"\x85\x01\x01\x00") + cbor.encode_uint(crc_type)
    head += cbor.encode_bytes_head(len(payload))
    pieces += (head, payload, _payload_crc(crc_type, head, payload), b"\xff")
    return b"".join(pieces)


@lru_cache(maxsize=_HEADS_MAX)
def _bundle_head(flags: int, crc_type: int, destination: Eid, source: Eid, report_to: Eid) -> bytes:
    return encode_primary_head(9 if crc_type else 8, flags, crc_type, destination, source, report_to)


@lru_cache(maxsize=_HEADS_MAX)
def _steady_run(hop_limit: int, precedence: int) -> bytes:
    """The extension blocks that are alike in most bundles of a node."""
    run = b""
    if hop_limit:
        run += extension_block(BlockType.HOP_COUNT, _HOP_COUNT_NUMBER, _REPLICATED, encode_hop_count(hop_limit, 0))
    if precedence != PRECEDENCE_DEFAULT:
        content = encode_precedence(precedence)
        run += extension_block(BlockType.QUALITY_OF_SERVICE, _PRECEDENCE_NUMBER, _REPLICATED, content)
    return run


def extension_block(type_code: int, number: int, flags: int, content: bytes) -> bytes:
    """Encode an extension block without a CRC."""
    return encode_fields(type_code, number, flags, CrcType.NONE, content)


def _payload_crc(crc_type: int, head: bytes, payload: bytes) -> bytes:
    if crc_type == CrcType.NONE:
        return b""
    value = crc.extend(crc_type, crc.extend(crc_type, 0, head), payload)
    return crc.field(crc_type, crc.extend(crc_type, value, crc.ZERO_FIELDS[crc_type]))


def encode(bundle: Bundle) -> bytes:
    """Encode any bundle. What RFC 9171 forbids is the caller's fault and is encoded as it is."""
    return b"".join((b"\x9f", encode_primary(bundle.primary), *map(encode_block, bundle.blocks), b"\xff"))


def decode_untrusted(data: bytes) -> Bundle:
    """Take a bundle apart; every block's data is copied out.

    Errors:
        BundleError: as `scan_untrusted`, which checks it first.
    """
    header = scan_untrusted(data)
    blocks = []
    pos = header.extensions_offset
    while pos < len(data) - 1:
        extent = read_block(data, pos)
        content = data[extent.data_offset : extent.data_end]
        blocks.append(CanonicalBlock(extent.type, extent.number, content, extent.flags, extent.crc_type))
        pos = extent.end
    return Bundle(_primary(header), tuple(blocks))


def _primary(header: BundleHeader) -> PrimaryBlock:
    is_fragment = bool(header.flags & BundleFlag.IS_FRAGMENT)
    return PrimaryBlock(
        header.destination,
        header.source,
        header.report_to,
        header.id.time_ms,
        header.id.sequence,
        header.lifetime_ms,
        header.flags,
        header.primary_crc_type,
        header.id.fragment_offset if is_fragment else None,
        header.total_adu_bytes if is_fragment else None,
    )
