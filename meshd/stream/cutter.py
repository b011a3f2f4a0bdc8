# SPDX-License-Identifier: Apache-2.0
"""Cuts what a publisher ingests into pieces (DESIGN section 10): at key frames, at 100 ms, at 32 kB.

No byte is lost, changed or moved: the pieces of all cuts, each run in its place, are what came in. Packets and garbage
never share a cut. Which tier a packet belongs to is decided by `tier_map.py`; numbers and times of the cuts go on where
the arguments say, so that a publisher that was restarted continues its stream.
"""

from typing import Final

from meshd.stream.piece import DURATION_MAX_MS, VERSION, Clock, Piece, PieceFlag, Tier
from meshd.stream.tier_map import TierMap
from meshd.stream.ts_packet import CLOCK_HZ
from meshd.stream.ts_sync import GARBAGE, TsSync

CUT_BYTES: Final = 32_000
CUT_S: Final = 0.1
CLOCK_STEP: Final = CLOCK_HZ // 20
"""Clock references of a PID that follow closer are not told apart: a decoder needs one each 100 ms."""


class Cutter:
    """Of one stream. What `feed` and `handle_timer` return is to be sent and recorded in that order."""

    def __init__(self, stream: bytes, epoch_ms: int, now: float, sequence: int = 0, offset: int = 0) -> None:
        """Args: `epoch_ms` since 1970 is the time at `now`; `sequence` and `offset` are those of the next cut."""
        self._stream = stream
        self._epoch_ms, self._epoch = epoch_ms, now
        self.sequence, self.offset = sequence, offset
        self.sync = TsSync()
        self.tiers = TierMap()
        self._unit_bytes = GARBAGE
        self._data = bytearray()
        """Of the cut that is open."""
        self._runs: list[list[int]] = []
        """[tier, units] of it, in order."""
        self._clocks: list[Clock] = []
        self._told: dict[int, int] = {}
        """The clock reference that was told last, by PID."""
        self._began = now
        self._flags = PieceFlag(0)

    def get_timer(self) -> float | None:
        """When the open cut has to be closed although nothing comes in."""
        return self._began + CUT_S if self._data else None

    def handle_timer(self, now: float) -> list[Piece]:
        """Close the cut whose time is over."""
        pieces: list[Piece] = []
        if self._data and self._began + CUT_S <= now:
            self._close(now, pieces)
        return pieces

    def feed(self, data: bytes, now: float) -> list[Piece]:
        """Take what was ingested, in portions of any size; the pieces of the cuts that it closes."""
        pieces = self.handle_timer(now)
        for run in self.sync.feed_untrusted(data):
            self._take(run.unit_bytes, run.data, now, pieces)
        return pieces

    def finish(self, now: float) -> list[Piece]:
        """The stream ends: what is held is given out. Its last cut says so, when there is one."""
        pieces: list[Piece] = []
        for run in self.sync.flush():
            self._take(run.unit_bytes, run.data, now, pieces)
        self._flags |= PieceFlag.LAST
        self._close(now, pieces)
        return pieces

    def _take(self, unit_bytes: int, data: bytes, now: float, pieces: list[Piece]) -> None:
        if unit_bytes != self._unit_bytes:
            self._close(now, pieces)
            self._unit_bytes = unit_bytes
        if unit_bytes == GARBAGE:
            self._take_garbage(data, now, pieces)
        else:
            self._take_packets(data, now, pieces)

    def _take_garbage(self, data: bytes, now: float, pieces: list[Piece]) -> None:
        pos = 0
        while pos < len(data):
            self._begin(now)
            end = pos + CUT_BYTES - len(self._data)
            part = data[pos:end]
            self._data += part
            self._add(Tier.REST, len(part))
            if len(self._data) >= CUT_BYTES:
                self._close(now, pieces)
            pos = end

    def _take_packets(self, data: bytes, now: float, pieces: list[Piece]) -> None:
        """Hot: once a packet, or a run of those that are alike."""
        unit = self._unit_bytes
        tiers = self.tiers
        pos = begin = 0
        while pos < len(data):
            alike = tiers.count_alike(data, pos, unit)
            tier = tiers.tier_of(data, pos, unit)
            if tiers.starts_key_frame:
                self._data += data[begin:pos]
                begin = pos
                self._open_with_key_frame(now, pieces)
            room = CUT_BYTES - len(self._data) - (pos - begin)
            if room < unit:
                self._data += data[begin:pos]
                begin = pos
                self._close(now, pieces)
                room = CUT_BYTES
            if not self._runs:
                self._begin(now)
            count = min(alike, room // unit)
            self._add(tier, count)
            if tiers.clock is not None and tier != Tier.METADATA:
                self._take_clock(Clock((len(self._data) + pos - begin) // unit, *tiers.clock))
            pos += count * unit
        self._data += data[begin:]

    def _take_clock(self, clock: Clock) -> None:
        """Tell it in tier 0, unless the last one of its PID that was told will do."""
        last = self._told.get(clock.pid)
        if clock.is_discontinuous or last is None or not 0 <= clock.pcr - last < CLOCK_STEP:
            self._told[clock.pid] = clock.pcr
            self._clocks.append(clock)

    def _open_with_key_frame(self, now: float, pieces: list[Piece]) -> None:
        """Close the cut before a key frame, without the tables that stand right before it: they go with it."""
        tables: list[int] | None = None
        if len(self._runs) > 1 and self._runs[-1][0] == Tier.METADATA:
            tables = self._runs.pop()
        elif len(self._runs) == 1 and self._runs[0][0] == Tier.METADATA:
            self._flags |= PieceFlag.RANDOM_ACCESS
            return
        size = tables[1] * self._unit_bytes if tables else 0
        kept = self._data[len(self._data) - size :] if size else bytearray()
        del self._data[len(self._data) - size :]
        self._close(now, pieces)
        self._begin(now)
        self._data += kept
        if tables:
            self._runs.append(tables)
        self._flags |= PieceFlag.RANDOM_ACCESS

    def _begin(self, now: float) -> None:
        if not self._data:
            self._began = now

    def _add(self, tier: int, units: int) -> None:
        if self._runs and self._runs[-1][0] == tier:
            self._runs[-1][1] += units
        else:
            self._runs.append([tier, units])

    def _close(self, now: float, pieces: list[Piece]) -> None:
        """Give the pieces of the open cut, if there is one."""
        if not self._data:
            return
        unit_bytes, data = self._unit_bytes, bytes(self._data)
        runs: tuple[list[int], list[int], list[int]] = ([], [], [])
        parts: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
        ends = [0, 0, 0]
        unit = 0
        for tier, count in self._runs:
            runs[tier].extend((unit - ends[tier], count))
            parts[tier].append(data[unit * unit_bytes : (unit + count) * unit_bytes])
            unit += count
            ends[tier] = unit
        has = [bool(parts[0] or self._clocks), bool(parts[1]), bool(parts[2])]
        mask = sum(1 << tier for tier in Tier if has[tier])
        ingest_ms = self._epoch_ms + round((self._began - self._epoch) * 1000)
        duration_ms = min(max(0, round((now - self._began) * 1000)), DURATION_MAX_MS)
        for tier in Tier:
            if has[tier]:
                clocks = self._clocks if tier is Tier.METADATA else []
                pieces.append(
                    Piece(
                        VERSION,
                        self._stream,
                        self.sequence,
                        tier,
                        mask,
                        ingest_ms,
                        duration_ms,
                        self.offset,
                        unit,
                        unit_bytes,
                        int(self._flags),
                        runs[tier],
                        clocks,
                        b"".join(parts[tier]),
                    )
                )
        self.sequence += 1
        self.offset += len(data)
        self._data.clear()
        self._runs, self._clocks, self._flags = [], [], PieceFlag(0)
