# SPDX-License-Identifier: Apache-2.0
"""The jitter buffer of a receiver: pieces come as they come, bytes go out as they were ingested, a latency later.

A cut is due its ingest time plus the offset of the publisher's clock (`sender_clock.py`) plus the latency: so it is
shown the latency after it was ingested, or, where clocks do not agree, what the network may add to its shortest way.
What is there when a cut is due is given, over its duration;
what comes later is counted and is a matter of the archive. There is no waiting for what is missing and no catching up:
after an outage the first piece that is in time is shown in its time. The clock of the programs is not looked at, so
that jumps of it do no harm.
"""

import enum
import heapq
from collections import deque
from typing import Final

import msgspec

from meshd.stream.cut_render import CutRender
from meshd.stream.piece import Piece, PieceFlag
from meshd.stream.sender_clock import SenderClock
from meshd.stream.ts_packet import PACKET_BYTES

HELD_MAX_BYTES: Final = 64 * 1024 * 1024
"""A minute of 8 Mbit/s. Pieces beyond are refused: they are in the archive."""
HELD_CUTS_MAX: Final = 16_384
TICK_S: Final = 0.02
"""What is due within one is given together."""
BURST_PACKETS: Final = 7
"""Packets that go out together: as many as fit a datagram of an Ethernet frame."""
LATENCY_MIN_S: Final = 0.0
LATENCY_MAX_S: Final = 60.0


class Arrival(enum.Enum):
    """What became of a piece."""

    TAKEN = enum.auto()
    LATE = enum.auto()
    """Its cut has been played out or passed over."""
    DUPLICATE = enum.auto()
    REFUSED = enum.auto()
    """The buffer is full, or it contradicts the other pieces of its cut."""


class Output(msgspec.Struct, frozen=True, gc=False):
    """Bytes to be given to the viewer: at most BURST_PACKETS packets."""

    due: float
    data: bytes


class PlayoutCounts(msgspec.Struct):
    """For the figures of a stream."""

    pieces: int = 0
    late_pieces: int = 0
    refused_pieces: int = 0
    whole_cuts: int = 0
    partial_cuts: int = 0
    """Of which not all tiers were there in time."""
    missing_cuts: int = 0
    """Of which nothing was there in time."""
    bytes_out: int = 0


class _HeldCut(msgspec.Struct, gc=False):
    pieces: dict[int, Piece]
    size_bytes: int = 0


class Playout:
    """Of one stream."""

    def __init__(self, latency_s: float) -> None:
        assert LATENCY_MIN_S <= latency_s <= LATENCY_MAX_S
        self._latency_s = latency_s
        self.clock = SenderClock(latency_s)
        self.render = CutRender()
        self.counts = PlayoutCounts()
        self._cuts: dict[int, _HeldCut] = {}
        self._order: list[int] = []
        """A heap of the sequences held."""
        self._played: int | None = None
        """The last cut that was given or passed over."""
        self._held_bytes = 0
        self._out: deque[Output] = deque()
        self._out_until = 0.0
        self.has_ended = False
        """The last cut of the stream has been given."""

    @property
    def held_bytes(self) -> int:
        """In the buffer."""
        return self._held_bytes

    def receive_piece(self, piece: Piece, now: float, unix_s: float | None = None) -> Arrival:
        """Take a piece that arrived live; `unix_s` is what the own clock shows."""
        self.clock.observe(piece.ingest_ms / 1000, piece.duration_ms / 1000, now, unix_s)
        if self._is_late(piece, now):
            self.counts.late_pieces += 1
            return Arrival.LATE
        cut = self._cuts.get(piece.sequence)
        if cut is not None and piece.tier in cut.pieces:
            return Arrival.DUPLICATE
        if cut is not None and not piece.is_of_cut(self._any_piece(piece.sequence)):
            self.counts.refused_pieces += 1
            return Arrival.REFUSED
        if self._held_bytes + len(piece.body) > HELD_MAX_BYTES or len(self._cuts) >= HELD_CUTS_MAX:
            self.counts.refused_pieces += 1
            return Arrival.REFUSED
        if cut is None:
            cut = self._cuts[piece.sequence] = _HeldCut({})
            heapq.heappush(self._order, piece.sequence)
        cut.pieces[piece.tier] = piece
        cut.size_bytes += len(piece.body)
        self._held_bytes += len(piece.body)
        self.counts.pieces += 1
        return Arrival.TAKEN

    def get_timer(self) -> float | None:
        """When bytes are due next."""
        if self._out:
            return self._out[0].due
        return self.due(self._any_piece(self._order[0])) if self._order else None

    def data_to_send(self, now: float) -> list[Output]:
        """What is due by now, in order."""
        while self._order and self.due(self._any_piece(self._order[0])) <= now:
            self._play(heapq.heappop(self._order))
        given: list[Output] = []
        while self._out and self._out[0].due <= now:
            given.append(self._out.popleft())
        return given

    def _any_piece(self, sequence: int) -> Piece:
        return next(iter(self._cuts[sequence].pieces.values()))

    def due(self, piece: Piece) -> float:
        """When its cut is due, as the clock stands now; a piece of the stream has been received."""
        return piece.ingest_ms / 1000 + self.clock.offset + self._latency_s

    def _is_late(self, piece: Piece, now: float) -> bool:
        if self._played is not None and piece.sequence <= self._played:
            return True
        # Nothing newer was played: as long as its time is not over it is shown at once.
        return self.due(piece) + max(piece.duration_ms / 1000, TICK_S) < now

    def _play(self, sequence: int) -> None:
        """Give a cut, what is there of it, and pass over those before it."""
        cut = self._cuts.pop(sequence)
        self._held_bytes -= cut.size_bytes
        skipped = sequence - self._played - 1 if self._played is not None else 0
        self._played = sequence
        self.counts.missing_cuts += skipped
        pieces = cut.pieces
        some = next(iter(pieces.values()))
        if len(pieces) == some.tiers.bit_count():
            self.counts.whole_cuts += 1
        else:
            self.counts.partial_cuts += 1
        self.has_ended |= bool(some.flags & PieceFlag.LAST)
        following = self._cuts.get(sequence + 1)
        data = self.render.render(pieces, skipped, following.pieces if following else {})
        self._pace(data, some)

    def _pace(self, data: bytes, piece: Piece) -> None:
        """Spread the bytes of a cut over its duration, no earlier than what went before."""
        begin = max(self.due(piece), self._out_until)
        span_s = piece.duration_ms / 1000
        burst = BURST_PACKETS * max(piece.unit_bytes, PACKET_BYTES)
        size = max(len(data), 1)
        for pos in range(0, len(data), burst):
            ticks = int(span_s * pos / size / TICK_S)
            self._out.append(Output(begin + ticks * TICK_S, data[pos : pos + burst]))
        self._out_until = self._out[-1].due if self._out else begin
        self.counts.bytes_out += len(data)
