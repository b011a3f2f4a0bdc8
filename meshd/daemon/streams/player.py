# SPDX-License-Identifier: Apache-2.0
"""Plays one stream out: from the jitter buffer to UDP, and to clients that read, each at its own pace.

An output that can't take what is due loses it, and holds up nobody else; a client that does not read loses the oldest.
"""

import bisect
import math
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from meshd.daemon.dtn_clock import monotonic_s, wall_ms
from meshd.daemon.streams.udp_socket import UdpOutput
from meshd.stream.klv_clock import KlvClock
from meshd.stream.piece import Piece, Tier
from meshd.stream.playout import TICK_S, Arrival, Playout

READER_MAX_BYTES: Final = 4 * 1024 * 1024
"""What waits for a client; some ten seconds of a usual stream."""
STAMPS_MAX: Final = 1024
END_PATIENCE_S: Final = 1.0
STILL_S: Final = 3.0
"""Without a newer stamp what is shown stands still; KLV comes more often."""
RECORDED_MS: Final = 3_600_000
"""KLV that is so far from the time of ingest is of a recording, or of a clock that nobody set."""


class Reader:
    """A client that reads what is played out."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._waiting_bytes = 0
        self.lost_bytes = 0
        self.has_ended = False
        self._changed = trio.Event()

    def give(self, data: bytes) -> None:
        """The next bytes."""
        self._parts.append(data)
        self._waiting_bytes += len(data)
        while self._waiting_bytes > READER_MAX_BYTES:
            lost = len(self._parts.popleft())
            self._waiting_bytes -= lost
            self.lost_bytes += lost
        self._notify()

    def end(self) -> None:
        """Nothing more comes."""
        self.has_ended = True
        self._notify()

    async def read(self, size_max_bytes: int, timeout_s: float) -> bytes:
        """What is there, or comes within the time; empty: nothing."""
        if not self._parts and not self.has_ended:
            with trio.move_on_after(timeout_s):
                await self._changed.wait()
        out: list[bytes] = []
        size_bytes = 0
        while self._parts and size_bytes + len(self._parts[0]) <= size_max_bytes:
            size_bytes += len(self._parts[0])
            out.append(self._parts.popleft())
        self._waiting_bytes -= size_bytes
        return b"".join(out)

    @property
    def is_drained(self) -> bool:
        """It has ended and all of it was read."""
        return self.has_ended and not self._parts

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Player:
    """Of one stream, as long as somebody watches it."""

    def __init__(self, latency_s: float, clock: Callable[[], float] = monotonic_s) -> None:
        self._clock = clock
        self.playout = Playout(latency_s)
        self.klv = KlvClock()
        self.outputs: list[UdpOutput] = []
        self.readers: list[Reader] = []
        self._stamps: list[tuple[float, int, bool]] = []
        """When something is shown, the time in ms that it shows, and whether that is of KLV; in this order, since what
        was repaired comes after newer pieces."""
        self._shown: tuple[float, int, int] | None = None
        """Of the newest stamp that was shown: when, on our clock and in ms since 1970, and the time that it says."""
        self.is_latency_of_klv = False
        self._wake = trio.Event()
        self._latency_s = latency_s
        self._is_ending = False

    @property
    def latency_ms(self) -> int | None:
        """How old what is shown was when it was shown, or is by now, when it stands still.

        None: nothing was shown, or the stream has ended.
        """
        if self._shown is None or self._is_ending or self.playout.has_ended:
            return None
        at, at_ms, shown_ms = self._shown
        return (at_ms if self._clock() - at < STILL_S else wall_ms()) - shown_ms

    def expect_end(self) -> None:
        """The stream has ended: when nothing more has come for the latency, all has been played."""
        self._is_ending = True
        self._wake.set()

    def take(self, piece: Piece) -> None:
        """A piece came live."""
        now = self._clock()
        if self.playout.receive_piece(piece, now, wall_ms() / 1000) is not Arrival.TAKEN:
            return
        if piece.tier == Tier.METADATA:
            before = self.klv.time_us
            self.klv.take(piece)
            is_klv = self.klv.time_us is not None
            if not is_klv or self.klv.time_us != before:
                shown_ms = piece.ingest_ms if self.klv.time_us is None else self.klv.time_us // 1000
                if abs(piece.ingest_ms - shown_ms) > RECORDED_MS:
                    shown_ms, is_klv = piece.ingest_ms, False
                bisect.insort(self._stamps, (self.playout.due(piece), shown_ms, is_klv))
                del self._stamps[:-STAMPS_MAX]
        self._wake.set()

    async def run(self) -> None:
        """Until the stream has been played out, or cancelled."""
        while not self.playout.has_ended or self.playout.get_timer() is not None:
            timer = self.playout.get_timer()
            wait_s = self._patience_s() if timer is None else timer - self._clock()
            if timer is not None and 0 < wait_s <= TICK_S:
                await trio.sleep(wait_s)  # no piece that comes now is due before
            elif wait_s > 0:
                self._wake = trio.Event()
                with trio.move_on_after(wait_s) as waiting:
                    await self._wake.wait()
                if timer is None and waiting.cancelled_caught:
                    return
            else:
                await trio.lowlevel.checkpoint()
            self._play()

    def _patience_s(self) -> float:
        """With nothing in the buffer: for ever, unless the end was announced."""
        return self._latency_s + END_PATIENCE_S if self._is_ending else math.inf

    def _play(self) -> None:
        now = self._clock()
        for each in self.playout.data_to_send(now):
            for output in self.outputs:
                output.send(each.data)
            for reader in self.readers:
                reader.give(each.data)
        while self._stamps and self._stamps[0][0] <= now:
            _, shown_ms, self.is_latency_of_klv = self._stamps.pop(0)
            self._shown = now, wall_ms(), shown_ms
