# SPDX-License-Identifier: Apache-2.0
"""A stream cut into pieces, for tests."""

import functools

from meshd.stream.cutter import Cutter
from meshd.stream.manifest import Manifest, ManifestBuilder
from meshd.stream.piece import Piece
from tests.unit.stream.ts_muxer import Muxer

STREAM_ID = b"stream-1"
EPOCH_MS = 1_700_000_000_000
PACKET_S = 1 / 300
"""At which samples are ingested: a second of the multiplexer takes about one."""


@functools.cache
def _sample(seconds: int) -> tuple[bytes, tuple[Piece, ...]]:
    mux = Muxer()
    data = b"".join(mux.second(frames=15, frame_bytes=1800, key_bytes=9000) for _ in range(seconds))
    cutter = Cutter(STREAM_ID, EPOCH_MS, 0.0)
    pieces: list[Piece] = []
    for number in range(len(data) // 188):
        pieces += cutter.feed(data[number * 188 : number * 188 + 188], number * PACKET_S)
    pieces += cutter.finish(len(data) / 188 * PACKET_S)
    return data, tuple(pieces)


def sample_pieces(seconds: int) -> tuple[bytes, list[Piece]]:
    """The stream and its pieces; ingested from second 0, which is EPOCH_MS."""
    data, pieces = _sample(seconds)
    return data, list(pieces)


def ingest_s(piece: Piece) -> float:
    """Seconds since the begin of the stream."""
    return (piece.ingest_ms - EPOCH_MS) / 1000


def manifests_of(pieces: list[Piece]) -> list[Manifest]:
    """All of them."""
    builder = ManifestBuilder(STREAM_ID)
    return [manifest for piece in pieces if (manifest := builder.add(piece))]
