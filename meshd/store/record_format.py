# SPDX-License-Identifier: Apache-2.0
"""The bytes of a segment (store version 1): a header, then groups; and nothing of where segments lie or what they mean.

A *group* is the unit of atomicity, one WriteStore command: valid as a whole or not there at all.

    group  = head (32 bytes)  body  bundles
    head   = magic, segment number, own offset, body bytes, bundle bytes, synced bytes, CRC-32C of body, CRC-32C of head
    body   = msgpack array [puts, deletes, releases, notes], rows as the structs below
    bundle = the encoded bundle as it came, then its CRC-32C; in the order of the puts

All integers of the head are unsigned, 32 bits, little-endian. Segment number and offset in the head make a copy of a
group inside a bundle's payload harmless when a damaged segment is searched for the next group. `synced bytes` is how
much of the segment was durable when the group was written: it tells damage in synced data from a write that power
failure tore.

    header = magic "meshdlog", version byte, 3 zero bytes, body bytes (32 bits), CRC-32C of body, CRC-32C of the header
    body   = msgpack array [number, ends, wrapped key]

Magic, version and the header's own CRC stay where they are in every version, so that a store of another version is
recognised rather than taken for damage. `ends` says where earlier segments end, whatever else is in their files. The
wrapped key is empty: encryption at rest will put the segment's key there.
"""

import struct
from typing import Final, NamedTuple

import msgspec

from meshd.base.errors import StoreError
from meshd.base.version import STORE_VERSION
from meshd.bundle.crc import crc32c
from meshd.bundle.eid import parse_eid
from meshd.bundle.errors import EidError
from meshd.bundle.record import BundleId, BundleRecord, Part, PayloadRef

GROUP_MAGIC: Final = b"mGr\xd7"
SEGMENT_MAGIC: Final = b"meshdlog"
CRC_BYTES: Final = 4
GROUP_SIZE_MAX_BYTES: Final = 1 << 30
"""A larger group is refused; with it, offsets in a segment fit into 32 bits."""
SEGMENT_HEADER_MAX_BYTES: Final = 1 << 16

_GROUP_HEAD: Final = struct.Struct("<4sIIIIII")
_SEGMENT_HEAD: Final = struct.Struct("<8sB3xII")
_CRC: Final = struct.Struct("<I")
HEAD_BYTES: Final = _GROUP_HEAD.size + CRC_BYTES
SEGMENT_HEAD_BYTES: Final = _SEGMENT_HEAD.size + CRC_BYTES
_BY_AGE, _HELD = 1, 2

pack_crc: Final = _CRC.pack


class SegmentHeader(msgspec.Struct, array_like=True, frozen=True):
    """What stands at the beginning of every segment."""

    number: int
    ends: dict[int, int]
    """Segment number to its valid bytes: of the segment before, and of those whose tail could not be cut off."""
    wrapped_key: bytes = b""


class PutRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A bundle's metadata. EIDs are texts; `state` has bit 0 for by_age and bit 1 for held."""

    destination: str
    precedence: int
    expiry_ms: int
    received_ms: int
    size_bytes: int
    flags: int
    state: int
    previous_node: str | None
    part: Part | None
    source: str
    time_ms: int
    sequence: int
    fragment_offset: int
    fragment_bytes: int
    digest: bytes
    report_to: str | None = None
    """This and what follows is written only where it says something."""
    total_adu_bytes: int = 0


class MarkRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A deletion or a release: what happened to a bundle that was put in `put_segment` or before (-1: never here)."""

    put_segment: int
    remember_until_ms: int
    source: str
    time_ms: int
    sequence: int
    fragment_offset: int
    fragment_bytes: int
    digest: bytes


class GroupBody(msgspec.Struct, array_like=True, frozen=True):
    """The changes of one group, applied in this order."""

    puts: list[PutRow] = []
    deletes: list[MarkRow] = []
    releases: list[MarkRow] = []
    notes: dict[str, bytes] = {}


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
_decode_body = msgspec.msgpack.Decoder(GroupBody).decode
_decode_header = msgspec.msgpack.Decoder(SegmentHeader).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError)
"""What these raise; text that is not UTF-8 is no MsgspecError."""


def encode_segment_header(number: int, ends: dict[int, int], version: int = STORE_VERSION) -> bytes:
    """The first bytes of a new segment."""
    body = _encode(SegmentHeader(number, ends))
    head = _SEGMENT_HEAD.pack(SEGMENT_MAGIC, version, len(body), crc32c(body))
    return head + pack_crc(crc32c(head)) + body


def decode_segment_header(data: bytes, name: str) -> tuple[SegmentHeader, int] | None:
    """The header at the beginning of `data` and where it ends; None when it is torn or damaged.

    Errors:
        StoreError: it is whole, but of another store version.
    """
    head = data[: _SEGMENT_HEAD.size]
    if data[:8] != SEGMENT_MAGIC or data[_SEGMENT_HEAD.size : SEGMENT_HEAD_BYTES] != pack_crc(crc32c(head)):
        return None
    _, version, body_bytes, body_crc = _SEGMENT_HEAD.unpack(head)
    if version != STORE_VERSION:
        raise StoreError(
            f"segment {name} has store version {version}, this meshd reads version {STORE_VERSION}: "
            "run the meshd that wrote it until the store is empty, or move the store's directory away"
        )
    body = data[SEGMENT_HEAD_BYTES : SEGMENT_HEAD_BYTES + body_bytes]
    if len(body) != body_bytes or crc32c(body) != body_crc:
        return None
    try:
        return _decode_header(body), SEGMENT_HEAD_BYTES + body_bytes
    except _UNREADABLE:
        return None


def put_fields(record: BundleRecord) -> tuple[object, ...]:
    """A PutRow's fields; a tuple, since it is made for every bundle and encodes the same."""
    source, time_ms, sequence, fragment_offset, fragment_bytes, digest = record.id
    previous = record.previous_node
    fields = (
        record.destination.uri,
        record.precedence,
        record.expiry_ms,
        record.received_ms,
        record.size_bytes,
        record.flags,
        (_BY_AGE if record.by_age else 0) | (_HELD if record.held else 0),
        None if previous is None else previous.uri,
        record.part,
        source.uri,
        time_ms,
        sequence,
        fragment_offset,
        fragment_bytes,
        digest,
    )
    report_to = record.report_to
    if report_to is None and fragment_offset < 0:
        return fields
    return (*fields, None if report_to is None else report_to.uri, record.total_adu_bytes)


def mark_fields(bundle_id: BundleId, put_segment: int, remember_until_ms: int = 0) -> tuple[object, ...]:
    """A MarkRow's fields."""
    source, time_ms, sequence, fragment_offset, fragment_bytes, digest = bundle_id
    return (put_segment, remember_until_ms, source.uri, time_ms, sequence, fragment_offset, fragment_bytes, digest)


def encode_body(*tables: object) -> bytes:
    """A group's body from tables of rows or of their fields, in the order of GroupBody.

    Errors:
        OverflowError: a number has more than 64 bits.
    """
    return _encode(tables)


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


def decode_body(body: bytes, head: GroupHead) -> GroupBody | None:
    """The changes of a group, or None when its body is torn or damaged."""
    if len(body) != head.body_bytes or crc32c(body) != head.body_crc:
        return None
    try:
        return _decode_body(body)
    except _UNREADABLE:
        return None


def row_id(row: PutRow | MarkRow) -> BundleId:
    """The bundle that a row is about."""
    try:
        source = parse_eid(row.source)
    except EidError as error:
        raise StoreError(f"the store names a bundle with an impossible source: {error}") from error
    fields = (source, row.time_ms, row.sequence, row.fragment_offset, row.fragment_bytes, row.digest)
    return tuple.__new__(BundleId, fields)  # what BundleId(...) does, in two thirds of the time: recovery is made of it


def put_record(row: PutRow, bundle_id: BundleId, payload: PayloadRef) -> BundleRecord:
    """The record of a stored bundle."""
    previous = row.previous_node
    return BundleRecord(
        bundle_id,
        parse_eid(row.destination),
        row.precedence,
        row.expiry_ms,
        row.received_ms,
        row.size_bytes,
        row.flags,
        bool(row.state & _BY_AGE),
        None if previous is None else parse_eid(previous),
        row.part,
        bool(row.state & _HELD),
        payload,
        None if row.report_to is None else parse_eid(row.report_to),
        row.total_adu_bytes,
    )
