# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: the payloads of a stream's bundles, and the index of an archive; what is read is worked with."""

from contextlib import suppress

from meshd.stream.announcement import (
    Announcement,
    AnnouncementError,
    decode_announcement_untrusted,
    encode_announcement,
)
from meshd.stream.archive_index import ArchiveIndex, IndexFileError, decode_index_untrusted
from meshd.stream.gap_fill import (
    ANSWER_PIECES_MAX,
    RANGES_MAX,
    FillRequest,
    GapFill,
    PieceRange,
    RequestError,
    SpanRange,
    decode_request_untrusted,
    encode_request,
    select_answer,
)
from meshd.stream.manifest import (
    Manifest,
    ManifestBuilder,
    ManifestError,
    decode_manifest_untrusted,
    encode_manifest,
)
from meshd.stream.payload import PayloadError, decode_payload_untrusted
from meshd.stream.piece import (
    Clock,
    Piece,
    PieceError,
    Tier,
    decode_piece_untrusted,
    encode_piece,
    stream_id,
)
from meshd.stream.playout import Playout
from meshd.stream.rtp import RtpError, parse_rtp_untrusted

_STREAM = b"stream-1"
_PIECE = Piece(1, _STREAM, 7, Tier.REST, 5, 1000, 60, 188 * 9, 4, 188, 1, [1, 1, 1, 1], [], b"\x47\x41\0\x10" * 94)


def check(data: bytes) -> None:
    """One input, taken for each of them."""
    _check_piece(data)
    _check_manifest(data)
    try:
        request = decode_request_untrusted(data)
        assert decode_request_untrusted(encode_request(request)) == request
        assert len(select_answer(request, ArchiveIndex())) <= ANSWER_PIECES_MAX
    except RequestError:
        pass
    try:
        announcement = decode_announcement_untrusted(data)
        assert decode_announcement_untrusted(encode_announcement(announcement)) == announcement
    except AnnouncementError:
        pass
    with suppress(PayloadError):
        decode_payload_untrusted(data)
    with suppress(RtpError):
        assert len(parse_rtp_untrusted(data).payload) < len(data)
    try:
        index = decode_index_untrusted(data)
        assert decode_index_untrusted(index.pack()).pieces == index.pieces
    except IndexFileError:
        pass


def _check_piece(data: bytes) -> None:
    try:
        piece = decode_piece_untrusted(data)
    except PieceError:
        return
    assert decode_piece_untrusted(encode_piece(piece)) == piece
    extents = list(piece.extents())
    assert all(begin + len(run) <= piece.cut_bytes for begin, run in extents)
    assert b"".join(run for _, run in extents) == piece.body
    playout = Playout(1.0)
    playout.receive_piece(_PIECE, 1.0)
    playout.receive_piece(piece, 1.0)
    outputs = 0
    while (timer := playout.get_timer()) is not None:
        outputs += len(playout.data_to_send(timer))
    assert playout.held_bytes == 0


def _check_manifest(data: bytes) -> None:
    try:
        manifest = decode_manifest_untrusted(data)
    except ManifestError:
        return
    assert decode_manifest_untrusted(encode_manifest(manifest)) == manifest
    fill = GapFill(manifest.stream, ArchiveIndex(), 0.0, 10.0)
    if fill.take(manifest, 0.0):
        request = fill.request(0.0)
        assert request is not None
        assert 0 < len(request.pieces) <= RANGES_MAX
        assert decode_request_untrusted(encode_request(request)) == request


def seeds() -> dict[str, bytes]:
    """One of each."""
    index = ArchiveIndex()
    index.add(5, 1)
    request = FillRequest(1, _STREAM, [PieceRange(3, 4, 7)], [SpanRange(1, 2)])
    clocks = [Clock(1, 256, 5, False)]
    metadata = Piece(1, _STREAM, 8, Tier.METADATA, 1, 1000, 60, 9, 1, 204, 1, [0, 1], clocks, bytes(204))
    return {
        "piece": encode_piece(_PIECE),
        "metadata": encode_piece(metadata),
        "manifest": encode_manifest(_manifest(metadata)),
        "request": encode_request(request),
        "index": index.pack(),
        "announcement": encode_announcement(_announcement()),
        "rtp": b"\x80\x21\x00\x07" + bytes(8) + b"\x47" + bytes(187),
    }


def _announcement() -> Announcement:
    source, name, began_ms = "dtn://dpop1/", "uav1", 1_700_000_000_000
    stream = stream_id(source, name, began_ms)
    return Announcement(1, stream, name, source, began_ms, 1000, "", ["dtn://home/stream"], 4, 1, False)


def _manifest(piece: Piece) -> Manifest:
    builder = ManifestBuilder(_STREAM)
    assert builder.add(piece) is None
    manifest = builder.close(is_last=True)
    assert manifest is not None
    return manifest


def dictionary() -> list[bytes]:
    """Heads of msgpack."""
    return [
        b"\x9e\x01\xc4\x08",
        b"\x9a\x01\xc4\x08",
        b"\x94\x01\xc4\x08",
        b"\x9b\x01\xc4\x08",
        b"\x80\x21",
        b"\xcf",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6",
        b"\xc3",
    ]
