# SPDX-License-Identifier: Apache-2.0
"""The extension blocks that meshd knows: what is in them, and reading all of a bundle's at once.

Previous node, bundle age and hop count are RFC 9171 section 4.4; quality of service (193) is ION's, supersession
(201) and part (202) are meshd's own. Blocks of other types are carried along unread; what their flags ask for (RFC
9171 section 4.2.4) is noted.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from meshd.bundle import cbor
from meshd.bundle.blocks import BLOCKS_MAX, PAYLOAD_NUMBER, BlockFlag, BlockType
from meshd.bundle.canonical import BlockExtent, check_block_crc, read_block
from meshd.bundle.eid import Eid, check_node_id, decode_eid_untrusted
from meshd.bundle.errors import BundleError
from meshd.bundle.precedence import PRECEDENCE_DEFAULT, read_precedence
from meshd.bundle.record import Part
from meshd.bundle.supersession import Supersession, read_supersession

HOP_LIMIT_MAX: Final = 255
REMEMBERED_MAX: Final = 4096
"""Contents of blocks that are remembered; the least recently used goes first."""
REMEMBERED_SIZE_MAX_BYTES: Final = 64
"""Longer ones are not."""


class Extensions(NamedTuple):
    """What a bundle's extension blocks say together. The order of the fields is that in `BundleHeader`."""

    age_ms: int | None
    hop_limit: int
    """0 without the block."""
    hop_count: int
    previous_node: Eid | None
    precedence: int
    part: Part | None
    supersession: Supersession | None
    must_delete: bool
    """A block of unknown type asks that the bundle be deleted where it can't be processed."""
    must_report: bool
    """A block of unknown type asks for a status report where it can't be processed."""


def read_hop_count(data: bytes, pos: int) -> tuple[tuple[int, int], int]:
    """Read hop limit and hop count (RFC 9171 section 4.4.3).

    Errors:
        BundleError: `hop-count`, `cbor` or `truncated`.
    """
    length, pos = cbor.read_array_header(data, pos)
    hop_limit, pos = cbor.read_uint(data, pos)
    hop_count, pos = cbor.read_uint(data, pos)
    if length not in (2, cbor.INDEFINITE):
        raise BundleError("hop-count", f"a hop count block holds 2 numbers, not {length}")
    if not 1 <= hop_limit <= HOP_LIMIT_MAX:
        raise BundleError("hop-count", f"a hop limit is 1 to {HOP_LIMIT_MAX}, not {hop_limit}")
    return (hop_limit, hop_count), cbor.read_array_end(data, pos, length)


def encode_hop_count(hop_limit: int, hop_count: int) -> bytes:
    """The data of a hop count block."""
    return b"\x82" + cbor.encode_uint(hop_limit) + cbor.encode_uint(hop_count)


def read_part(data: bytes, pos: int) -> tuple[Part, int]:
    """Read meshd's part block: `[first_time_ms, first_sequence, index, offset_bytes, is_last]`.

    Errors:
        BundleError: `part`, `cbor` or `truncated`.
    """
    length, pos = cbor.read_array_header(data, pos)
    if length != 5:
        raise BundleError("part", "a part block is an array [first time, first sequence, index, offset, is last]")
    first_time_ms, pos = cbor.read_uint(data, pos)
    first_sequence, pos = cbor.read_uint(data, pos)
    index, pos = cbor.read_uint(data, pos)
    offset_bytes, pos = cbor.read_uint(data, pos)
    is_last, pos = cbor.read_bool(data, pos)
    return Part(first_time_ms, first_sequence, index, offset_bytes, is_last), pos


def encode_part(part: Part) -> bytes:
    """The data of a part block."""
    numbers = (part.first_time_ms, part.first_sequence, part.index, part.offset_bytes)
    return b"".join((b"\x85", *map(cbor.encode_uint, numbers), cbor.encode_bool(part.is_last)))


def read_value(data: bytes, block: BlockExtent) -> Any:
    """Decode the data of a block of a known type; None for an unknown one and for the payload.

    Returns:
        Eid (previous node), int (age in ms), (hop limit, hop count), Precedence, Supersession or
        Part.

    Errors:
        BundleError: `previous-node`, `age`, `hop-count`, `precedence`, `supersession` or `part`: the data is not what
            this type holds.
    """
    if block.type not in _KNOWN:
        return None
    content = data[block.data_offset : block.data_end]
    if len(content) <= REMEMBERED_SIZE_MAX_BYTES and block.type not in _CHANGING:
        return _remembered_content(block.type, content)
    return _read_content(block.type, content)


def _read_content(type_code: int, content: bytes) -> Any:
    reader, reason = _KNOWN[type_code]
    try:
        value, after = reader(content, 0)
    except BundleError as error:
        raise BundleError(reason, f"the {reason} block is malformed: {error}") from error
    if after != len(content):
        raise BundleError(reason, f"{len(content) - after} bytes follow the content of the {reason} block")
    return value


_remembered_content: Final = lru_cache(maxsize=REMEMBERED_MAX)(_read_content)


def _read_previous_node(content: bytes, _pos: int) -> tuple[Eid, int]:
    return check_node_id(decode_eid_untrusted(content)), len(content)


_KNOWN: Final[dict[int, tuple[Callable[[bytes, int], tuple[object, int]], str]]] = {
    BlockType.PREVIOUS_NODE: (_read_previous_node, "previous-node"),
    BlockType.BUNDLE_AGE: (cbor.read_uint, "age"),
    BlockType.HOP_COUNT: (read_hop_count, "hop-count"),
    BlockType.QUALITY_OF_SERVICE: (read_precedence, "precedence"),
    BlockType.SUPERSESSION: (read_supersession, "supersession"),
    BlockType.PART: (read_part, "part"),
}
_CHANGING: Final = frozenset((BlockType.BUNDLE_AGE, BlockType.SUPERSESSION, BlockType.PART))
"""What they say differs from bundle to bundle: not worth remembering."""
_USUAL_HEADS: Final = (b"\x85", b"\x86")
_ODD_TYPES: Final = (b"\x18\x01", b"\x19\x00", b"\x1a\x00", b"\x1b\x00")
"""How a payload block's type begins that has more bytes than needed."""
# Plain numbers: arithmetic with flags and members of an enum costs as much as reading a block.
_PAYLOAD: Final = int(BlockType.PAYLOAD)
_PREVIOUS_NODE: Final = int(BlockType.PREVIOUS_NODE)
_BUNDLE_AGE: Final = int(BlockType.BUNDLE_AGE)
_HOP_COUNT: Final = int(BlockType.HOP_COUNT)
_QUALITY_OF_SERVICE: Final = int(BlockType.QUALITY_OF_SERVICE)
_SUPERSESSION: Final = int(BlockType.SUPERSESSION)
_PART: Final = int(BlockType.PART)
_DELETE_BUNDLE: Final = int(BlockFlag.DELETE_BUNDLE_IF_UNPROCESSABLE)
_REPORT: Final = int(BlockFlag.REPORT_IF_UNPROCESSABLE)
_ROUTINE: Final = int(PRECEDENCE_DEFAULT)


def is_known(type_code: int) -> bool:
    """True for a type of block that meshd can process."""
    return type_code in _KNOWN or type_code == BlockType.PAYLOAD


def read_extensions(data: bytes, start: int) -> tuple[Extensions, set[int], int]:
    """Read all blocks from `start` to the payload block.

    Returns:
        What they say, the block numbers taken (0 and 1 included), and the offset of the payload block.

    Errors:
        BundleError: as `read_block`, `check_block_crc` and `read_value`, and `payload` when there is none,
            `block-number` when one is used twice, `block-count`.
    """
    values: dict[int, Any] = {}
    numbers = {0, PAYLOAD_NUMBER}
    unknown_flags = 0
    pos = start
    # What was within the limit stays so when the first forwarder adds a previous node block.
    while len(numbers) - 2 < BLOCKS_MAX + (_PREVIOUS_NODE in values):
        if data[pos + 1 : pos + 2] == b"\x01":
            return _extensions(values, unknown_flags), numbers, pos
        if data[pos : pos + 1] == b"\xff":
            raise BundleError("payload", "the bundle has no payload block")
        if _is_oddly_encoded_payload(data, pos):
            return _extensions(values, unknown_flags), numbers, pos
        block = read_block(data, pos)
        _check_once(block, numbers, values)
        numbers.add(block.number)
        if block.crc_type:
            check_block_crc(data, block)
        if block.type in _KNOWN:
            values[block.type] = read_value(data, block)
        else:
            unknown_flags |= block.flags
        pos = block.end
    raise BundleError("block-count", f"the bundle has more than {BLOCKS_MAX} blocks")


def _is_oddly_encoded_payload(data: bytes, pos: int) -> bool:
    """Whether this is a payload block with more bytes than needed for its length or type. Its end need not be here."""
    if data[pos : pos + 1] in _USUAL_HEADS and data[pos + 1 : pos + 3] not in _ODD_TYPES:
        return False
    _, pos = cbor.read_array_header(data, pos)
    return cbor.read_uint(data, pos)[0] == _PAYLOAD


def _check_once(block: BlockExtent, numbers: set[int], values: dict[int, Any]) -> None:
    if block.number in numbers:
        raise BundleError("block-number", f"a block of type {block.type} has number {block.number}, which is taken")
    if block.type in values:
        reason = _KNOWN[block.type][1]
        raise BundleError(reason, f"the bundle has a second block of type {block.type} ({reason})")


def _extensions(values: dict[int, Any], unknown_flags: int) -> Extensions:
    hop_limit, hop_count = values.get(_HOP_COUNT, (0, 0))
    return Extensions(
        values.get(_BUNDLE_AGE),
        hop_limit,
        hop_count,
        values.get(_PREVIOUS_NODE),
        values.get(_QUALITY_OF_SERVICE, _ROUTINE),
        values.get(_PART),
        values.get(_SUPERSESSION),
        unknown_flags & _DELETE_BUNDLE != 0,
        unknown_flags & _REPORT != 0,
    )
