# SPDX-License-Identifier: Apache-2.0
"""Which tier a packet of a transport stream belongs to, by the tables and frames that came before it.

Tables, KLV and packets of the clock alone are metadata; a whole PES packet of video is a key frame or it is not. A key
frame is one that the adaptation field calls a random access point, or, since not every encoder does, one that begins
with the parameters or the slice of one. Before the tables have come, everything but they themselves is the rest.
"""

from typing import Final

from meshd.stream.piece import Tier
from meshd.stream.psi import VIDEO, ProgramMap, Role
from meshd.stream.ts_packet import (
    ADAPTATION_FIELD,
    PACKET_BYTES,
    PAYLOAD,
    PID_NULL,
    PID_TABLES_END,
    SYNC_BYTE,
    TsError,
    TsPacket,
    parse_packet_untrusted,
)
from meshd.stream.ts_sync import PREFIX_BYTES

_START_CODE: Final = b"\0\0\1"
_H264_KEYS: Final = frozenset((5, 7))
"""NAL unit types: slice of an IDR picture, sequence parameters."""
_H265_KEYS: Final = frozenset((*range(16, 22), 32, 33))
"""NAL unit types: pictures of random access, video and sequence parameters."""
_MPEG2_KEYS: Final = frozenset((0xB3, 0xB8))
"""Start codes: sequence, group of pictures."""


def begins_key_frame(role: Role, payload: bytes) -> bool:
    """Whether the first packet of a PES packet of video shows the begin of a key frame."""
    pos = payload.find(_START_CODE, 6)
    while 0 <= pos < len(payload) - 3:
        code = payload[pos + 3]
        if role is Role.H264:
            if code & 0x1F in _H264_KEYS:
                return True
        elif role is Role.H265:
            if code >> 1 & 0x3F in _H265_KEYS:
                return True
        elif code in _MPEG2_KEYS:
            return True
        pos = payload.find(_START_CODE, pos + 3)
    return False


class TierMap:
    """Sees every packet of a stream, in order."""

    def __init__(self) -> None:
        self.programs = ProgramMap()
        self._tiers: dict[int, Tier] = dict.fromkeys(range(PID_TABLES_END), Tier.METADATA)
        """Of the packets of a PID that begin nothing and have no adaptation field; others are REST."""
        self._watched: set[int] = {0}
        """Those of which every packet is looked at: tables."""
        self.clock: tuple[int, int, bool] | None = None
        """Of the last packet: PID, clock reference, whether it jumps."""
        self.starts_key_frame = False
        """The last packet begins one."""

    def count_alike(self, data: bytes, pos: int, unit_bytes: int) -> int:
        """So many units from `pos` on, at least one, have the tier of the first, and nothing else to tell. Hot."""
        at, end = pos + PREFIX_BYTES[unit_bytes], len(data) - 3
        high, low = data[at + 1], data[at + 2]
        if high & 0xC0 or (high & 0x1F) << 8 | low in self._watched:
            return 1
        begin = at
        while (
            at < end
            and data[at] == SYNC_BYTE
            and data[at + 1] == high
            and data[at + 2] == low
            and not data[at + 3] & ADAPTATION_FIELD
        ):
            at += unit_bytes
        return max((at - begin) // unit_bytes, 1)

    def tier_of(self, data: bytes, pos: int, unit_bytes: int) -> Tier:
        """The tier of the unit at `pos`; sets `clock` and `starts_key_frame`. Hot: once a packet."""
        at = pos + PREFIX_BYTES[unit_bytes]
        high = data[at + 1]
        pid = (high & 0x1F) << 8 | data[at + 2]
        self.clock = None
        self.starts_key_frame = False
        if pid not in self._watched and not (high & 0xC0 or data[at + 3] & ADAPTATION_FIELD):
            # A wrong synchronisation byte leaves the PID in doubt.
            return self._tiers.get(pid, Tier.REST) if data[at] == SYNC_BYTE else Tier.REST
        try:
            packet = parse_packet_untrusted(data[at : at + PACKET_BYTES])
        except TsError:
            return Tier.REST
        return self._look(packet, data, at)

    def _look(self, packet: TsPacket, data: bytes, at: int) -> Tier:
        pid = packet.pid
        if packet.is_damaged or pid == PID_NULL:
            return Tier.REST
        if packet.pcr is not None:
            self.clock = (pid, packet.pcr, packet.is_discontinuous)
        has_payload = bool(data[at + 3] & PAYLOAD)
        if pid in self._watched:
            payload = data[at + packet.payload_start : at + PACKET_BYTES]
            if has_payload and self.programs.take_untrusted(pid, payload, packet.starts_unit):
                self._learn()
            return Tier.METADATA
        if not has_payload and packet.pcr is not None:
            return Tier.METADATA
        role = self.programs.roles.get(pid)
        if packet.starts_unit and role is not None and role in VIDEO:
            self._begin_frame(packet, role, data[at + packet.payload_start : at + PACKET_BYTES])
        return self._tiers.get(pid, Tier.REST)

    def _begin_frame(self, packet: TsPacket, role: Role, payload: bytes) -> None:
        is_key = packet.is_random_access or (not packet.is_scrambled and begins_key_frame(role, payload))
        self.starts_key_frame = is_key
        self._tiers[packet.pid] = Tier.KEY_FRAMES if is_key else Tier.REST

    def _learn(self) -> None:
        """The tables changed: frames that are under way keep their tier."""
        old = self._tiers
        self._tiers = dict.fromkeys(range(PID_TABLES_END), Tier.METADATA)
        for pid, role in self.programs.roles.items():
            if role is Role.KLV:
                self._tiers[pid] = Tier.METADATA
            elif role in VIDEO:
                self._tiers[pid] = Tier.KEY_FRAMES if old.get(pid) is Tier.KEY_FRAMES else Tier.REST
        self._watched = set(self.programs.table_pids)
        self._tiers |= dict.fromkeys(self._watched, Tier.METADATA)
