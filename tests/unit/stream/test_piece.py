# SPDX-License-Identifier: Apache-2.0
"""The encoding of pieces."""

from typing import Any

import msgspec
import pytest

from meshd.stream.piece import Clock, Piece, PieceError, Tier, decode_piece_untrusted, encode_piece, stream_id

BODY = b"\x47" + bytes(187)
GOOD = Piece(1, b"stream-1", 7, Tier.REST, 5, 1000, 60, 188 * 9, 4, 188, 1, [1, 1, 1, 1], [], BODY * 2)


def test_a_piece_by_hand() -> None:
    data = (
        bytes.fromhex("9e 01 c408") + b"stream-1" + bytes.fromhex("07 02 05 cd03e8 3c cd069c 04 ccbc 01 9401010101 90")
    )
    data += bytes.fromhex("c50178") + BODY * 2
    assert decode_piece_untrusted(data) == GOOD
    assert encode_piece(GOOD) == data
    assert len(data) - len(GOOD.body) < 40


def test_places() -> None:
    assert list(GOOD.extents()) == [(188, BODY), (188 * 3, BODY)]
    assert GOOD.cut_bytes == 188 * 4


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"stream": b"short"},
        {"sequence": -1},
        {"sequence": 1 << 40},
        {"tier": 3},
        {"tiers": 3},
        {"unit_bytes": 187},
        {"units": 0},
        {"units": 3},
        {"units": 400},
        {"runs": [1, 1, 1]},
        {"runs": [0, 3]},
        {"body": BODY},
        {"clocks": [[4, 256, 0, False]]},
        {"clocks": [[0, 256, (1 << 33) * 300, False]]},
        {"duration_ms": 60_001},
        {"offset": -1},
        {"flags": 4},
    ],
)
def test_what_can_not_be(change: dict[str, Any]) -> None:
    values = [change.get(name, value) for name, value in msgspec.structs.asdict(GOOD).items()]
    with pytest.raises(PieceError):
        decode_piece_untrusted(msgspec.msgpack.encode(values))


@pytest.mark.parametrize("data", [b"", b"\x9e", encode_piece(GOOD)[:-1], encode_piece(GOOD) + b"\0", bytes(80_000)])
def test_what_can_not_be_read(data: bytes) -> None:
    with pytest.raises(PieceError):
        decode_piece_untrusted(data)


def test_clocks_travel() -> None:
    piece = msgspec.structs.replace(GOOD, clocks=[Clock(3, 256, 5, True)])
    assert decode_piece_untrusted(encode_piece(piece)) == piece


def test_the_id_tells_publisher_name_and_begin_apart() -> None:
    ids = {stream_id("dtn://a/", "x", 1), stream_id("dtn://a/", "x", 2), stream_id("dtn://a/", "y", 1)}
    assert len(ids | {stream_id("dtn://b/", "x", 1)}) == 4
    assert {len(value) for value in ids} == {8}
