# SPDX-License-Identifier: Apache-2.0
"""What an object contains: a digest, the nodes it is for, and whole bundles or one piece of a large bundle.

    digest          32 bytes    SHA-256 of all that follows
    kind            8 bits      1: bundles, 2: a piece of one
    precedence      8 bits
    count           8 bits      of nodes; 0: for whoever hears it
    nodes           16 bits each
    bundles:        32 bits length and the bundle, until the end
    or a piece:     transfer ID 8 bytes, size of the bundle 32 bits, offset 32 bits, and the piece until the end

Numbers are big-endian. The digest stands at the head because it also goes into the acknowledgement's tag: who
acknowledges an object has read it.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from meshd.base.errors import RemoteProtocolError
from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.precedence import Precedence

DIGEST_BYTES: Final = 32
NODES_MAX: Final = 255
BUNDLES_MAX: Final = 4096
"""In one object."""
TRANSFER_ID_BYTES: Final = 8
PIECES_MAX: Final = 256
"""Objects that one bundle is cut into: its receiver has to hold them all."""

_BUNDLES: Final = 1
_PIECE: Final = 2
_HEAD: Final = struct.Struct("!BBB")
_LENGTH: Final = struct.Struct("!I")
_PIECE_HEAD: Final = struct.Struct("!8sII")

HEAD_BYTES: Final = DIGEST_BYTES + _HEAD.size
"""Before the nodes."""
BUNDLE_HEAD_BYTES: Final = _LENGTH.size
PIECE_HEAD_BYTES: Final = _PIECE_HEAD.size

Chunks = Sequence[bytes | memoryview]


class ObjectError(RemoteProtocolError):
    """An object came whole, authenticated and yet malformed; it is dropped."""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A part of a bundle that is too large for one object."""

    transfer_id: bytes
    bundle_bytes: int
    offset: int
    data: bytes


class Content(msgspec.Struct, frozen=True):
    """An object that was opened: bundles, or a piece of one."""

    precedence: int
    nodes: tuple[int, ...]
    """For whom it is; empty: for all."""
    bundles: tuple[bytes, ...] = ()
    piece: Piece | None = None


def head_bytes(nodes: int) -> int:
    """Size of digest, head and nodes."""
    return HEAD_BYTES + 2 * nodes


def pack_bundles(precedence: int, nodes: Sequence[int], bundles: Iterable[Chunks]) -> bytes:
    """An object of whole bundles."""
    parts: list[bytes | memoryview] = []
    for chunks in bundles:
        parts.append(_LENGTH.pack(sum(map(len, chunks))))
        parts.extend(chunks)
    return _finish(_BUNDLES, precedence, nodes, parts)


def cut_pieces(bundle: bytes, room_bytes: int, transfer_id: bytes) -> Iterator[Piece]:
    """Pieces of like size, of at most so many bytes unless that makes too many."""
    room_bytes = max(room_bytes, -(-len(bundle) // PIECES_MAX))
    count = -(-len(bundle) // room_bytes)
    step = -(-len(bundle) // count)
    for offset in range(0, len(bundle), step):
        yield Piece(transfer_id, len(bundle), offset, bundle[offset : offset + step])


def pack_piece(precedence: int, nodes: Sequence[int], piece: Piece) -> bytes:
    """An object with a piece of one bundle."""
    head = _PIECE_HEAD.pack(piece.transfer_id, piece.bundle_bytes, piece.offset)
    return _finish(_PIECE, precedence, nodes, [head, piece.data])


def _finish(kind: int, precedence: int, nodes: Sequence[int], parts: list[bytes | memoryview]) -> bytes:
    assert len(nodes) <= NODES_MAX
    head = _HEAD.pack(kind, precedence, len(nodes)) + struct.pack(f"!{len(nodes)}H", *nodes)
    body = b"".join([head, *parts])
    return hashlib.sha256(body).digest() + body


def read_digest(data: bytes) -> bytes:
    """The digest at an object's head."""
    return data[:DIGEST_BYTES]


def parse_object_untrusted(data: bytes) -> Content:
    """Check and open an object.

    Errors:
        ObjectError: the digest is wrong, or the content is malformed.
    """
    if hashlib.sha256(memoryview(data)[DIGEST_BYTES:]).digest() != data[:DIGEST_BYTES]:
        raise ObjectError("an object has another digest than its head says: it was decoded from wrong symbols")
    try:
        kind, precedence, count = _HEAD.unpack_from(data, DIGEST_BYTES)
        nodes = struct.unpack_from(f"!{count}H", data, HEAD_BYTES)
        if precedence > Precedence.OVERRIDE:
            raise ObjectError(f"an object has the precedence {precedence}: 0 to {int(Precedence.OVERRIDE)} are known")
        if kind == _BUNDLES:
            return Content(precedence, nodes, bundles=_read_bundles(data, head_bytes(count)))
        if kind == _PIECE:
            return Content(precedence, nodes, piece=_read_piece(data, head_bytes(count)))
    except struct.error as error:
        raise ObjectError(f"an object of {len(data)} bytes ends in the middle of its head") from error
    raise ObjectError(f"an object is of kind {kind}: 1 and 2 are known")


def _read_bundles(data: bytes, pos: int) -> tuple[bytes, ...]:
    bundles: list[bytes] = []
    while pos < len(data):
        (length,) = _LENGTH.unpack_from(data, pos)
        pos += _LENGTH.size
        if not 0 < length <= len(data) - pos or len(bundles) == BUNDLES_MAX:
            raise ObjectError(f"bundle {len(bundles)} of an object has {length} bytes: it does not fit")
        bundles.append(data[pos : pos + length])
        pos += length
    if not bundles:
        raise ObjectError("an object has no bundle")
    return tuple(bundles)


def _read_piece(data: bytes, pos: int) -> Piece:
    transfer_id, bundle_bytes, offset = _PIECE_HEAD.unpack_from(data, pos)
    piece = data[pos + _PIECE_HEAD.size :]
    if not piece or offset + len(piece) > bundle_bytes or bundle_bytes > INLINE_SIZE_MAX_BYTES:
        raise ObjectError(f"a piece of {len(piece)} bytes at {offset} lies outside of its bundle of {bundle_bytes}")
    return Piece(transfer_id, bundle_bytes, offset, piece)
