# SPDX-License-Identifier: Apache-2.0
"""The lazy way of forwarding: only the extension blocks that change on the way are written anew.

RFC 9171 section 5.4: the previous node block names us, the hop count grows by one, the bundle age by our residence
time. Primary and payload block go out as the bytes that came in. A block of unknown type is kept, unless its flags
ask for it to be discarded where it can't be processed (section 5.6 step 4).
"""

from functools import lru_cache
from typing import Final

from meshd.bundle import cbor
from meshd.bundle.blocks import BlockFlag, BlockType
from meshd.bundle.canonical import BlockExtent, encode_fields, read_block
from meshd.bundle.eid import Eid
from meshd.bundle.extension import encode_hop_count, is_known, read_hop_count
from meshd.bundle.header import BundleHeader, Flow

COMMON_AGES_MS: Final = 4096
"""Ages below this have their bytes ready."""
JOIN_MAX_BYTES: Final = 16 * 1024
"""Up to this size a bundle is joined into one piece: copying it costs less than a second piece does to the sender."""
REMEMBERED_MAX: Final = 4096
"""Blocks, and runs of them, whose patched form is remembered; the least recently used goes first."""
REMEMBERED_SIZE_MAX_BYTES: Final = 256
"""Longer ones are not."""

_PREVIOUS_NODE: Final = int(BlockType.PREVIOUS_NODE)
_BUNDLE_AGE: Final = int(BlockType.BUNDLE_AGE)
_AGE_HEAD_BYTES: Final = 5
"""Of a bundle age block without a CRC: array, type, number, flags and CRC type."""
_AGES: Final = tuple(cbor.encode_bytes(cbor.encode_uint(age_ms)) for age_ms in range(COMMON_AGES_MS))
"""Data of a bundle age block, with its head."""


def hop_limit_exceeded(flow: Flow) -> bool:
    """True when forwarding once more would take the hop count above the limit (RFC 9171 section 4.4.3)."""
    return 0 < flow.hop_limit <= flow.hop_count


def forwarded_copy(
    data: bytes, header: BundleHeader, own_node: Eid, residence_ms: int, is_own: bool
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
    front = _patched_front(data, header, own_node, residence_ms, is_own)
    if len(data) <= JOIN_MAX_BYTES:
        return [b"".join((*front, data[header.payload_block_offset :]))]
    return [b"".join(front), memoryview(data)[header.payload_block_offset :]]


def forwarded_front(data: bytes, header: BundleHeader, own_node: Eid, residence_ms: int, is_own: bool) -> bytes:
    """The same of a bundle that is not in memory: what goes before its payload block.

    Args:
        data: at least what comes before the payload block.
        header: what `scan_front_untrusted(data)` said.
    """
    return b"".join(_patched_front(data, header, own_node, residence_ms, is_own))


def _patched_front(
    data: bytes, header: BundleHeader, own_node: Eid, residence_ms: int, is_own: bool
) -> tuple[bytes, bytes, bytes]:
    flow, age_ms = header.flow, header.age_ms
    offset = header.extensions_offset
    if flow.steady_run is None:
        run = data[offset : header.payload_block_offset]
        return data[:offset], _patched_run(run, own_node, residence_ms, is_own), b""
    patched = _steady_run(flow, age_ms is not None, own_node, is_own)
    if age_ms is None:
        return data[:offset], patched, b""
    age_ms += residence_ms
    return data[:offset], patched, _AGES[age_ms] if age_ms < COMMON_AGES_MS else _age_data(age_ms)


@lru_cache(maxsize=REMEMBERED_MAX)
def _steady_run(flow: Flow, is_ageing: bool, own_node: Eid, is_own: bool) -> bytes:
    """The blocks of a flow as they leave, up to the age of the bundle age block that ends them."""
    run = flow.steady_run
    assert run is not None, "this flow repeats"
    if not is_ageing:
        return _patched_run(run, own_node, 0, is_own)
    age_head = run[-_AGE_HEAD_BYTES:]
    return _patched_run(run[:-_AGE_HEAD_BYTES], own_node, 0, is_own, age_head[2]) + age_head


def _age_data(age_ms: int) -> bytes:
    return cbor.encode_bytes(cbor.encode_uint(min(age_ms, cbor.UINT_MAX)))


def _patched_run(run: bytes, own_node: Eid, residence_ms: int, is_own: bool, taken: int = 1) -> bytes:
    """Whole blocks as they leave; `taken` is one more block number that is."""
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
