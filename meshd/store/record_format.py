# SPDX-License-Identifier: Apache-2.0
"""The bytes of a segment (store version 2): a header, then groups; and nothing of where segments lie or what they mean.

A *group* is the unit of atomicity, one WriteStore command: valid as a whole or not there at all.

    group  = head (32 bytes)  body  bundles
    head   = magic, segment number, own offset, body bytes, bundle bytes, synced bytes, CRC-32C of body, CRC-32C of head
    body   = msgpack, as group_body says
    bundle = the encoded bundle as it came, then its CRC-32C; in the order of the puts

All integers of the head are unsigned, 32 bits, little-endian. Segment number and offset in the head make a copy of a
group inside a bundle's payload harmless when a damaged segment is searched for the next group. `synced bytes` is how
much of the segment was durable when the group was written: it tells damage in synced data from a write that power
failure tore.

    header = magic "meshdlog", version byte, algorithm byte, 2 zero bytes, body bytes (32 bits), CRC-32C of body,
             CRC-32C of the header
    body   = msgpack array [number, ends, key ID, wrapped key]

Magic, version and the header's own CRC stay where they are in every version, so that a store of another version is
recognised rather than taken for damage. `ends` says where earlier segments end, whatever else is in their files. The
algorithm says how everything behind the header is encrypted: 0 is not at all, and the only one known; a segment with
another one stops the start. Key ID and wrapped key are empty then: encryption at rest will put the segment's key there,
and the name of the store key that opens it. The file of a large bundle begins with the same header.
"""

import struct
from typing import Final, NamedTuple

import msgspec

from meshd.base.errors import StoreError
from meshd.base.version import STORE_VERSION
from meshd.bundle.crc import crc32c

GROUP_MAGIC: Final = b"mGr\xd7"
SEGMENT_MAGIC: Final = b"meshdlog"
CRC_BYTES: Final = 4
GROUP_SIZE_MAX_BYTES: Final = 1 << 30
"""A larger group is refused; with it, offsets in a segment fit into 32 bits."""
SEGMENT_HEADER_MAX_BYTES: Final = 1 << 16

_GROUP_HEAD: Final = struct.Struct("<4sIIIIII")
_SEGMENT_HEAD: Final = struct.Struct("<8sBB2xII")
_CRC: Final = struct.Struct("<I")
HEAD_BYTES: Final = _GROUP_HEAD.size + CRC_BYTES
SEGMENT_HEAD_BYTES: Final = _SEGMENT_HEAD.size + CRC_BYTES
NOT_ENCRYPTED: Final = 0
"""The one algorithm that is known."""

pack_crc: Final = _CRC.pack


class SegmentHeader(msgspec.Struct, array_like=True, frozen=True):
    """What stands at the beginning of every segment."""

    number: int
    ends: dict[int, int]
    """Segment number to its valid bytes: of the segment before, and of those whose tail could not be cut off."""
    key_id: bytes = b""
    wrapped_key: bytes = b""


class GroupHead(NamedTuple):
    """Where one group is and how long its pieces are."""

    offset: int
    body_bytes: int
    bundle_bytes: int
    synced_bytes: int
    body_crc: int

    @property
    def bundles_offset(self) -> int:
        """Where the first bundle begins."""
        return self.offset + HEAD_BYTES + self.body_bytes

    @property
    def end(self) -> int:
        """Where the next group begins."""
        return self.offset + HEAD_BYTES + self.body_bytes + self.bundle_bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(SegmentHeader).decode
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError)
"""What these raise; text that is not UTF-8 is no MsgspecError."""


def has_right_crc(data: bytes, crc: int) -> bool:
    """True when nothing has changed these bytes."""
    return crc32c(data) == crc


def encode_segment_header(
    number: int, ends: dict[int, int], version: int = STORE_VERSION, algorithm: int = NOT_ENCRYPTED
) -> bytes:
    """The first bytes of a new segment."""
    body = _encode(SegmentHeader(number, ends))
    head = _SEGMENT_HEAD.pack(SEGMENT_MAGIC, version, algorithm, len(body), crc32c(body))
    return head + pack_crc(crc32c(head)) + body


def decode_segment_header(data: bytes, name: str) -> tuple[SegmentHeader, int] | None:
    """The header at the beginning of `data` and where it ends; None when it is torn or damaged.

    Errors:
        StoreError: it is whole, but of another store version, or encrypted in a way that is not known.
    """
    head = data[: _SEGMENT_HEAD.size]
    if data[:8] != SEGMENT_MAGIC or data[_SEGMENT_HEAD.size : SEGMENT_HEAD_BYTES] != pack_crc(crc32c(head)):
        return None
    _, version, algorithm, body_bytes, body_crc = _SEGMENT_HEAD.unpack(head)
    if version != STORE_VERSION:
        raise StoreError(
            f"segment {name} has store version {version}, this meshd reads version {STORE_VERSION}: "
            "run the meshd that wrote it until the store is empty, or move the store's directory away"
        )
    if algorithm != NOT_ENCRYPTED:
        raise StoreError(
            f"segment {name} is encrypted with algorithm {algorithm}, this meshd knows none: "
            "run a meshd that knows it, or move the store's directory away"
        )
    body = data[SEGMENT_HEAD_BYTES : SEGMENT_HEAD_BYTES + body_bytes]
    if len(body) != body_bytes or crc32c(body) != body_crc:
        return None
    try:
        return _decode_header(body), SEGMENT_HEAD_BYTES + body_bytes
    except UNREADABLE:
        return None


def encode_head(segment: int, offset: int, body: bytes, bundle_bytes: int, synced_bytes: int) -> bytes:
    """A group's head. `bundle_bytes` counts the bundles with their CRCs."""
    head = _GROUP_HEAD.pack(GROUP_MAGIC, segment, offset, len(body), bundle_bytes, synced_bytes, crc32c(body))
    return head + pack_crc(crc32c(head))


def decode_head(head: bytes, segment: int, offset: int) -> GroupHead | None:
    """The head of the group at this place, or None when these bytes are none."""
    if len(head) != HEAD_BYTES or head[:4] != GROUP_MAGIC:
        return None
    if head[-CRC_BYTES:] != pack_crc(crc32c(head[:-CRC_BYTES])):
        return None
    _, own_segment, own_offset, body_bytes, bundle_bytes, synced_bytes, body_crc = _GROUP_HEAD.unpack_from(head)
    if own_segment != segment or own_offset != offset:
        return None
    return GroupHead(offset, body_bytes, bundle_bytes, synced_bytes, body_crc)
