# SPDX-License-Identifier: Apache-2.0
"""A piece of a stream: one tier of one cut, the payload of one bundle (docs/STREAM.md).

A cut is a stretch of what was ingested; its sequence number counts the cuts. Each of its bytes belongs to one of three
tiers, and each tier that it has is a piece. A piece says which units of the cut it holds, as run lengths, so that
the pieces there are can be put in their places whichever these are. msgpack, an array:

    [1, stream, sequence, tier, tiers, ingest_ms, duration_ms, offset, units, unit_bytes, flags, runs, clocks, body]
"""

import enum
import hashlib
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec

from meshd.base.errors import RemoteProtocolError
from meshd.stream.ts_packet import CLOCK_CYCLE, PID_NULL
from meshd.stream.ts_sync import GARBAGE, UNIT_SIZES

VERSION: Final = 1
STREAM_ID_BYTES: Final = 8
SEQUENCE_MAX: Final = (1 << 40) - 1
CUT_MAX_BYTES: Final = 1 << 16
"""A cutter cuts at 32 kB; a reader takes up to this."""
PIECE_MAX_BYTES: Final = CUT_MAX_BYTES + 8192
"""With all that is said of it."""
RUNS_MAX: Final = 1024
CLOCKS_MAX: Final = 256
DURATION_MAX_MS: Final = 60_000
_OFFSET_MAX: Final = 1 << 62
_TIME_MAX_MS: Final = 1 << 48

StreamId = Annotated[bytes, msgspec.Meta(min_length=STREAM_ID_BYTES, max_length=STREAM_ID_BYTES)]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]
TierMask = Annotated[int, msgspec.Meta(ge=1, le=7)]
"""Bit N: tier N."""
_Units = Annotated[int, msgspec.Meta(ge=0, le=CUT_MAX_BYTES)]


class PieceError(RemoteProtocolError):
    """These bytes are no piece of a stream."""


class Tier(enum.IntEnum):
    """What a picture needs first has the lower number."""

    METADATA = 0
    """KLV, tables, and packets of the clock alone."""
    KEY_FRAMES = 1
    REST = 2


class PieceFlag(enum.IntFlag):
    """Of a cut, the same in all of its pieces."""

    RANDOM_ACCESS = 1
    """The cut begins with a key frame, or with the tables before it."""
    LAST = 2
    """The stream ends with it."""


class Clock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A clock reference that a unit of tier 1 or 2 carries: told in tier 0, in case that the unit is left out."""

    unit: _Units
    pid: Annotated[int, msgspec.Meta(ge=0, le=PID_NULL)]
    pcr: Annotated[int, msgspec.Meta(ge=0, lt=CLOCK_CYCLE)]
    is_discontinuous: bool


class Piece(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Fields in the order of the array."""

    version: Literal[1]
    stream: StreamId
    sequence: Sequence
    """Of the cut."""
    tier: Tier
    tiers: TierMask
    """Those that the cut has."""
    ingest_ms: Annotated[int, msgspec.Meta(ge=0, le=_TIME_MAX_MS)]
    """When the first byte of the cut came in, in milliseconds of the publisher's clock since 1970."""
    duration_ms: Annotated[int, msgspec.Meta(ge=0, le=DURATION_MAX_MS)]
    """From there to the first byte of the next cut, as far as it was known."""
    offset: Annotated[int, msgspec.Meta(ge=0, le=_OFFSET_MAX)]
    """Of the cut's first byte in the whole stream."""
    units: Annotated[int, msgspec.Meta(ge=1, le=CUT_MAX_BYTES)]
    """Of the cut, in all tiers."""
    unit_bytes: Annotated[int, msgspec.Meta(ge=1, le=UNIT_SIZES[-1])]
    """188, 192 or 204: packets. 1: garbage."""
    flags: Annotated[int, msgspec.Meta(ge=0, le=3)]
    runs: Annotated[list[_Units], msgspec.Meta(max_length=RUNS_MAX)]
    """By turns how many units belong to other tiers, and how many follow that belong to this one."""
    clocks: Annotated[list[Clock], msgspec.Meta(max_length=CLOCKS_MAX)]
    body: Annotated[bytes, msgspec.Meta(max_length=CUT_MAX_BYTES)]

    @property
    def cut_bytes(self) -> int:
        """The size of the cut."""
        return self.units * self.unit_bytes

    @property
    def is_random_access(self) -> bool:
        """Decoding may begin with this cut."""
        return bool(self.flags & PieceFlag.RANDOM_ACCESS)

    def is_of_cut(self, other: "Piece") -> bool:
        """Whether both say the same of their cut."""
        return (self.stream, self.sequence, self.tiers, self.ingest_ms, self.offset, self.units, self.unit_bytes) == (
            other.stream,
            other.sequence,
            other.tiers,
            other.ingest_ms,
            other.offset,
            other.units,
            other.unit_bytes,
        )

    def extents(self) -> Iterator[tuple[int, bytes]]:
        """Each run of this piece: its offset in the cut, in bytes, and its bytes."""
        unit_bytes, body, unit, pos = self.unit_bytes, self.body, 0, 0
        for index in range(0, len(self.runs), 2):
            unit += self.runs[index]
            end = pos + self.runs[index + 1] * unit_bytes
            yield unit * unit_bytes, body[pos:end]
            unit += self.runs[index + 1]
            pos = end


_DECODER: Final = msgspec.msgpack.Decoder(Piece)
_ENCODER: Final = msgspec.msgpack.Encoder()


def stream_id(source: str, name: str, began_ms: int) -> bytes:
    """The ID of a stream: of its publisher's node ID, its name, and when it began (milliseconds since 1970)."""
    return hashlib.sha256(f"{source}\0{name}\0{began_ms}".encode()).digest()[:STREAM_ID_BYTES]


def encode_piece(piece: Piece) -> bytes:
    """The payload of its bundle."""
    return _ENCODER.encode(piece)


def decode_piece_untrusted(data: bytes) -> Piece:
    """The piece in the payload of a bundle.

    Errors:
        PieceError: it is none, or what it says of itself does not agree.
    """
    if len(data) > PIECE_MAX_BYTES:
        raise PieceError(f"a piece of a stream has {len(data)} bytes: at most {PIECE_MAX_BYTES} are possible")
    try:
        piece = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PieceError(f"a piece of a stream can't be read: {error}") from error
    if piece.unit_bytes != GARBAGE and piece.unit_bytes not in UNIT_SIZES:
        raise PieceError(f"a piece of a stream has units of {piece.unit_bytes} bytes: 1, 188, 192 and 204 are known")
    if piece.cut_bytes > CUT_MAX_BYTES or not piece.tiers >> piece.tier & 1:
        raise PieceError(
            f"a piece of a stream is of a cut of {piece.cut_bytes} bytes that lacks its tier, or too large"
        )
    if len(piece.runs) % 2 or sum(piece.runs) > piece.units:
        raise PieceError("a piece of a stream has runs that do not fit its cut")
    if sum(piece.runs[1::2]) * piece.unit_bytes != len(piece.body):
        raise PieceError("a piece of a stream has runs that do not fit its bytes")
    if any(clock.unit >= piece.units for clock in piece.clocks):
        raise PieceError("a piece of a stream has a clock beyond its cut")
    return piece
