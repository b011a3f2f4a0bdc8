# SPDX-License-Identifier: Apache-2.0
"""Manifests against what was cut."""

import hashlib
from typing import Any

import msgspec
import pytest

from meshd.stream.manifest import (
    RUNNING_BEGIN,
    SPAN_CUTS,
    Manifest,
    ManifestBuilder,
    ManifestError,
    decode_manifest_untrusted,
    encode_manifest,
)
from meshd.stream.piece import encode_piece
from tests.unit.stream.stream_samples import STREAM_ID, manifests_of, sample_pieces

DATA, PIECES = sample_pieces(seconds=6)
MANIFESTS = manifests_of(PIECES)


def test_manifests_tile_the_stream() -> None:
    assert len(MANIFESTS) > 1
    offset, sequence, running = 0, 0, RUNNING_BEGIN
    for number, manifest in enumerate(MANIFESTS):
        assert (manifest.span, manifest.sequence, manifest.offset) == (number, sequence, offset)
        assert manifest.is_identical(DATA[offset : offset + manifest.size_bytes])
        assert manifest.digest == hashlib.sha256(DATA[offset : offset + manifest.size_bytes]).digest()
        assert manifest.follows(running)
        assert manifest.is_last == (manifest is MANIFESTS[-1])
        offset, sequence, running = offset + manifest.size_bytes, manifest.end, manifest.running
    assert offset == len(DATA)
    assert len(MANIFESTS[0].cuts) == SPAN_CUTS
    assert [pair for manifest in MANIFESTS for pair in manifest.pieces()] == [
        (piece.sequence, piece.tier) for piece in PIECES
    ]


def test_another_byte_is_seen() -> None:
    first = MANIFESTS[0]
    wrong = bytearray(DATA[: first.size_bytes])
    wrong[1000] ^= 1
    assert not first.is_identical(bytes(wrong))
    assert not first.follows(bytes(31) + b"\1")


def test_a_manifest_vouches_for_its_pieces_alone() -> None:
    first, second = MANIFESTS[:2]
    for piece in PIECES:
        encoded = encode_piece(piece)
        assert first.vouches_for(piece, encoded) == (piece.sequence < first.end)
        assert second.vouches_for(piece, encoded) == (second.sequence <= piece.sequence < second.end)
    assert not first.vouches_for(PIECES[0], encode_piece(PIECES[0])[:-1] + b"?")
    other = msgspec.structs.replace(PIECES[0], stream=b"stream-2")
    assert not first.vouches_for(other, encode_piece(PIECES[0]))


def test_they_are_small() -> None:
    for manifest in MANIFESTS:
        data = encode_manifest(manifest)
        assert decode_manifest_untrusted(data) == manifest
        assert len(data) < manifest.size_bytes * 0.01


def test_a_restarted_publisher_continues_with_the_pieces_since_the_last_manifest() -> None:
    first = MANIFESTS[0]
    again = ManifestBuilder(STREAM_ID, first.span + 1, first.running)
    rest = [again.add(piece) for piece in PIECES if piece.sequence >= first.end]
    assert [manifest for manifest in rest if manifest] == MANIFESTS[1:]


def test_a_left_out_piece_is_our_fault() -> None:
    builder = ManifestBuilder(STREAM_ID)
    first, *_, other = PIECES
    builder.add(first)
    with pytest.raises(AssertionError, match="left out"):
        builder.add(other)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"cuts": []},
        {"cuts": [[5, [10], bytes(8)]]},
        {"cuts": [[1, [10], bytes(7)]]},
        {"cuts": [[0, [], b""]]},
        {"sequence": (1 << 40) - 1},
        {"digest": bytes(31)},
        {"size_bytes": 0},
    ],
)
def test_what_can_not_be(change: dict[str, Any]) -> None:
    good: Manifest = MANIFESTS[0]
    values = [change.get(name, getattr(good, name)) for name in good.__struct_fields__]
    with pytest.raises(ManifestError):
        decode_manifest_untrusted(msgspec.msgpack.encode(values))


@pytest.mark.parametrize("data", [b"", b"\x9a\x01", bytes(70_000)])
def test_what_can_not_be_read(data: bytes) -> None:
    with pytest.raises(ManifestError):
        decode_manifest_untrusted(data)


def test_an_empty_span_has_no_manifest_and_vouches_for_no_other_tier() -> None:
    assert ManifestBuilder(STREAM_ID).close() is None
    lacking = next(piece for piece in PIECES if piece.tiers != 7)
    tier = next(tier for tier in range(3) if not lacking.tiers >> tier & 1)
    other = msgspec.structs.replace(lacking, tier=tier)
    assert not MANIFESTS[0].vouches_for(other, encode_piece(lacking))
