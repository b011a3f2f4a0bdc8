# SPDX-License-Identifier: Apache-2.0
"""The parser of received bundles (RFC 9171 section 4): one look, all checks, nothing copied.

It runs for every bundle, so it remembers. Bundles of one flow begin with the same bytes (from the first to the
report-to EID), and their extension blocks repeat but for the age. CBOR is self-delimiting: bytes that once were read
as whole items are the same items wherever they stand again. So a bounded table holds what such bytes said, and one
look-up stands in for reading them; what is not in it is read by `primary`, `canonical` and `extension`, item by item.
A wrong guess at where a run of bytes ends finds nothing in the table and costs a look-up, never a wrong answer.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, NamedTuple

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle import cbor
from meshd.bundle.blocks import PAYLOAD_NUMBER
from meshd.bundle.canonical import BlockExtent, check_block_crc, read_block, wrong_crc
from meshd.bundle.cbor import BREAK
from meshd.bundle.crc import CHUNK_BYTES, CRC_32C, CRC_NONE, ZERO_FIELDS, crc32c, extend_crc32c, extent_crc
from meshd.bundle.eid import NULL_EIDS
from meshd.bundle.errors import BundleError
from meshd.bundle.extension import Extensions, read_extensions
from meshd.bundle.header import BundleHeader, Flow
from meshd.bundle.primary import (
    PRIMARY_START,
    PrimaryHead,
    PrimaryTail,
    is_crc_right,
    read_primary_head,
    read_primary_tail,
)
from meshd.bundle.record import BundleId

REMEMBERED_MAX: Final = 4096
"""Flows in the table; a full one is emptied, which costs a slower look at the next bundle of each flow."""
REMEMBERED_SIZE_MAX_BYTES: Final = 256
"""Longer runs of bytes are not remembered."""
DIGEST_BYTES: Final = 16
"""Of SHA-256 over the primary block, telling bundles of the anonymous source apart."""
COMMON_AGES_MS: Final = 1024
"""Ages below this are told by their bytes at once."""

_TIMESTAMP_HEAD: Final = b"\x82\x1b\x00\x00"
"""How a creation timestamp in this age of the world begins: a guess at where the head of the primary block ends."""
_PAYLOAD_HEAD: Final = b"\x86\x01\x01\x00\x02"
"""How a payload block without flags and with a CRC-32C begins: a guess at where the extension blocks end."""
_AGE_HEAD: Final = b"\x85\x07"
"""How a bundle age block without a CRC begins."""
_AGE_HEAD_BYTES: Final = 5
"""Array, type, number, flags and CRC type of such a block."""
_AGES: Final = {cbor.encode_bytes(cbor.encode_uint(age_ms)): age_ms for age_ms in range(COMMON_AGES_MS)}
_TIME_MARK: Final = 0x821B
_UINT16_HEAD: Final = 0x19
_UINT32_HEAD: Final = 0x1A
_CRC_32C_HEAD: Final = 0x44
_CRC_32C_ZEROS: Final = ZERO_FIELDS[CRC_32C]
_ZEROS: Final = bytes(4)
_PAYLOAD_BLOCK_MIN_BYTES: Final = 12
"""With its CRC and the break that ends the bundle."""
_unpack_payload_end: Final = struct.Struct(">BIB").unpack_from
"""CRC field and break."""


def _tail_form(sequence: str, lifetime: str) -> tuple[Callable[[bytes, int], tuple[Any, ...]], int]:
    """A tail of the primary block with an 8-byte time, this sequence number, this lifetime and a CRC-32C.

    Returns:
        What unpacks heads and numbers, and how far behind the tail's start the CRC's bytes lie.
    """
    form = struct.Struct(f">HQ{sequence}B{lifetime}BI")
    return form.unpack_from, form.size - 4


_SEQUENCES: Final = dict.fromkeys(range(24), "B") | {0x18: "xB", 0x19: "xH", 0x1A: "xI"}
"""By the byte with which the sequence number begins, which up to 23 is the number itself."""
_TAIL_FORMS: Final = {first: _tail_form(sequence, "I") for first, sequence in _SEQUENCES.items()}
"""With a 4-byte lifetime."""
_BRIEF_TAIL_FORMS: Final = {first: _tail_form(sequence, "H") for first, sequence in _SEQUENCES.items()}
"""With a 2-byte lifetime: up to 65 s."""
_TAIL_MAX_BYTES: Final = 32
"""Above the size of each of these tails."""

# Names of this module are looked up faster than attributes of another's.
_from_bytes: Final = int.from_bytes
_new_tuple: Final = tuple.__new__

_flows: Final[dict[tuple[bytes, bytes], Flow]] = {}
"""By the head of the primary block and the run of extension blocks, which ends within a bundle age block that stands
last. Only flows of whole bundles with a CRC-32C in the primary block, whose parts are not numbered."""


def scan_untrusted(data: bytes) -> BundleHeader:
    """Check a received bundle whole and say what is in it.

    In line stands the form in which nearly all bundles come, where a call per number would cost more than all the
    rest; every other form goes the long way round.

    Args:
        data: exactly one encoded bundle, at most INLINE_SIZE_MAX_BYTES.

    Errors:
        BundleError: its `reason` says what is wrong; nothing else is ever raised.
    """
    size = len(data)
    head_end = data.find(_TIMESTAMP_HEAD, 0, REMEMBERED_SIZE_MAX_BYTES)
    if head_end < 0 or head_end + _TAIL_MAX_BYTES > size or size > INLINE_SIZE_MAX_BYTES:
        return _scan_slowly(data)
    form = _TAIL_FORMS.get(data[head_end + 10])
    if form is None:
        return _scan_slowly(data)
    unpack, crc_distance = form
    mark, time_ms, sequence, lifetime_head, lifetime_ms, crc_head, crc = unpack(data, head_end)
    if lifetime_head == _UINT16_HEAD:
        unpack, crc_distance = _BRIEF_TAIL_FORMS[data[head_end + 10]]
        mark, time_ms, sequence, lifetime_head, lifetime_ms, crc_head, crc = unpack(data, head_end)
    elif lifetime_head != _UINT32_HEAD:
        return _scan_slowly(data)
    crc_offset = head_end + crc_distance
    primary_end = crc_offset + 4
    payload_start = data.find(_PAYLOAD_HEAD, primary_end, primary_end + REMEMBERED_SIZE_MAX_BYTES)
    if (
        payload_start < 0
        or mark != _TIME_MARK
        or crc_head != _CRC_32C_HEAD
        or payload_start + _PAYLOAD_BLOCK_MIN_BYTES > size
    ):
        return _scan_slowly(data)

    age_ms: int | None = None
    age_start = data.rfind(_AGE_HEAD, primary_end, payload_start)
    if age_start < 0:
        flow = _flows.get((data[:head_end], data[primary_end:payload_start]))
    else:
        age_start += _AGE_HEAD_BYTES
        flow = _flows.get((data[:head_end], data[primary_end:age_start]))
        if flow is not None:
            content = data[age_start:payload_start]
            age_ms = _AGES.get(content)
            if age_ms is None:
                age_ms = _read_age(content)
                flow = None if age_ms is None else flow
    if flow is None or (age_ms is None and time_ms == 0):
        return _scan_slowly(data)

    kind = data[payload_start + 5]
    if kind == 0x59:
        payload_offset = payload_start + 8
        payload_size = data[payload_start + 6] << 8 | data[payload_start + 7]
    elif kind == 0x58:
        payload_offset = payload_start + 7
        payload_size = data[payload_start + 6]
    elif kind == 0x5A:
        payload_offset = payload_start + 10
        payload_size = _from_bytes(data[payload_start + 6 : payload_offset], "big")
    elif kind < 0x58:
        payload_offset = payload_start + 6
        payload_size = kind - 0x40
    else:
        return _scan_slowly(data)
    payload_end = payload_offset + payload_size
    if payload_end + 6 != size:
        return _scan_slowly(data)
    crc_head, payload_crc, end = _unpack_payload_end(data, payload_end)
    if crc_head != _CRC_32C_HEAD or end != BREAK:
        return _scan_slowly(data)

    if crc != crc32c(data[PRIMARY_START:crc_offset] + _ZEROS):
        raise BundleError("crc", "the CRC of the primary block is wrong")
    if payload_size < CHUNK_BYTES:
        value = crc32c(data[payload_start:payload_end])
    else:
        value = extent_crc(CRC_32C, data, payload_start, payload_end)
    if payload_crc != extend_crc32c(value, _CRC_32C_ZEROS):
        raise wrong_crc(PAYLOAD_NUMBER, 1)
    source = flow.source
    return BundleHeader(
        _new_tuple(
            BundleId,
            (source, time_ms, sequence, -1, -1, b"" if source not in NULL_EIDS else _digest(data, primary_end)),
        ),
        flow,
        lifetime_ms,
        age_ms,
        0,
        primary_end,
        payload_start,
        payload_offset,
        payload_size,
    )


def _digest(data: bytes, primary_end: int) -> bytes:
    return sha256(data[:primary_end]).digest()[:DIGEST_BYTES]


def _read_age(content: bytes) -> int | None:
    """The age from the byte string that holds it; None when that is something else."""
    with suppress(BundleError):
        start, end = cbor.read_bytes_extent(content, 0)
        age_ms, after = cbor.read_uint(content, start)
        if end == after == len(content):
            return age_ms
    return None


def _scan_slowly(data: bytes) -> BundleHeader:
    """Every form, item by item."""
    size = len(data)
    if size > INLINE_SIZE_MAX_BYTES:
        raise BundleError("oversize", f"a bundle of {size} bytes; at most {INLINE_SIZE_MAX_BYTES} are taken")
    front = read_front(data)
    payload = read_payload_block(data, front.payload_start)
    check_block_crc(data, payload)
    return make_header(data, front, payload.data_offset, payload.data_end - payload.data_offset)


class Front(NamedTuple):
    """What comes before the payload block, its CRCs checked."""

    head: PrimaryHead
    head_end: int
    tail: PrimaryTail
    extensions: Extensions
    payload_start: int
    """Of the payload block."""


def read_front(data: bytes) -> Front:
    """Read primary and extension blocks.

    Errors:
        BundleError: as the readers of these blocks, `crc` and `age`.
    """
    head, head_end = read_primary_head(data)
    tail = read_primary_tail(data, head_end, head)
    if not is_crc_right(data, head.crc_type, PRIMARY_START, tail.crc_offset, tail.end):
        raise BundleError("crc", "the CRC of the primary block is wrong")
    extensions, _, payload_start = read_extensions(data, tail.end)
    if tail.time_ms == 0 and extensions.age_ms is None:
        raise BundleError("age", "the bundle has neither a creation time nor a bundle age block")
    return Front(head, head_end, tail, extensions, payload_start)


def make_header(data: bytes, front: Front, payload_offset: int, payload_size: int) -> BundleHeader:
    """The header of a bundle that begins with this front.

    Errors:
        BundleError: `fragment`.
    """
    head, head_end, tail, extensions, payload_start = front
    fragment_bytes = -1
    if tail.fragment_offset >= 0:
        fragment_bytes = payload_size
        check_fragment(tail.fragment_offset, payload_size, tail.total_adu_bytes)
    source = head.source
    digest = b"" if source not in NULL_EIDS else _digest(data, tail.end)
    return BundleHeader(
        BundleId(source, tail.time_ms, tail.sequence, tail.fragment_offset, fragment_bytes, digest),
        _flow(data, head, head_end, extensions, tail.end, payload_start),
        tail.lifetime_ms,
        extensions.age_ms,
        tail.total_adu_bytes,
        tail.end,
        payload_start,
        payload_offset,
        payload_size,
    )


def _flow(
    data: bytes, head: PrimaryHead, head_end: int, extensions: Extensions, primary_end: int, payload_start: int
) -> Flow:
    """What is the same in every bundle of the flow; it is remembered if its next bundle can be told by its bytes."""
    run = data[primary_end:payload_start]
    steady_bytes = _steady_bytes(run, extensions) if len(run) <= REMEMBERED_SIZE_MAX_BYTES else None
    flow = Flow(
        head.destination,
        head.source,
        head.report_to,
        head.flags,
        head.crc_type,
        *extensions[1:],
        None if steady_bytes is None else run[:steady_bytes],
    )
    is_usual = head.crc_type == CRC_32C and head.length == 9 and head_end <= REMEMBERED_SIZE_MAX_BYTES
    if is_usual and steady_bytes is not None:
        if len(_flows) >= REMEMBERED_MAX:
            _flows.clear()
        _flows[data[:head_end], run[:steady_bytes]] = flow
    return flow


def _steady_bytes(run: bytes, extensions: Extensions) -> int | None:
    """How much of the extension blocks is the same in the flow's next bundle; None when that can't be told.

    All of it without a bundle age block; up to the age where that block stands last and has no CRC. What looks like
    its head may be something else: then what is before it is no run of blocks. A part block is another every time, and
    a supersession block soon.
    """
    if extensions.part is not None or extensions.supersession is not None:
        return None
    if extensions.age_ms is None:
        return len(run)
    start = max(run.rfind(_AGE_HEAD), 0)
    head = run[start : start + _AGE_HEAD_BYTES]
    is_plain = len(head) == _AGE_HEAD_BYTES and max(head[2:4]) < 24 and head[4] == CRC_NONE
    with suppress(BundleError):
        if is_plain and head.startswith(_AGE_HEAD) and read_extensions(run[:start] + _PAYLOAD_HEAD, 0)[2] == start:
            return start + _AGE_HEAD_BYTES if read_block(run, start).end == len(run) else None
    return None


def read_payload_block(data: bytes, start: int) -> BlockExtent:
    """Find the payload block, which begins at `start`, and check that the bundle ends with it; not its CRC.

    Errors:
        BundleError: `block-number`, `payload`, `trailing`, `truncated` and as `read_block`.
    """
    block = read_block(data, start)
    if block.number != PAYLOAD_NUMBER:
        raise BundleError("block-number", f"the payload block has number {block.number} instead of {PAYLOAD_NUMBER}")
    after = data[block.end : block.end + 1]
    if not after:
        raise BundleError("truncated", "the bundle lacks the break that ends it")
    if after != b"\xff":
        raise BundleError("payload", "something follows the payload block, which has to be the last")
    if len(data) > block.end + 1:
        raise BundleError("trailing", f"{len(data) - block.end - 1} bytes follow the end of the bundle")
    return block


def check_fragment(offset: int, size: int, total_bytes: int) -> None:
    """Check that a fragment lies within its ADU.

    Errors:
        BundleError: `fragment`.
    """
    if offset + size > total_bytes:
        raise BundleError("fragment", f"the fragment ends at byte {offset + size} of an ADU of {total_bytes} bytes")
