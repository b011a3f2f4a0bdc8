# SPDX-License-Identifier: Apache-2.0
"""One cut as a viewer gets it: its pieces in their places, without what could not be decoded.

Pieces of a link's choice (`meshd/link/thinning.py`) and of its losses are missing alike. What is given passes
`frame_gate.py`. A frame that runs on into a piece that is not there is held back, and given up when that piece's time
comes without it. When the rest has been missing for several cuts it was left out on purpose: it is shown again from a
key frame on.
"""

from collections.abc import Mapping
from typing import Final

from meshd.stream.frame_gate import FrameGate, last_unit_begin
from meshd.stream.piece import Clock, Piece, PieceFlag, Tier
from meshd.stream.ts_sync import GARBAGE

THINNED_CUTS: Final = 3
"""So many cuts without their rest: it was left out."""
WITHHELD_CUTS_MAX: Final = 160
"""So many, ten seconds of them, without a key frame: this stream has none, and is shown as it is."""
_FRAMES: Final = (Tier.KEY_FRAMES, Tier.REST)


class CutRender:
    """Of one stream that is played out."""

    def __init__(self) -> None:
        self.gate = FrameGate()
        self._is_begun = False
        self._unit_bytes = GARBAGE
        self._without_rest = 0
        """Cuts one after the other whose rest is missing."""
        self._withheld_run = 0
        """Cuts withheld since the last key frame."""
        self._held: dict[int, list[bytes]] = {}
        """Packets held back, by tier."""
        self.clocks_given = 0
        self.withheld_cuts = 0
        """Whose rest came, but could not be decoded without a key frame."""
        self.given_up_frames = 0

    @property
    def is_thinned(self) -> bool:
        """The rest of the stream is left out at present."""
        return self._without_rest >= THINNED_CUTS

    def render(self, pieces: Mapping[int, Piece], skipped: int, following: Mapping[int, Piece]) -> bytes:
        """The bytes of a cut.

        Args:
            pieces: what is there of it, by tier; at least one.
            skipped: so many cuts before it are missing altogether.
            following: what is there of the cut after it.
        """
        some = next(iter(pieces.values()))
        if not self._is_begun and some.sequence:
            # A viewer that comes late begins with a key frame.
            skipped = THINNED_CUTS
        if skipped:
            self._lose(Tier)
            self._without_rest += skipped
        self._is_begun = True
        shown = self._choose(pieces, some)
        absent = {tier for tier in Tier if some.tiers >> tier & 1 and tier not in shown}
        if some.unit_bytes != self._unit_bytes:
            # Held packets of another form can't be told from a gap here.
            self._drop_held()
            self._unit_bytes = some.unit_bytes
        if some.unit_bytes == GARBAGE:
            return b"".join(piece.body for piece in shown.values())
        out = [self._release(some, shown)]
        clocks = pieces[Tier.METADATA].clocks if absent and Tier.METADATA in pieces else []
        is_last = bool(some.flags & PieceFlag.LAST)
        holds = {tier for tier in _FRAMES if tier in shown and not is_last and self._is_cut_short(tier, following)}
        self._give(some, shown, absent, clocks, holds, out)
        return b"".join(out)

    def _choose(self, pieces: Mapping[int, Piece], some: Piece) -> dict[int, Piece]:
        """The pieces that are shown."""
        has_rest, should_have_rest = Tier.REST in pieces, bool(some.tiers >> Tier.REST & 1)
        is_key = some.is_random_access and has_rest == should_have_rest
        if is_key or self._withheld_run >= WITHHELD_CUTS_MAX:
            self._without_rest = self._withheld_run = 0
        elif should_have_rest and self.is_thinned and has_rest:
            self.withheld_cuts += 1
            self._withheld_run += 1
            return {tier: piece for tier, piece in pieces.items() if tier != Tier.REST}
        elif should_have_rest:
            self._without_rest = 0 if has_rest else self._without_rest + 1
        return dict(pieces)

    def _give(
        self,
        some: Piece,
        shown: Mapping[int, Piece],
        absent: set[Tier],
        clocks: list[Clock],
        holds: set[Tier],
        out: list[bytes],
    ) -> None:
        unit_bytes, gate = some.unit_bytes, self.gate
        runs = sorted(
            ((begin // unit_bytes, tier, data) for tier, piece in shown.items() for begin, data in piece.extents()),
            key=lambda run: run[0],
        )
        hold_from: dict[int, tuple[int, int] | None] = {tier: self._hold_from(runs, tier, unit_bytes) for tier in holds}
        unit, next_clock = 0, 0
        for index, (begin, tier, data) in enumerate(runs):
            if unit < begin:
                gate.miss(absent)
                next_clock = self._give_clocks(clocks, next_clock, unit, begin, unit_bytes, out)
            unit = begin + len(data) // unit_bytes
            kept = data
            place = hold_from.get(tier)
            if place is not None and index >= place[0]:
                split = place[1] if index == place[0] else 0
                self._held.setdefault(tier, []).append(data[split:])
                kept = data[:split]
            if kept:
                out.append(gate.pass_packets(kept, unit_bytes, tier))
        if unit < some.units:
            gate.miss(absent)
            self._give_clocks(clocks, next_clock, unit, some.units, unit_bytes, out)

    def _give_clocks(
        self, clocks: list[Clock], index: int, begin: int, end: int, unit_bytes: int, out: list[bytes]
    ) -> int:
        """Those of missing units from `begin` to `end`; the index of the next one behind them."""
        while index < len(clocks) and clocks[index].unit < end:
            if clocks[index].unit >= begin:
                out.append(self.gate.clock_packet(clocks[index], unit_bytes))
                self.clocks_given += 1
            index += 1
        return index

    def _is_cut_short(self, tier: int, following: Mapping[int, Piece]) -> bool:
        """Whether the next piece of this tier is not there."""
        if tier in following:
            return False
        return not following or bool(next(iter(following.values())).tiers >> tier & 1)

    def _hold_from(self, runs: list[tuple[int, int, bytes]], tier: Tier, unit_bytes: int) -> tuple[int, int] | None:
        """Run and place in it where the last unit of a tier begins."""
        for index in range(len(runs) - 1, -1, -1):
            if runs[index][1] == tier and (pos := last_unit_begin(runs[index][2], unit_bytes)) is not None:
                return index, pos
        return None

    def _release(self, some: Piece, shown: Mapping[int, Piece]) -> bytes:
        """What was held back, as far as this cut continues it; given up where it should but does not."""
        out: list[bytes] = []
        for tier in _FRAMES:
            held = self._held.pop(tier, None)
            if held is None:
                continue
            if tier not in shown and some.tiers >> tier & 1:
                self.given_up_frames += 1
            else:
                out += [self.gate.pass_packets(data, some.unit_bytes, tier) for data in held]
        return b"".join(out)

    def _lose(self, tiers: type[Tier]) -> None:
        self.gate.miss(tiers)
        self._drop_held()

    def _drop_held(self) -> None:
        self.given_up_frames += len(self._held)
        self._held.clear()
