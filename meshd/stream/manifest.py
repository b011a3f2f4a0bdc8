# SPDX-License-Identifier: Apache-2.0
"""Manifests: what a publisher says its stream consists of, span by span (docs/STREAM.md). They alone are authoritative.

A span is a number of cuts one after the other. Its manifest names their tiers, with the size and the first bytes of the
SHA-256 of each piece as it was encoded, which tell a damaged piece; and the SHA-256 of the ingested bytes of the
whole span, which shows that the archive is identical. The running digest is SHA-256 over the one before it (32 zero
bytes for the first span) and the digest of the span, so that one value stands for all up to there. msgpack:

    [1, stream, span, sequence, offset, size, is_last, [[tiers, [size, ...], digests], ...], digest, running]
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

import msgspec

from meshd.base.errors import RemoteProtocolError
from meshd.stream.piece import (
    CUT_MAX_BYTES,
    PIECE_MAX_BYTES,
    SEQUENCE_MAX,
    VERSION,
    Piece,
    PieceFlag,
    Sequence,
    StreamId,
    Tier,
    TierMask,
    encode_piece,
)

SPAN_CUTS: Final = 32
"""About two seconds of a stream of 2 Mbit/s; three at most, unless nothing is ingested."""
SPAN_CUTS_MAX: Final = 256
"""That a reader takes."""
MANIFEST_MAX_BYTES: Final = 65_536
DIGEST_BYTES: Final = 32
PIECE_DIGEST_BYTES: Final = 8
RUNNING_BEGIN: Final = bytes(DIGEST_BYTES)

_Size = Annotated[int, msgspec.Meta(ge=1, le=PIECE_MAX_BYTES)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


class ManifestError(RemoteProtocolError):
    """These bytes are no manifest of a stream."""


class CutRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One cut: for each of its tiers, in order, the size of the encoded piece and the begin of its SHA-256."""

    tiers: TierMask
    sizes: Annotated[list[_Size], msgspec.Meta(min_length=1, max_length=len(Tier))]
    digests: Annotated[bytes, msgspec.Meta(max_length=PIECE_DIGEST_BYTES * len(Tier))]


class Manifest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Fields in the order of the array."""

    version: Literal[1]
    stream: StreamId
    span: Sequence
    """Counts the spans of the stream."""
    sequence: Sequence
    """Of the first cut."""
    offset: Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
    """Of its first byte in the stream."""
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=SPAN_CUTS_MAX * CUT_MAX_BYTES)]
    is_last: bool
    """The stream ended with this span."""
    cuts: Annotated[list[CutRow], msgspec.Meta(min_length=1, max_length=SPAN_CUTS_MAX)]
    digest: _Digest
    """SHA-256 of what was ingested."""
    running: _Digest

    @property
    def end(self) -> int:
        """The sequence number after its last cut."""
        return self.sequence + len(self.cuts)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Sequence and tier of each piece, in order."""
        for sequence, row in enumerate(self.cuts, self.sequence):
            for tier in Tier:
                if row.tiers >> tier & 1:
                    yield sequence, tier

    def vouches_for(self, piece: Piece, encoded: bytes) -> bool:
        """Whether this piece, which came as `encoded`, is the one that was published."""
        if piece.stream != self.stream or not self.sequence <= piece.sequence < self.end:
            return False
        row = self.cuts[piece.sequence - self.sequence]
        if not row.tiers >> piece.tier & 1:
            return False
        place = (row.tiers & ((1 << piece.tier) - 1)).bit_count()
        digest = row.digests[place * PIECE_DIGEST_BYTES : (place + 1) * PIECE_DIGEST_BYTES]
        return row.sizes[place] == len(encoded) and digest == piece_digest(encoded)

    def is_identical(self, ingested: bytes) -> bool:
        """Whether these bytes, from `offset` of an archive on, are what was ingested."""
        return len(ingested) == self.size_bytes and hashlib.sha256(ingested).digest() == self.digest

    def follows(self, running: bytes) -> bool:
        """Whether its running digest continues this one, that of the span before it."""
        return self.running == continue_running(running, self.digest)


_DECODER: Final = msgspec.msgpack.Decoder(Manifest)
_ENCODER: Final = msgspec.msgpack.Encoder()


def piece_digest(encoded: bytes) -> bytes:
    """What a manifest keeps of the SHA-256 of a piece."""
    return hashlib.sha256(encoded).digest()[:PIECE_DIGEST_BYTES]


def continue_running(running: bytes, digest: bytes) -> bytes:
    """The running digest after a span with this digest."""
    return hashlib.sha256(running + digest).digest()


def encode_manifest(manifest: Manifest) -> bytes:
    """The payload of its bundle."""
    return _ENCODER.encode(manifest)


def decode_manifest_untrusted(data: bytes) -> Manifest:
    """The manifest in the payload of a bundle. Errors: ManifestError."""
    if len(data) > MANIFEST_MAX_BYTES:
        raise ManifestError(f"a manifest has {len(data)} bytes: at most {MANIFEST_MAX_BYTES} are possible")
    try:
        manifest = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"a manifest can't be read: {error}") from error
    if manifest.end - 1 > SEQUENCE_MAX:
        raise ManifestError("a manifest has cuts beyond the last sequence number")
    for row in manifest.cuts:
        if len(row.sizes) != row.tiers.bit_count() or len(row.digests) != PIECE_DIGEST_BYTES * len(row.sizes):
            raise ManifestError("a manifest has a cut whose sizes or digests are not those of its tiers")
    return manifest


def cut_bytes(pieces: Iterable[Piece]) -> bytes:
    """A cut as it was ingested, of all its pieces."""
    runs = sorted((extent for piece in pieces for extent in piece.extents()), key=lambda extent: extent[0])
    return b"".join(run for _, run in runs)


class ManifestBuilder:
    """Of a publisher: takes every piece in order, gives a manifest at the end of each span.

    After a restart it continues with the next span and the running digest of the last manifest that was sent, and is
    given again the pieces recorded after that.
    """

    def __init__(self, stream: bytes, span: int = 0, running: bytes = RUNNING_BEGIN) -> None:
        self._stream = stream
        self.span, self.running = span, running
        self._cut: list[tuple[Piece, bytes]] = []
        self._begin: Piece | None = None
        self._rows: list[CutRow] = []
        self._sha = hashlib.sha256()
        self._size_bytes = 0

    def add(self, piece: Piece) -> Manifest | None:
        """Take the next piece; the manifest of the span that it ends."""
        self._begin = self._begin or piece
        assert piece.sequence == self._begin.sequence + len(self._rows), "pieces come in order and none is left out"
        self._cut.append((piece, encode_piece(piece)))
        if piece.tiers >> (piece.tier + 1):
            return None
        self._end_cut(piece)
        is_last = bool(piece.flags & PieceFlag.LAST)
        return self.close(is_last) if is_last or len(self._rows) >= SPAN_CUTS else None

    def close(self, is_last: bool = False) -> Manifest | None:
        """End the span now; None: no cut is in it."""
        if self._begin is None or not self._rows:
            return None
        digest = self._sha.digest()
        self.running = continue_running(self.running, digest)
        first = self._begin
        manifest = Manifest(
            VERSION,
            self._stream,
            self.span,
            first.sequence,
            first.offset,
            self._size_bytes,
            is_last,
            self._rows,
            digest,
            self.running,
        )
        self.span += 1
        self._begin, self._rows, self._sha, self._size_bytes = None, [], hashlib.sha256(), 0
        return manifest

    def _end_cut(self, piece: Piece) -> None:
        ingested = cut_bytes(part for part, _ in self._cut)
        assert len(ingested) == piece.cut_bytes, "the pieces of a cut are all of it"
        self._sha.update(ingested)
        self._size_bytes += len(ingested)
        sizes = [len(encoded) for _, encoded in self._cut]
        digests = b"".join(piece_digest(encoded) for _, encoded in self._cut)
        self._rows.append(CutRow(piece.tiers, sizes, digests))
        self._cut.clear()
