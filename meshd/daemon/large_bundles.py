# SPDX-License-Identifier: Apache-2.0
"""Cuts and joins bundles that are too large for memory (RFC 9171 sections 5.8 and 5.9), a few MiB at a time.

What is joined goes to the store as a stream, like a large bundle that arrives: the next pieces are read when those
before are written, so that everything else has its turn in between. Which bundles, and when, is the agent's business.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from meshd.base.errors import StoreError
from meshd.base.limits import FRONT_SIZE_MAX_BYTES, PIECE_SIZE_BYTES
from meshd.bundle.errors import BundleError
from meshd.bundle.fragment import FRAGMENTS_MAX, PiecewiseJoin, cut_fragments
from meshd.bundle.header import BundleHeader
from meshd.bundle.piecewise import scan_front_untrusted
from meshd.bundle.record import BundleId, PayloadRef
from meshd.node import commands as cmd
from meshd.node.events import BundleFragmented, BundleJoined, DataUnreadable, Event, JoiningFailed

CUT_BYTES: Final = 4 * 1024 * 1024
"""Of fragments are made at a time; no fragment of a large bundle is larger, so that links that end soon take some."""
AHEAD_PIECES: Final = 2
"""Given to the store and not written yet, of each bundle that is being joined."""
_FRAME_BYTES: Final = 64
"""A payload block takes no more beside its data."""


class StreamPort(Protocol):
    """The store, as this module sees it."""

    def read_piece(self, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        """See StorePort."""

    def stream(self, command: cmd.StreamCommand) -> None:
        """See StorePort."""


def cut_large(store: StreamPort, wish: cmd.FragmentBundle) -> BundleFragmented:
    """Some fragments from the wished position on.

    Errors:
        StoreError: it can't be read.
        BundleError: it can't be cut so.
    """
    ref = wish.payload
    front = store.read_piece(ref, 0, FRONT_SIZE_MAX_BYTES)
    header = scan_front_untrusted(front)
    size_max_bytes = min(wish.size_max_bytes, CUT_BYTES)
    content_bytes = size_max_bytes - header.payload_block_offset - _FRAME_BYTES
    if content_bytes * (FRAGMENTS_MAX - 1) < header.payload_size:
        raise BundleError("fragment", f"the bundle can't be cut into {FRAGMENTS_MAX} of {size_max_bytes} bytes")
    fragments: list[bytes] = []
    left_bytes, position = CUT_BYTES, wish.position
    first_max_bytes = min(wish.first_max_bytes, size_max_bytes)
    for each, after in cut_fragments(
        front,
        header,
        lambda offset, size: store.read_piece(ref, offset, size),
        wish.position,
        size_max_bytes,
        first_max_bytes,
    ):
        fragments.append(each)
        position = after
        left_bytes -= len(each)
        if left_bytes < size_max_bytes:
            break
    return BundleFragmented(wish.id, fragments, next_position=position if position < header.payload_size else 0)


class _Join:
    """One bundle that is being joined."""

    def __init__(self, bundle: BundleId, pieces: Iterator[bytes]) -> None:
        self.bundle = bundle
        self.pieces = pieces
        self.under_way = 0
        """Pieces that the store has not written yet."""
        self.result: tuple[BundleHeader, int] | None = None
        self.reading: BundleId | None = None
        """The fragment that is being read."""


class LargeJoiner:
    """Owns the bundles that are being joined.

    Args:
        dispatch: takes BundleJoined, JoiningFailed and DataUnreadable.
    """

    def __init__(self, store: StreamPort, dispatch: Callable[[Event], None]) -> None:
        self._store = store
        self._dispatch = dispatch
        self._number = 0
        self._joins: dict[int, _Join] = {}
        self._waiting: deque[tuple[BundleId, Sequence[BundleId], Sequence[PayloadRef]]] = deque()

    def join(self, bundle: BundleId, fragments: Sequence[BundleId], payloads: Sequence[PayloadRef]) -> None:
        """Join these, in this order; one bundle after the other."""
        self._waiting.append((bundle, fragments, payloads))
        if not self._joins:
            self._begin_next()

    def written(self, stream: int, error: StoreError | None) -> None:
        """The store has written a piece, or made a place, or it could not."""
        join = self._joins.get(stream)
        if join is None:
            return
        if error is not None:
            self._end(stream, JoiningFailed(join.bundle, str(error)))
            return
        join.under_way -= 1
        self._go_on(stream, join)

    def _begin_next(self) -> None:
        if not self._waiting:
            return
        bundle, fragments, payloads = self._waiting.popleft()
        self._number -= 1
        join = self._joins[self._number] = _Join(bundle, iter(()))
        join.pieces = self._pieces(join, fragments, payloads)
        self._store.stream(cmd.BeginStream(self._number, None, None, sum(each.size_bytes for each in payloads)))
        self._go_on(self._number, join)

    def _go_on(self, stream: int, join: _Join) -> None:
        try:
            while join.under_way < AHEAD_PIECES:
                piece = next(join.pieces, None)
                if piece is None:
                    break
                join.under_way += 1
                self._store.stream(cmd.WritePiece(stream, None, None, piece))
        except (StoreError, BundleError) as error:
            if join.reading is not None:
                self._dispatch(DataUnreadable([join.reading], str(error)))
            self._store.stream(cmd.AbortStream(stream))
            self._end(stream, JoiningFailed(join.bundle, str(error)))
            return
        if not join.under_way and join.result is not None:
            self._end(stream, BundleJoined(join.bundle, stream, *join.result))

    def _end(self, stream: int, event: Event) -> None:
        del self._joins[stream]
        self._dispatch(event)
        self._begin_next()

    def _pieces(self, join: _Join, fragments: Sequence[BundleId], payloads: Sequence[PayloadRef]) -> Iterator[bytes]:
        """The whole, piece by piece. Where fragments overlap, the bytes of the one that begins first count."""
        read_piece = self._store.read_piece
        whole: PiecewiseJoin | None = None
        covered = 0
        for bundle, ref in zip(fragments, payloads, strict=True):
            join.reading = bundle
            front = read_piece(ref, 0, FRONT_SIZE_MAX_BYTES)
            header = scan_front_untrusted(front)
            if whole is None:
                whole = PiecewiseJoin(front, header)
                join.result = header, whole.size_bytes
                yield whole.front
            position = header.payload_offset + covered - header.id.fragment_offset
            end = header.payload_offset + header.payload_size
            while position < end:
                piece = read_piece(ref, position, min(PIECE_SIZE_BYTES, end - position))
                whole.feed(piece)
                yield piece
                position += len(piece)
                covered += len(piece)
        assert whole is not None, "there are fragments"
        yield whole.tail()
