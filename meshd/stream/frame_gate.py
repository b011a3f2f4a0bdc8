# SPDX-License-Identifier: Apache-2.0
"""What of a stream with gaps can be given to a decoder, so that it sees a stream without them.

A PES packet or table that lost a part is left out as a whole. After a gap a PID's continuity counter is shifted, so
that it goes on where it stopped; a jump that the source itself made stays, and without gaps nothing is changed. A clock
reference whose packet is missing is given in a packet of its own, with the discontinuity that the lost one announced.
Packets are in one of the forms of `ts_sync.py`.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from meshd.stream.piece import Clock, Tier
from meshd.stream.ts_packet import PACKET_BYTES, PAYLOAD, PAYLOAD_UNIT_START, PID_NULL, SYNC_BYTE, pack_clock_packet
from meshd.stream.ts_sync import PREFIX_BYTES

_TIERS_END: Final = len(Tier)
_OLD_GAP: Final = -1


class _PidState(msgspec.Struct, gc=False):
    open_tier: int
    """Of the unit (PES packet or table) whose next packets may pass; _TIERS_END: none."""
    counter: int
    """Of the last packet that was given."""
    shift: int
    """Added to the counters of the source."""
    gap: int
    """Number of the last gap that this PID knows of."""


class FrameGate:
    """Of one stream that is played out."""

    def __init__(self) -> None:
        self._pids: dict[int, _PidState] = {}
        self._gaps = 0
        self.dropped_packets = 0
        """They came, but a part of their unit did not."""

    def miss(self, tiers: Iterable[int]) -> None:
        """Here something of these tiers is missing."""
        lost = set(tiers)
        for state in self._pids.values():
            if state.open_tier in lost:
                state.open_tier = _TIERS_END
        self._gaps += 1

    def pass_packets(self, data: bytes, unit_bytes: int, tier: int) -> bytes:
        """Those of these packets, all of one tier, that a decoder may have. Hot: once a packet."""
        prefix = PREFIX_BYTES[unit_bytes]
        pids, gap = self._pids, self._gaps
        changed: bytearray | None = None
        dropped: list[int] = []
        for pos in range(0, len(data), unit_bytes):
            at = pos + prefix
            high = data[at + 1]
            pid = (high & 0x1F) << 8 | data[at + 2]
            control = data[at + 3]
            if data[at] != SYNC_BYTE or pid == PID_NULL or high & 0x80:
                continue
            state = pids.get(pid)
            if state is None:
                # After a gap nothing tells whether it stands within a unit.
                state = pids[pid] = _PidState(_TIERS_END if gap else tier, control - 1 & 0x0F, 0, gap)
            if high & PAYLOAD_UNIT_START:
                state.open_tier = tier
            elif state.open_tier != tier and control & PAYLOAD:
                if state.open_tier == _TIERS_END or state.gap != gap:
                    dropped.append(pos)
                    # Its counter is missing from now on.
                    state.gap = _OLD_GAP
                    continue
                state.open_tier = tier
            counter = control & 0x0F
            if state.gap != gap:
                is_next = state.counter + 1 if control & PAYLOAD else state.counter
                state.shift = is_next - counter & 0x0F
                state.gap = gap
            if state.shift:
                counter = counter + state.shift & 0x0F
                if changed is None:
                    changed = bytearray(data)
                changed[at + 3] = control & 0xF0 | counter
            state.counter = counter
        self.dropped_packets += len(dropped)
        if not dropped:
            return data if changed is None else bytes(changed)
        kept = changed or bytearray(data)
        for pos in reversed(dropped):
            del kept[pos : pos + unit_bytes]
        return bytes(kept)

    def clock_packet(self, clock: Clock, unit_bytes: int) -> bytes:
        """A packet with this clock reference, in the form of the others."""
        state = self._pids.get(clock.pid)
        if state is None:
            state = self._pids[clock.pid] = _PidState(_TIERS_END, 0, 0, _OLD_GAP)
        packet = pack_clock_packet(clock.pid, state.counter, clock.pcr, clock.is_discontinuous)
        prefix = bytes(PREFIX_BYTES[unit_bytes])
        return prefix + packet + bytes(unit_bytes - PACKET_BYTES - len(prefix))


def last_unit_begin(data: bytes, unit_bytes: int) -> int | None:
    """Where the last PES packet or table begins in these packets; None: in none of them."""
    prefix = PREFIX_BYTES[unit_bytes]
    for pos in range(len(data) - unit_bytes, -1, -unit_bytes):
        if data[pos + prefix + 1] & PAYLOAD_UNIT_START:
            return pos
    return None
