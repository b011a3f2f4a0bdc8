# SPDX-License-Identifier: Apache-2.0
"""Fragmentation (RFC 9171 section 5.8) and reassembly (section 5.9) of encoded bundles, as pure functions.

A fragment's primary block and payload block are made anew with the CRC types that they had; extension blocks go along
as the bytes they are: all of them in the first fragment, those to be replicated in every one. When to fragment, and
which fragments are needed for an ADU, is the node's business.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from meshd.base.limits import BUNDLE_SIZE_MAX_BYTES, INLINE_SIZE_MAX_BYTES
from meshd.bundle import cbor, crc
from meshd.bundle.blocks import BlockFlag, BundleFlag, PrimaryBlock
from meshd.bundle.canonical import encode_block_head, encode_fields, read_block
from meshd.bundle.errors import BundleError
from meshd.bundle.header import BundleHeader
from meshd.bundle.primary import encode_primary
from meshd.bundle.scan import scan_untrusted

FRAGMENTS_MAX: Final = 4096
"""Fragments made of one bundle, and kept of one ADU, above this are refused."""
ADU_SIZE_MAX_BYTES: Final = INLINE_SIZE_MAX_BYTES - 64 * 1024
"""A larger ADU is joined piece by piece: as one bundle with its blocks it would be above what memory holds."""
LARGE_ADU_SIZE_MAX_BYTES: Final = BUNDLE_SIZE_MAX_BYTES - 64 * 1024
"""A larger one is not reassembled at all: as a bundle it would be refused."""

_IS_FRAGMENT: Final = int(BundleFlag.IS_FRAGMENT)
_PAYLOAD_HEAD_MAX_BYTES: Final = 1 + 1 + 1 + 9 + 1
"""Array, type, number, flags and CRC type of a payload block."""


class Extent(NamedTuple):
    """Bytes `start` to `end` (not included) of an ADU."""

    start: int
    end: int


def extent_of(header: BundleHeader) -> Extent:
    """What part of its ADU a bundle carries."""
    start = max(header.id.fragment_offset, 0)
    return Extent(start, start + header.payload_size)


def fragment(data: bytes, header: BundleHeader, size_max_bytes: int, first_max_bytes: int | None = None) -> list[bytes]:
    """Cut a bundle, which may be a fragment itself, into fragments of at most this size.

    Args:
        data: the encoded bundle.
        header: what `scan_untrusted(data)` said.
        size_max_bytes: of each encoded fragment.
        first_max_bytes: of the first one, where less is left for it.

    Returns:
        The fragments in order; the bundle itself when it is small enough.

    Errors:
        BundleError: `fragment` when it must not be fragmented or such small fragments can't be made.
    """
    limit_bytes = size_max_bytes if first_max_bytes is None else min(first_max_bytes, size_max_bytes)
    if len(data) <= limit_bytes:
        return [data]
    cut = cut_fragments(data, header, lambda offset, size: data[offset : offset + size], 0, size_max_bytes, limit_bytes)
    return [each for each, _ in cut]


def cut_fragments(
    front: bytes,
    header: BundleHeader,
    read: Callable[[int, int], bytes],
    position: int,
    size_max_bytes: int,
    first_max_bytes: int,
) -> Iterator[tuple[bytes, int]]:
    """The same of a bundle that need not be in memory, from some byte of its payload on, one fragment at a time.

    Args:
        front: all that comes before the payload's bytes, or more.
        read: gives so many bytes of the bundle from an offset on.

    Returns:
        Each fragment with the position in the payload at which the next one begins.

    Errors:
        BundleError: as `fragment`; raised while it is iterated over.
    """
    if header.flags & BundleFlag.MUST_NOT_FRAGMENT:
        raise BundleError("fragment", "the bundle's flags say that it must not be fragmented")
    if not header.payload_size:
        raise BundleError("fragment", "the bundle has no payload to cut")
    all_blocks, replicated = _extension_runs(front, header)
    block_type, number, flags, crc_type = _payload_fields(front, header)
    limit_bytes, count = first_max_bytes, 0
    while position < header.payload_size:
        before = b"\x9f" + _fragment_primary(header, position) + (replicated if position else all_blocks)
        fixed_bytes = len(before) + _PAYLOAD_HEAD_MAX_BYTES + len(crc.ZERO_FIELDS[crc_type]) + 1
        size = min(limit_bytes - fixed_bytes - len(cbor.encode_bytes_head(limit_bytes)), header.payload_size - position)
        if size <= 0 or count == FRAGMENTS_MAX:
            raise BundleError("fragment", f"the bundle can't be cut into {FRAGMENTS_MAX} of {limit_bytes} bytes")
        content = read(header.payload_offset + position, size)
        position += size
        count += 1
        yield before + encode_fields(block_type, number, flags, crc_type, content) + b"\xff", position
        limit_bytes = size_max_bytes


def _payload_fields(front: bytes, header: BundleHeader) -> tuple[int, int, int, int]:
    """Type, number, flags and CRC type of the payload block."""
    _, pos = cbor.read_array_header(front, header.payload_block_offset)
    block_type, pos = cbor.read_uint(front, pos)
    number, pos = cbor.read_uint(front, pos)
    flags, pos = cbor.read_uint(front, pos)
    crc_type, pos = cbor.read_uint(front, pos)
    return block_type, number, flags, crc_type


def _extension_runs(data: bytes, header: BundleHeader) -> tuple[bytes, bytes]:
    """All extension blocks, and those that go into every fragment."""
    replicated = []
    pos = header.extensions_offset
    while pos < header.payload_block_offset:
        block = read_block(data, pos)
        if block.flags & BlockFlag.REPLICATE_IN_FRAGMENTS:
            replicated.append(data[block.start : block.end])
        pos = block.end
    return data[header.extensions_offset : header.payload_block_offset], b"".join(replicated)


def _fragment_primary(header: BundleHeader, position: int) -> bytes:
    is_fragment = header.flags & _IS_FRAGMENT
    base = header.id.fragment_offset if is_fragment else 0
    total_bytes = header.total_adu_bytes if is_fragment else header.payload_size
    return _primary(header, header.flags | _IS_FRAGMENT, base + position, total_bytes)


def _primary(header: BundleHeader, flags: int, offset: int | None, total_bytes: int | None) -> bytes:
    return encode_primary(
        PrimaryBlock(
            header.destination,
            header.source,
            header.report_to,
            header.id.time_ms,
            header.id.sequence,
            header.lifetime_ms,
            flags,
            header.primary_crc_type,
            offset,
            total_bytes,
        )
    )


def choose_cover(extents: Sequence[Extent], total_bytes: int) -> list[int] | None:
    """Which of these extents, taken in this order, make up the whole ADU; None when something is missing."""
    order = sorted(range(len(extents)), key=lambda index: (extents[index].start, -extents[index].end))
    chosen: list[int] = []
    covered, reach, best = 0, 0, -1
    for index in order:
        start, end = extents[index]
        if start > covered and reach > covered:
            chosen.append(best)
            covered = reach
        if start > covered:
            return None
        if end > reach:
            reach, best = end, index
    if reach > covered:
        chosen.append(best)
    return chosen if reach >= total_bytes else None


def reassemble(fragments: Iterable[bytes]) -> bytes:
    """Make the original bundle out of all of its fragments, which may overlap and come in any order.

    Where fragments overlap, the bytes of the one that begins first count. The primary block and the extension blocks
    are those of the fragment at offset 0.

    Errors:
        BundleError: `fragment` when they are of different ADUs, something is missing, or it would be too large; and
            as `scan_untrusted`.
    """
    parts = sorted(((scan_untrusted(data), data) for data in fragments), key=lambda part: part[0].id.fragment_offset)
    if not parts:
        raise BundleError("fragment", "there are no fragments to reassemble")
    first, first_data = parts[0]
    total_bytes = first.total_adu_bytes
    if total_bytes > ADU_SIZE_MAX_BYTES:
        raise BundleError("fragment", f"an ADU of {total_bytes} bytes: at most {ADU_SIZE_MAX_BYTES} are reassembled")
    payload = bytearray()
    for header, data in parts:
        if header.id[:3] != first.id[:3] or header.total_adu_bytes != total_bytes or not header.is_fragment:
            raise BundleError("fragment", "these are no fragments of one ADU")
        extent = extent_of(header)
        if extent.start > len(payload):
            raise BundleError("fragment", f"bytes {len(payload)} to {extent.start} of the ADU are missing")
        if extent.end > len(payload):
            begin = header.payload_offset + len(payload) - extent.start
            payload += data[begin : header.payload_offset + header.payload_size]
    if len(payload) != total_bytes:
        raise BundleError("fragment", f"the last {total_bytes - len(payload)} bytes of the ADU are missing")
    return _whole(first_data, first, bytes(payload))


def _whole(data: bytes, header: BundleHeader, payload: bytes) -> bytes:
    join = PiecewiseJoin(data, header)
    if join.size_bytes > INLINE_SIZE_MAX_BYTES:
        raise BundleError("fragment", f"reassembled it has {join.size_bytes} bytes, above {INLINE_SIZE_MAX_BYTES}")
    join.feed(payload)
    return join.front + payload + join.tail()


class PiecewiseJoin:
    """The whole that fragments make up, without its payload: `front`, the payload in pieces, `tail`.

    Args:
        first: the fragment at offset 0, up to its payload's bytes or more.
        header: of that.
    """

    def __init__(self, first: bytes, header: BundleHeader) -> None:
        block_type, number, flags, self._crc_type = _payload_fields(first, header)
        run = first[header.extensions_offset : header.payload_block_offset]
        primary = _primary(header, header.flags & ~_IS_FRAGMENT, None, None)
        head = encode_block_head(block_type, number, flags, self._crc_type, header.total_adu_bytes)
        self._crc = crc.extend(self._crc_type, 0, head) if self._crc_type else 0
        self.front = b"\x9f" + primary + run + head
        tail_bytes = len(crc.ZERO_FIELDS[self._crc_type]) + 1
        self.size_bytes = len(self.front) + header.total_adu_bytes + tail_bytes

    def feed(self, piece: bytes) -> None:
        """The payload's next bytes."""
        if self._crc_type:
            self._crc = crc.extend(self._crc_type, self._crc, piece)

    def tail(self) -> bytes:
        """What follows the payload, all of which was fed."""
        if not self._crc_type:
            return b"\xff"
        counted = crc.extend(self._crc_type, self._crc, crc.ZERO_FIELDS[self._crc_type])
        return crc.field(self._crc_type, counted) + b"\xff"
