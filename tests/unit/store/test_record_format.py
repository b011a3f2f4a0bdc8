# SPDX-License-Identifier: Apache-2.0
"""Heads and headers of a segment: there and back, and every flipped bit is noticed."""

import pytest

from meshd.base.errors import StoreError
from meshd.store.record_format import (
    HEAD_BYTES,
    SegmentHeader,
    decode_head,
    decode_segment_header,
    encode_head,
    encode_segment_header,
)


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


def test_segment_header_comes_back() -> None:
    """With the places for the key, empty for now."""
    data = encode_segment_header(7, {6: 1234, 2: 0})
    assert decode_segment_header(data + b"more", "x") == (SegmentHeader(7, {6: 1234, 2: 0}, b"", b""), len(data))


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
    data = encode_segment_header(7, {}, version=3)
    with pytest.raises(
        StoreError, match=r"segment 7\.seg has store version 3, this meshd reads version 2: run the meshd"
    ):
        decode_segment_header(data, "7.seg")


def test_an_unknown_encryption_is_refused_with_a_remedy() -> None:
    """Nothing of it could be read: it is not damage, and never dropped."""
    data = encode_segment_header(7, {}, algorithm=1)
    with pytest.raises(StoreError, match=r"segment 7\.seg is encrypted with algorithm 1, this meshd knows none: run a"):
        decode_segment_header(data, "7.seg")
