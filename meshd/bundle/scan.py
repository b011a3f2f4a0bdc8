# SPDX-License-Identifier: Apache-2.0
"""The parser of received bundles (RFC 9171 section 4): one look, all checks, nothing copied.

It runs for every bundle, so it remembers. Bundles of one flow begin with the same bytes (from the first to the
report-to EID), and their extension blocks repeat. CBOR is self-delimiting: bytes that once were read as a whole run
of items are the same items wherever they stand again. So two bounded tables hold what such bytes said, and a look-up
stands in for reading them; what is in no table is read by `primary`, `canonical` and `extension`, item by item. A
wrong guess at where a run ends finds nothing in the table and costs a look-up, never a wrong answer.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

from meshd.base.limits import BUNDLE_SIZE_MAX_BYTES
from meshd.bundle.blocks import BLOCKS_MAX, PAYLOAD_NUMBER
from meshd.bundle.canonical import BlockExtent, check_block_crc, read_block, wrong_crc
from meshd.bundle.cbor import BREAK
from meshd.bundle.crc import CRC_32C, crc32c, extend_crc32c
from meshd.bundle.eid import NULL_EIDS
from meshd.bundle.errors import BundleError
from meshd.bundle.extension import Extensions, read_extensions
from meshd.bundle.header import BundleHeader
from meshd.bundle.primary import PRIMARY_START, PrimaryHead, is_crc_right, read_primary_head, read_primary_tail
from meshd.bundle.record import BundleId

REMEMBERED_MAX: Final = 4096
"""Entries of each table; a full one is emptied, which costs a slower look at the next bundle of each flow."""
REMEMBERED_SIZE_MAX_BYTES: Final = 256
"""Longer runs of bytes are not remembered."""
DIGEST_BYTES: Final = 16
"""Of SHA-256 over the primary block, telling bundles of the anonymous source apart."""

_TIMESTAMP_HEAD: Final = b"\x82\x1b\x00\x00"
"""How a creation timestamp in this age of the world begins: a guess at where the head of the primary block ends."""
_PAYLOAD_HEAD: Final = b"\x86\x01\x01\x00\x02"
"""How a payload block without flags and with a CRC-32C begins: a guess at where the extension blocks end."""
_PAYLOAD_HEAD_2: Final = _PAYLOAD_HEAD + b"\x59"
_PAYLOAD_HEAD_1: Final = _PAYLOAD_HEAD + b"\x58"
"""The same with a payload whose size takes 2 bytes, or 1; a longer payload has time for the long way."""
_AGE_HEAD: Final = b"\x85\x07"
"""How a bundle age block without a CRC begins."""
_AGE_FORMS: Final = {8: b"\x00\x42\x18", 9: b"\x00\x43\x19", 11: b"\x00\x45\x1a", 15: b"\x00\x49\x1b"}
"""By the block's size: its CRC type and the heads of its data and of the number within, for ages above 23 ms."""
_UINT32_HEAD: Final = 0x1A
_CRC_32C_HEAD: Final = 0x44
_CRC_32C_ZEROS: Final = b"\x44\x00\x00\x00\x00"
_ZEROS: Final = bytes(4)


def _tail_form(sequence: str) -> tuple[Callable[[bytes, int], tuple[Any, ...]], int, int]:
    """A tail of the primary block with an 8-byte time, this sequence number, a 4-byte lifetime and a CRC-32C.

    Returns:
        What unpacks the four numbers, and how far from the tail's start the heads of lifetime and CRC stand.
    """
    lifetime_head = 10 + struct.calcsize(">" + sequence)
    return struct.Struct(f">2xQ{sequence}xIxI").unpack_from, lifetime_head, lifetime_head + 5


_TAIL_FORMS: Final = dict.fromkeys(range(24), _tail_form("B")) | {
    0x18: _tail_form("xB"),
    0x19: _tail_form("xH"),
    0x1A: _tail_form("xI"),
}
"""By the byte with which the sequence number begins, which up to 23 is the number itself."""
_TAIL_MAX_BYTES: Final = 32
"""Above the size of each of these tails."""

# Names of this module are looked up faster than attributes of another's.
_from_bytes: Final = int.from_bytes
_new_tuple: Final = tuple.__new__

_heads: Final[dict[bytes, PrimaryHead]] = {}
_runs: Final[dict[bytes, tuple[Extensions, frozenset[int]]]] = {}


def scan_untrusted(data: bytes) -> BundleHeader:
    """Check a received bundle whole and say what is in it.

    The long way round (`read_primary_tail`, `read_payload_block`) takes every form; in line stand the forms in which
    nearly all bundles come, where a call per number would cost more than all the rest.

    Args:
        data: exactly one encoded bundle, at most BUNDLE_SIZE_MAX_BYTES.

    Errors:
        BundleError: its `reason` says what is wrong; nothing else is ever raised.
    """
    size = len(data)
    if size > BUNDLE_SIZE_MAX_BYTES:
        raise BundleError("oversize", f"a bundle of {size} bytes; at most {BUNDLE_SIZE_MAX_BYTES} are taken")
    head_end = data.find(_TIMESTAMP_HEAD, 0, REMEMBERED_SIZE_MAX_BYTES)
    head = _heads.get(data[:head_end]) if head_end > 0 else None
    if head is None:
        head, head_end = _read_head(data)
    length, flags, crc_type, destination, source, report_to = head

    fragment_offset, total_adu_bytes = -1, 0
    form = _TAIL_FORMS.get(data[head_end + 10]) if head_end + _TAIL_MAX_BYTES < size else None
    if (
        form is not None
        and length == 9
        and crc_type == CRC_32C
        and data[head_end : head_end + 2] == b"\x82\x1b"
        and data[head_end + form[1]] == _UINT32_HEAD
        and data[head_end + form[2]] == _CRC_32C_HEAD
    ):
        time_ms, sequence, lifetime_ms, crc = form[0](data, head_end)
        crc_offset = head_end + form[2] + 1
        primary_end = crc_offset + 4
        is_right = crc == crc32c(data[PRIMARY_START:crc_offset] + _ZEROS)
    else:
        tail = read_primary_tail(data, head_end, head)
        time_ms, sequence, lifetime_ms, fragment_offset, total_adu_bytes, crc_offset, primary_end = tail
        is_right = is_crc_right(data, crc_type, PRIMARY_START, crc_offset, primary_end)
    if not is_right:
        raise BundleError("crc", "the CRC of the primary block is wrong")

    payload_start = data.find(_PAYLOAD_HEAD, primary_end, primary_end + REMEMBERED_SIZE_MAX_BYTES)
    extensions = _remembered_run(data[primary_end:payload_start]) if payload_start > 0 else None
    if extensions is None:
        extensions, payload_start = _read_run(data, primary_end)
    if time_ms == 0 and extensions[0] is None:
        raise BundleError("age", "the bundle has neither a creation time nor a bundle age block")

    payload_head = data[payload_start : payload_start + 6]
    payload_end = size - 6
    payload_offset = payload_start + 8
    claimed_size: int | None = None
    if payload_end < payload_offset:
        pass  # too short for the forms below
    elif payload_head == _PAYLOAD_HEAD_2:
        claimed_size = data[payload_start + 6] << 8 | data[payload_start + 7]
    elif payload_head == _PAYLOAD_HEAD_1:
        payload_offset, claimed_size = payload_start + 7, data[payload_start + 6]
    if claimed_size == payload_end - payload_offset and data[payload_end] == _CRC_32C_HEAD and data[-1] == BREAK:
        crc = extend_crc32c(crc32c(data[payload_start:payload_end]), _CRC_32C_ZEROS)
        if crc != _from_bytes(data[payload_end + 1 : -1], "big"):
            raise wrong_crc(PAYLOAD_NUMBER, 1)
    else:
        payload = read_payload_block(data, payload_start)
        check_block_crc(data, payload)
        payload_offset, payload_end = payload.data_offset, payload.data_end

    payload_size = payload_end - payload_offset
    fragment_bytes = -1
    if fragment_offset >= 0:
        fragment_bytes = payload_size
        check_fragment(fragment_offset, payload_size, total_adu_bytes)
    digest = b"" if source not in NULL_EIDS else sha256(data[:primary_end]).digest()[:DIGEST_BYTES]
    return BundleHeader(
        _new_tuple(BundleId, (source, time_ms, sequence, fragment_offset, fragment_bytes, digest)),
        destination,
        report_to,
        flags,
        lifetime_ms,
        crc_type,
        total_adu_bytes,
        *extensions,
        primary_end,
        payload_start,
        payload_offset,
        payload_size,
    )


def _read_head(data: bytes) -> tuple[PrimaryHead, int]:
    head, end = read_primary_head(data)
    if end <= REMEMBERED_SIZE_MAX_BYTES:
        if len(_heads) >= REMEMBERED_MAX:
            _heads.clear()
        _heads[data[:end]] = head
    return head, end


def _remembered_run(run: bytes) -> Extensions | None:
    """What these extension blocks say, without reading them. A bundle age block may stand last: it is read in line."""
    known = _runs.get(run)
    if known is not None:
        return known[0]
    age_start = run.rfind(_AGE_HEAD)
    known = _runs.get(run[:age_start]) if age_start >= 0 else None
    if known is None:
        return None
    extensions, numbers = known
    age = run[age_start:]
    size = len(age)
    if size < 7 or age[2] > 23 or age[2] in numbers or age[3] > 23:
        return None
    if size == 7 and age[4:6] == b"\x00\x41" and age[6] < 24:
        return _new_tuple(Extensions, (age[6], *extensions[1:]))
    if age[4:7] == _AGE_FORMS.get(size):
        return _new_tuple(Extensions, (_from_bytes(age[7:], "big"), *extensions[1:]))
    return None


def _read_run(data: bytes, start: int) -> tuple[Extensions, int]:
    """Read the extension blocks, and remember those before a bundle age block that stands last."""
    extensions, numbers, end = read_extensions(data, start)
    run = data[start:end]
    if extensions.age_ms is None:
        _remember_run(run, extensions, numbers)
    elif end - start <= REMEMBERED_SIZE_MAX_BYTES:
        steady_run = run[: max(run.rfind(_AGE_HEAD), 0)]
        with suppress(BundleError):  # what looked like the head of an age block may have been something else
            steady, numbers, _ = read_extensions(steady_run + _PAYLOAD_HEAD, 0)
            _remember_run(steady_run, steady, numbers)
    return extensions, end


def _remember_run(run: bytes, extensions: Extensions, numbers: set[int]) -> None:
    """Not what differs from bundle to bundle: a part; nor so many blocks that an age block more would be too many."""
    if extensions.age_ms is not None or extensions.part is not None:
        return
    if len(run) <= REMEMBERED_SIZE_MAX_BYTES and len(numbers) < BLOCKS_MAX:
        if len(_runs) >= REMEMBERED_MAX:
            _runs.clear()
        _runs[run] = extensions, frozenset(numbers)


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
