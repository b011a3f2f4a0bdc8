# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: what a publisher ingests, through the cutter, and through the playout with some of its pieces."""

from typing import Final

from meshd.stream.cutter import Cutter
from meshd.stream.klv_clock import KlvClock
from meshd.stream.manifest import ManifestBuilder, decode_manifest_untrusted, encode_manifest
from meshd.stream.piece import Piece, decode_piece_untrusted, encode_piece
from meshd.stream.playout import Playout
from tests.fuzz.streams import cut
from tests.unit.stream.ts_muxer import Muxer, in_form

_STREAM: Final = b"stream-1"


def check(data: bytes) -> None:
    """One input: two bytes of chance, then the stream."""
    chance, stream = data[:2], data[2:]
    whole = _cut([stream])
    portions = _cut(cut(stream, chance[0] if chance else 0))
    assert _packets(whole) == _packets(portions), "packets depend on the portions"
    for pieces in (whole, portions):
        again = [decode_piece_untrusted(encode_piece(piece)) for piece in pieces]
        assert again == pieces
        assert _put_together(again) == stream, "a byte was lost or changed"
    _manifest(whole, stream)
    _play(whole, chance[1] if len(chance) > 1 else 0)


def _cut(portions: list[bytes]) -> list[Piece]:
    cutter = Cutter(_STREAM, 1000, 0.0)
    pieces = [piece for number, portion in enumerate(portions) for piece in cutter.feed(portion, number * 0.03)]
    return [*pieces, *cutter.finish(len(portions) * 0.03)]


def _packets(pieces: list[Piece]) -> bytes:
    """All of one tier after the other: what belongs to which."""
    return b"|".join(b"".join(piece.body for piece in pieces if piece.tier == tier) for tier in range(3))


def _put_together(pieces: list[Piece]) -> bytes:
    archive = bytearray(max((piece.offset + piece.cut_bytes for piece in pieces), default=0))
    for piece in pieces:
        for begin, data in piece.extents():
            archive[piece.offset + begin : piece.offset + begin + len(data)] = data
    return bytes(archive)


def _manifest(pieces: list[Piece], stream: bytes) -> None:
    builder = ManifestBuilder(_STREAM)
    manifests = [manifest for piece in pieces if (manifest := builder.add(piece))]
    for manifest in manifests:
        assert decode_manifest_untrusted(encode_manifest(manifest)) == manifest
        assert manifest.is_identical(stream[manifest.offset : manifest.offset + manifest.size_bytes])
    assert sum(manifest.size_bytes for manifest in manifests) == len(stream)


def _play(pieces: list[Piece], losses: int) -> None:
    playout, clock = Playout(1.0), KlvClock()
    shown = bytearray()
    for number, piece in enumerate(pieces):
        if not losses >> number % 8 & 1:
            playout.receive_piece(piece, piece.ingest_ms / 1000)
            clock.take(piece)
    while (timer := playout.get_timer()) is not None:
        for output in playout.data_to_send(timer):
            shown += output.data
    assert playout.held_bytes == 0
    if not losses:
        assert bytes(shown) == _put_together(pieces), "without losses something else is shown"


def seeds() -> dict[str, bytes]:
    """Small streams of each form, damaged ones, and none."""
    mux = Muxer()
    stream = mux.tables() + mux.frame(True, 300) + mux.klv(5) + mux.frame(False, 100) + mux.audio(90) + mux.null()
    damaged = bytearray(stream)
    damaged[188 * 4] = 0
    return {
        "packets": b"\0\0" + stream,
        "packets-192": b"\x05\x02" + in_form(stream, 192),
        "packets-204": b"\x09\x04" + in_form(stream, 204),
        "garbage": b"\x11\x01" + b"noise" * 9 + stream[:940] + b"noise" + stream[940:],
        "damaged": b"\x07\x00" + bytes(damaged),
    }


def dictionary() -> list[bytes]:
    """Heads of packets and begins of frames."""
    heads = [b"\x47\x40\x00\x10", b"\x47\x50\x00\x10", b"\x47\x41\x00\x30\x07\x50", b"\x47\x1f\xff\x10"]
    return [*heads, b"\0\0\1\xe0\0\0\x80\0\0", b"\0\0\1\x65", b"\0\0\1\x67", b"\x05\x04KLVA"]
