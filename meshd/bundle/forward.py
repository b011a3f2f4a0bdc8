# SPDX-License-Identifier: Apache-2.0
"""The lazy way of forwarding: only the extension blocks that change on the way are written anew.

RFC 9171 section 5.4: the previous node block names us, the hop count grows by one, the bundle age by our residence
time. Primary and payload block go out as the bytes that came in. A block of unknown type is kept, unless its flags
ask for it to be discarded where it can't be processed (section 5.6 step 4).
"""

from contextlib import suppress
from functools import lru_cache
from typing import Final

from meshd.bundle import cbor
from meshd.bundle.blocks import BlockFlag, BlockType
from meshd.bundle.canonical import BlockExtent, encode_fields, read_block
from meshd.bundle.eid import Eid
from meshd.bundle.errors import BundleError
from meshd.bundle.extension import encode_hop_count, is_known, read_hop_count
from meshd.bundle.header import BundleHeader

JOIN_MAX_BYTES: Final = 16 * 1024
"""Up to this size a bundle is joined into one piece: copying it costs less than a second piece does to the sender."""
REMEMBERED_MAX: Final = 4096
"""Blocks, and runs of them, whose patched form is remembered; the least recently used goes first."""
REMEMBERED_SIZE_MAX_BYTES: Final = 256
"""Longer ones are not."""

_PREVIOUS_NODE: Final = int(BlockType.PREVIOUS_NODE)
_BUNDLE_AGE: Final = int(BlockType.BUNDLE_AGE)
_AGE_HEAD: Final = b"\x85\x07"
"""How a bundle age block without a CRC begins."""


def hop_limit_exceeded(header: BundleHeader) -> bool:
    """True when forwarding once more would take the hop count above the limit (RFC 9171 section 4.4.3)."""
    return 0 < header.hop_limit <= header.hop_count


def forwarded_copy(
    data: bytes, header: BundleHeader, *, own_node: Eid, residence_ms: int, is_own: bool
) -> list[bytes | memoryview]:
    """The bytes to send on, in order.

    Args:
        data: the bundle as it came or was built.
        header: what `scan_untrusted(data)` said.
        own_node: goes into the previous node block, which is added when missing.
        residence_ms: how long the bundle was here, in ms; added to its age if it carries one.
        is_own: we are its source: RFC 9171 section 4.4.1 forbids a previous node block then.

    Returns:
        One piece for a small bundle; else two, the second a view of `data` (the payload block is never copied).
    """
    run = data[header.extensions_offset : header.payload_block_offset]
    if len(run) > REMEMBERED_SIZE_MAX_BYTES:
        patched = _patched_run(run, own_node, residence_ms, is_own)
    elif header.age_ms is None:
        patched = _steady_run(run, own_node, is_own)
    else:
        patched = _ageing_run(run, header.age_ms, own_node, residence_ms, is_own)
    front = data[: header.extensions_offset] + patched
    if len(data) <= JOIN_MAX_BYTES:
        return [front + data[header.payload_block_offset :]]
    return [front, memoryview(data)[header.payload_block_offset :]]


@lru_cache(maxsize=REMEMBERED_MAX)
def _steady_run(run: bytes, own_node: Eid, is_own: bool, taken: int = 1) -> bytes:
    """Without an age block the result depends on the run alone, and runs repeat; `taken` is one more block number."""
    return _patched_run(run, own_node, 0, is_own, taken)


def _ageing_run(run: bytes, age_ms: int, own_node: Eid, residence_ms: int, is_own: bool) -> bytes:
    """With an age block, which usually stands last: what is before it is as steady as a run without one.

    Bytes that look like the age block may be the end of another block. Then the bytes before are no whole blocks, and
    the long way is taken.
    """
    age_start = run.rfind(_AGE_HEAD)
    age = run[age_start:]
    content = cbor.encode_uint(age_ms)
    if age_start >= 0 and age[4:] == bytes((0, 0x40 + len(content))) + content and max(age[2:4]) < 24:
        older = cbor.encode_uint(min(age_ms + residence_ms, cbor.UINT_MAX))
        with suppress(BundleError):
            steady = _steady_run(run[:age_start], own_node, is_own, age[2])
            return steady + age[:5] + bytes((0x40 + len(older),)) + older
    return _patched_run(run, own_node, residence_ms, is_own)


def _patched_run(run: bytes, own_node: Eid, residence_ms: int, is_own: bool, taken: int = 1) -> bytes:
    pieces = []
    numbers = {0, 1, taken}
    has_previous_node = is_own
    pos = 0
    while pos < len(run):
        block = read_block(run, pos)
        numbers.add(block.number)
        has_previous_node |= block.type == _PREVIOUS_NODE
        raw = run[block.start : block.end]
        if block.type == _BUNDLE_AGE:
            pieces.append(_older(run, block, residence_ms))
        elif len(raw) <= REMEMBERED_SIZE_MAX_BYTES:
            pieces.append(_patched_block(raw, own_node))
        else:
            pieces.append(_patched_block.__wrapped__(raw, own_node))
        pos = block.end
    if not has_previous_node:
        number = next(number for number in range(2, len(numbers) + 2) if number not in numbers)
        pieces.insert(0, encode_fields(_PREVIOUS_NODE, number, 0, 0, own_node.cbor))
    return b"".join(pieces)


def _older(run: bytes, block: BlockExtent, residence_ms: int) -> bytes:
    age_ms, _ = cbor.read_uint(run, block.data_offset)
    return _with_content(block, cbor.encode_uint(min(age_ms + residence_ms, cbor.UINT_MAX)))


@lru_cache(maxsize=REMEMBERED_MAX)
def _patched_block(raw: bytes, own_node: Eid) -> bytes:
    block = read_block(raw, 0)
    if block.type == _PREVIOUS_NODE:
        return _with_content(block, own_node.cbor)
    if block.type == BlockType.HOP_COUNT:
        (hop_limit, hop_count), _ = read_hop_count(raw, block.data_offset)
        return _with_content(block, encode_hop_count(hop_limit, min(hop_count + 1, cbor.UINT_MAX)))
    if not is_known(block.type) and block.flags & BlockFlag.DISCARD_IF_UNPROCESSABLE:
        return b""
    return raw


def _with_content(block: BlockExtent, content: bytes) -> bytes:
    return encode_fields(block.type, block.number, block.flags, block.crc_type, content)
