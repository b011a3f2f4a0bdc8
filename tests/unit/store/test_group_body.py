# SPDX-License-Identifier: Apache-2.0
"""A group's body: every field comes back, what is equal costs little, and what does not fit is refused."""

import msgspec
import pytest

from meshd.base.errors import StoreError
from meshd.bundle.crc import crc32c
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleRecord, PayloadRef
from meshd.store.group_body import NO_MARKS, GroupBody, Marks, decode_body, encode_body
from meshd.store.record_format import CRC_BYTES, HEAD_BYTES, GroupHead
from tests.unit.store.store_samples import bundle_id, record

SEGMENT = 3
OFFSET = 1000


def _head(body: bytes, bundle_bytes: int = 0) -> GroupHead:
    return GroupHead(OFFSET, len(body), bundle_bytes, 0, crc32c(body))


def _back(puts: list[BundleRecord], deletes: Marks = NO_MARKS, releases: Marks = NO_MARKS) -> GroupBody:
    body = encode_body(puts, deletes, releases, {"boot": b"\x07"})
    size_bytes = sum(item.size_bytes + CRC_BYTES for item in puts if item.payload.inline is not None)
    decoded = decode_body(body, _head(body, size_bytes), SEGMENT)
    assert decoded is not None
    return decoded


def test_records_come_back_with_their_places() -> None:
    """Every field, absent ones too, in a group in which every column differs."""
    full = msgspec.structs.replace(
        record(7, b"four"), by_age=True, held=True, flags=0x24, precedence=5, expiry_ms=1 << 63, received_ms=2
    )
    fragment = bundle_id(8)._replace(fragment_offset=0, fragment_bytes=10, digest=b"\x01\x02", time_ms=(1 << 64) - 1)
    bare = msgspec.structs.replace(
        record(8, b"sixsix"),
        id=fragment._replace(source=parse_eid("ipn:3.7")),
        destination=parse_eid("ipn:4.1"),
        previous_node=None,
        part=None,
        report_to=parse_eid("dtn://home/"),
        total_adu_bytes=99,
    )
    decoded = _back([full, bare])
    start = OFFSET + HEAD_BYTES + len(encode_body([full, bare], NO_MARKS, NO_MARKS, {"boot": b"\x07"}))
    refs = [PayloadRef(SEGMENT, start, 4), PayloadRef(SEGMENT, start + 4 + CRC_BYTES, 6)]
    assert decoded.puts == [
        msgspec.structs.replace(item, payload=ref) for item, ref in zip((full, bare), refs, strict=True)
    ]
    assert decoded.places == refs
    assert decoded.notes == {"boot": b"\x07"}
    assert type(decoded.puts[0].id) is type(full.id)


def test_a_large_bundle_lies_in_its_own_file() -> None:
    """It counts for nothing among the group's bytes; its neighbours lie as if it were not there."""
    large = msgspec.structs.replace(record(2), size_bytes=5 << 30, payload=PayloadRef(9, 40, 5 << 30))
    decoded = _back([record(1, b"one"), large, record(3, b"three")])
    first, own, third = decoded.places
    assert own == PayloadRef(9, 40, 5 << 30)
    assert third.offset == first.offset + 3 + CRC_BYTES
    assert [item.id.sequence for item in decoded.puts] == [1, 2, 3]


def test_marks_come_back() -> None:
    """Deletions and releases."""
    deletes = Marks([bundle_id(1), bundle_id(2)], [5, -1], [99, 0])
    releases = Marks([bundle_id(3)], [4], [0])
    decoded = _back([], deletes, releases)
    assert decoded.puts == []
    assert [list(column) for column in decoded.deletes] == [list(column) for column in deletes]
    assert [list(column) for column in decoded.releases] == [list(column) for column in releases]


def test_what_is_equal_is_written_once_and_is_one_object() -> None:
    """A million bundles that came in the same millisecond should not hold a million numbers for it."""
    puts = [msgspec.structs.replace(record(number), part=None) for number in range(100)]
    body = encode_body(puts, NO_MARKS, NO_MARKS, {})
    assert len(body) < 100 * 3
    expiries = [msgspec.structs.replace(item, expiry_ms=10**12 + item.id.sequence % 2) for item in puts]
    decoded = _back(expiries).puts
    assert decoded[0].expiry_ms is decoded[2].expiry_ms
    assert decoded[0].id.time_ms is decoded[99].id.time_ms


def test_a_damaged_body_is_none() -> None:
    """Torn, flipped, or whole but not a body."""
    body = encode_body([], NO_MARKS, NO_MARKS, {"a": b"b"})
    head = _head(body)
    assert decode_body(body[:-1], head, SEGMENT) is None
    assert decode_body(body[:-1] + b"c", head, SEGMENT) is None
    for nonsense in (b"\xc1", b"\x91\x01"):
        assert decode_body(nonsense, _head(nonsense), SEGMENT) is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("sources", [1]),
        ("sources", [-1]),
        ("sources", []),
        ("destinations", [0, 0]),
        ("previous_nodes", [-2]),
        ("previous_nodes", [7]),
        ("sizes_bytes", [-1]),
        ("sizes_bytes", [7]),
        ("flags", [0, 0]),
        ("sequences", [1, 2]),
        ("files", [1, 2]),
    ],
)
def test_columns_that_do_not_fit_are_a_store_error(column: str, value: list[int]) -> None:
    """It can only be our own fault, but it must not be taken for a bundle."""
    names = [
        *("sequences", "sources", "times_ms", "fragment_offsets", "fragment_bytes", "digests", "destinations"),
        *("precedences", "expiries_ms", "received_ms", "sizes_bytes", "flags", "states", "previous_nodes", "parts"),
        *("report_tos", "adu_bytes", "files", "file_offsets"),
    ]
    source = msgspec.structs.replace(record(1), destination=bundle_id(1).source, previous_node=None)
    texts, columns, *rest = msgspec.msgpack.decode(encode_body([source], NO_MARKS, NO_MARKS, {}))
    assert len(columns) == len(names)
    columns[names.index(column)] = value
    body = msgspec.msgpack.encode([texts, columns, *rest])
    decoded = decode_body(body, _head(body, 6 + CRC_BYTES), SEGMENT)
    assert decoded is not None
    with pytest.raises(StoreError, match="do not fit to each other"):
        _ = decoded.puts


def test_an_impossible_endpoint_is_a_store_error() -> None:
    """As above."""
    body = msgspec.msgpack.encode([["nonsense"], None, [[1], [0], [0], [-1], [-1], [b""], [1], [0]], None, {}])
    decoded = decode_body(body, _head(body), SEGMENT)
    assert decoded is not None
    with pytest.raises(StoreError, match="impossible endpoint in segment 3"):
        _ = decoded.deletes


def test_a_number_beyond_64_bits_is_refused() -> None:
    """It is not cut short."""
    with pytest.raises(OverflowError):
        encode_body([msgspec.structs.replace(record(1), expiry_ms=1 << 64)], NO_MARKS, NO_MARKS, {})
