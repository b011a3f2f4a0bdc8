# SPDX-License-Identifier: Apache-2.0
"""What is kept of a site's shaping, in which sequence, and its form in a file."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.linux.netlink import attribute, attributes, text
from meshd.linux.shaping import (
    ROOT,
    TC_MESSAGE,
    ShapingRecordError,
    TcObject,
    decode_record_untrusted,
    encode_record,
    make_record,
)

QDISC, CLASS, FILTER = 36, 40, 44


def make(kind: int, name: str, handle: int, parent: int, options: bytes = b"") -> TcObject:
    body = TC_MESSAGE.pack(0, 0, 0, 3, handle, parent, 0) + text(1, name) + attribute(2, options)
    return TcObject.from_dump(kind, body)


def test_parents_come_before_children() -> None:
    root = make(QDISC, "htb", 0x10000, ROOT)
    leaf = make(QDISC, "tbf", 0x100000, 0x10020)
    inner, outer = make(CLASS, "htb", 0x10001, ROOT), make(CLASS, "htb", 0x10020, 0x10001)
    stray = make(CLASS, "tbf", 0x100001, 0x100000)
    found = make(FILTER, "flower", 1, 0x10000)
    record = make_record(root, [leaf, root], [outer, stray, inner], {0x10000: [found]})
    assert record == (root, inner, outer, leaf, found)


def test_what_the_kernel_makes_itself_is_left_out() -> None:
    root = make(QDISC, "htb", 0x10000, ROOT)
    header = make(FILTER, "u32", 0, 0x10000)
    table = make(FILTER, "u32", 0x80000000, 0x10000, attribute(4, struct.pack("=I", 1)))
    rule = make(FILTER, "u32", 0x80000800, 0x10000, attribute(5, bytes(16)) + attribute(11, bytes(4)))
    record = make_record(root, [root], [], {0x10000: [header, table, rule]})
    assert record == (root, rule)
    options = attributes(attributes(rule.request_body(9)[TC_MESSAGE.size :])[2])
    assert set(options) == {5}


def test_htb_gets_its_version_as_it_wants_it() -> None:
    root = make(QDISC, "htb", 0x10000, ROOT, attribute(2, struct.pack("=IIIII", 0x30011, 10, 0x20, 0, 0)))
    request = root.request_body(9)
    assert TC_MESSAGE.unpack_from(request)[3] == 9
    parts = attributes(attributes(request[TC_MESSAGE.size :])[2])
    assert struct.unpack_from("=II", parts[2]) == (3, 10)


def test_statistics_are_not_replayed() -> None:
    body = (
        TC_MESSAGE.pack(0, 0, 0, 3, 0x80010000, ROOT, 2) + text(1, "tbf") + attribute(2, b"opts") + attribute(7, b"s")
    )
    request = TcObject.from_dump(QDISC, body).request_body(3)
    assert set(attributes(request[TC_MESSAGE.size :])) == {1, 2}


def test_a_record_comes_back_from_its_file() -> None:
    record = (make(QDISC, "htb", 0x10000, ROOT, b"abc"), make(CLASS, "htb", 0x10001, ROOT))
    assert decode_record_untrusted(encode_record(record)) == record
    assert decode_record_untrusted(encode_record(())) == ()


@given(st.binary(max_size=100))
def test_noise_raises_the_one_error(data: bytes) -> None:
    with pytest.raises(ShapingRecordError, match="not a shaping record"):
        decode_record_untrusted(b"\0" + data)
    try:
        decode_record_untrusted(encode_record(()) + data)
    except ShapingRecordError:
        return
    assert len(data) == 0 or len(data) >= TC_MESSAGE.size


def test_a_torn_file_is_an_error() -> None:
    encoded = encode_record((make(QDISC, "tbf", 0x10000, ROOT),))
    with pytest.raises(ShapingRecordError, match="cut off"):
        decode_record_untrusted(encoded[:-1])
