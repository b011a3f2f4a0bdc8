# SPDX-License-Identifier: Apache-2.0
"""Objects are packed and opened; whatever is wrong with one raises ObjectError."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.cl.fountain.object_format import (
    DIGEST_BYTES,
    HEAD_BYTES,
    ObjectError,
    Piece,
    pack_bundles,
    pack_piece,
    parse_object_untrusted,
    read_digest,
)


@given(
    st.integers(0, 5),
    st.lists(st.integers(0, 65535), max_size=4),
    st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5),
)
def test_bundles_come_back(precedence: int, nodes: list[int], bundles: list[bytes]) -> None:
    data = pack_bundles(precedence, nodes, [(each[:3], memoryview(each)[3:]) for each in bundles])
    content = parse_object_untrusted(data)
    assert content.precedence == precedence
    assert list(content.nodes) == nodes
    assert list(content.bundles) == bundles
    assert content.piece is None
    assert read_digest(data) == hashlib.sha256(data[DIGEST_BYTES:]).digest()


def test_a_piece_comes_back() -> None:
    piece = Piece(b"transfer", 100, 40, b"x" * 60)
    assert parse_object_untrusted(pack_piece(4, [7], piece)).piece == piece


def test_one_flipped_bit_is_found_anywhere() -> None:
    data = pack_bundles(1, [1], [[b"some bundle"]])
    for spot in range(len(data)):
        damaged = data[:spot] + bytes((data[spot] ^ 1,)) + data[spot + 1 :]
        with pytest.raises(ObjectError, match="digest"):
            parse_object_untrusted(damaged)


def _sealed(body: bytes) -> bytes:
    return hashlib.sha256(body).digest() + body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "middle of its head"),
        (b"\x01\x01\x05", "middle of its head"),
        (b"\x03\x01\x00", "kind 3"),
        (b"\x01\x06\x00\x00\x00\x00\x01a", "precedence 6"),
        (b"\x01\x01\x00", "no bundle"),
        (b"\x01\x01\x00\x00\x00\x00\x00", "0 bytes"),
        (b"\x01\x01\x00\x00\x00\x00\x05four", "5 bytes"),
        (b"\x01\x01\x00\x00\x00", "middle of its head"),
        (b"\x02\x01\x00" + bytes(8) + b"\x00\x00\x00\x04\x00\x00\x00\x01four", "outside"),
        (b"\x02\x01\x00" + bytes(8) + b"\x00\x00\x00\x04\x00\x00\x00\x00", "outside"),
        (b"\x02\x01\x00" + bytes(8) + (INLINE_SIZE_MAX_BYTES + 1).to_bytes(4) + b"\x00\x00\x00\x00four", "outside"),
    ],
)
def test_malformed_objects_are_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ObjectError, match=reason):
        parse_object_untrusted(_sealed(body))


@given(st.binary(max_size=80))
def test_anything_gives_content_or_an_object_error(body: bytes) -> None:
    try:
        content = parse_object_untrusted(_sealed(body))
    except ObjectError:
        return
    assert content.bundles or content.piece
    assert len(body) >= HEAD_BYTES - DIGEST_BYTES
