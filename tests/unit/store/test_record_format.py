# SPDX-License-Identifier: Apache-2.0
"""Heads, bodies and headers of a segment: there and back, and every flipped bit is noticed."""

from typing import Any

import msgspec
import pytest

from meshd.base.errors import StoreError
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import PayloadRef
from meshd.store.record_format import (
    HEAD_BYTES,
    GroupHead,
    MarkRow,
    PutRow,
    SegmentHeader,
    decode_body,
    decode_head,
    decode_segment_header,
    encode_body,
    encode_head,
    encode_segment_header,
    mark_fields,
    put_fields,
    put_record,
    row_id,
)
from tests.unit.store.store_samples import bundle_id, record


def test_a_record_comes_back() -> None:
    """Every field of a bundle's record survives, absent ones too."""
    full = msgspec.structs.replace(record(7), by_age=True, held=True, flags=0x24, precedence=5)
    fragment = bundle_id(8)._replace(fragment_offset=0, fragment_bytes=10, digest=b"\x01\x02")
    bare = msgspec.structs.replace(record(8), id=fragment, previous_node=None, part=None)
    body = encode_body([put_fields(full), put_fields(bare)], [], [], {"boot": b"\x07"})
    decoded = decode_body(body, _head(body))
    assert decoded is not None
    ref = PayloadRef(3, 99, 6)
    back = [put_record(row, row_id(row), ref) for row in decoded.puts]
    assert back == [msgspec.structs.replace(item, payload=ref) for item in (full, bare)]
    assert decoded.notes == {"boot": b"\x07"}


def test_a_mark_comes_back() -> None:
    """Deletions and releases."""
    body = encode_body([], [mark_fields(bundle_id(1), 5, 99)], [mark_fields(bundle_id(2), -1)], {})
    decoded = decode_body(body, _head(body))
    assert decoded is not None
    assert [(row_id(row), row.put_segment, row.remember_until_ms) for row in decoded.deletes] == [(bundle_id(1), 5, 99)]
    assert [(row_id(row), row.put_segment) for row in decoded.releases] == [(bundle_id(2), -1)]


def test_a_carried_row_encodes_as_its_fields() -> None:
    """A row read back may be written again as it is."""
    fields = mark_fields(bundle_id(1), 5, 99)
    row = msgspec.convert(fields, MarkRow)
    assert encode_body([], [row], [], {}) == encode_body([], [fields], [], {})


def test_any_flipped_bit_of_a_head_is_noticed() -> None:
    """No bit of a head is free."""
    head = encode_head(3, 1000, b"body", 50, 900)
    decoded = decode_head(head, 3, 1000)
    assert decoded is not None
    assert (decoded[:4], decoded.bundles_offset, decoded.end) == ((1000, 4, 50, 900), 1036, 1086)
    for bit in range(HEAD_BYTES * 8):
        damaged = bytearray(head)
        damaged[bit // 8] ^= 1 << bit % 8
        assert decode_head(bytes(damaged), 3, 1000) is None


def test_a_head_belongs_to_its_place() -> None:
    """A copy of a group in another place is no group."""
    head = encode_head(3, 1000, b"body", 50, 900)
    assert decode_head(head, 4, 1000) is None
    assert decode_head(head, 3, 1001) is None
    assert decode_head(head[:-1], 3, 1000) is None


def test_a_damaged_body_is_none() -> None:
    """Torn, flipped, or whole but not a body."""
    body = encode_body([], [], [], {"a": b"b"})
    head = _head(body)
    assert decode_body(body[:-1], head) is None
    assert decode_body(body[:-1] + b"c", head) is None
    for nonsense in (b"\xc1", b"\x91\x01"):
        assert decode_body(nonsense, _head(nonsense)) is None


def test_segment_header_comes_back() -> None:
    """With the place for the wrapped key, empty for now."""
    data = encode_segment_header(7, {6: 1234, 2: 0})
    assert decode_segment_header(data + b"more", "x") == (SegmentHeader(7, {6: 1234, 2: 0}, b""), len(data))


def test_any_flipped_bit_of_a_segment_header_is_noticed() -> None:
    """It is damage then, never another version."""
    data = encode_segment_header(7, {6: 1234})
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert decode_segment_header(bytes(damaged), "x") is None
    assert decode_segment_header(data[:-1], "x") is None
    assert decode_segment_header(b"", "x") is None


def test_another_version_is_refused_with_a_remedy() -> None:
    """A store of another version is not damage, and never dropped."""
    data = encode_segment_header(7, {}, version=2)
    with pytest.raises(
        StoreError, match=r"segment 7\.seg has store version 2, this meshd reads version 1: run the meshd"
    ):
        decode_segment_header(data, "7.seg")


def test_an_impossible_source_is_a_store_error() -> None:
    """It can only be our own fault, but it must not be taken for a bundle."""
    with pytest.raises(StoreError, match="impossible source"):
        row_id(MarkRow(1, 0, "nonsense", 0, 0, -1, -1, b""))


def test_a_number_beyond_64_bits_is_refused() -> None:
    """It is not cut short."""
    with pytest.raises(OverflowError):
        encode_body([put_fields(msgspec.structs.replace(record(1), expiry_ms=1 << 64))], [], [], {})


def test_put_fields_are_a_put_row() -> None:
    """The tuple that is written and the row that is read have the same fields."""
    reported = msgspec.structs.replace(record(1), report_to=parse_eid("dtn://home/"))
    assert len(put_fields(reported)) == len(PutRow.__struct_fields__)
    assert put_fields(record(1)) == put_fields(reported)[: -len(PutRow.__struct_defaults__)]
    assert len(mark_fields(bundle_id(1), 1)) == len(MarkRow.__struct_fields__)


@pytest.mark.parametrize(
    "changes", [{}, {"report_to": parse_eid("dtn://home/")}, {"total_adu_bytes": 99, "fragment": True}]
)
def test_what_is_rarely_there_comes_back(changes: dict[str, Any]) -> None:
    given = record(1)
    if changes.pop("fragment", False):
        given = msgspec.structs.replace(given, id=given.id._replace(fragment_offset=5, fragment_bytes=6))
    given = msgspec.structs.replace(given, **changes)
    body = encode_body([put_fields(given)], [], [], {})
    decoded = decode_body(body, _head(body))
    assert decoded is not None
    assert put_record(decoded.puts[0], given.id, given.payload) == given


def _head(body: bytes) -> GroupHead:
    head = decode_head(encode_head(1, 0, body, 0, 0), 1, 0)
    assert head is not None
    return head
