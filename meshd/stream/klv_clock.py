# SPDX-License-Identifier: Apache-2.0
"""The newest time stamp of the KLV in a transport stream: what end-to-end latency is shown from.

Looks at metadata pieces alone, which are small, and puts the PES packets of the KLV PIDs together. Damage leaves the
last good stamp in force; without KLV there is none, and the ingest time stands instead.
"""

from meshd.stream.klv import PES_MAX_BYTES, KlvError, parse_local_set_untrusted
from meshd.stream.piece import Piece, Tier
from meshd.stream.psi import ProgramMap, Role
from meshd.stream.ts_packet import PACKET_BYTES, PAYLOAD, TsError, parse_packet_untrusted
from meshd.stream.ts_sync import GARBAGE, PREFIX_BYTES


class KlvClock:
    """Of one stream."""

    def __init__(self) -> None:
        self._programs = ProgramMap()
        self._open: dict[int, bytearray] = {}
        self.time_us: int | None = None
        """Microseconds since 1970 of the newest local set whose checksum is right."""
        self.bad_sets = 0
        """They can't be read, or their checksum is wrong or missing."""

    def take(self, piece: Piece) -> None:
        """Read a piece that is about to be shown; those of other tiers are passed over."""
        if piece.tier != Tier.METADATA or piece.unit_bytes == GARBAGE:
            return
        prefix = PREFIX_BYTES[piece.unit_bytes]
        for pos in range(prefix, len(piece.body), piece.unit_bytes):
            self._take_packet(piece.body[pos : pos + PACKET_BYTES])

    def _take_packet(self, data: bytes) -> None:
        try:
            packet = parse_packet_untrusted(data)
        except TsError:
            return
        if not data[3] & PAYLOAD:
            return
        payload = data[packet.payload_start :]
        if packet.pid in self._programs.table_pids:
            self._programs.take_untrusted(packet.pid, payload, packet.starts_unit)
        elif self._programs.roles.get(packet.pid) is Role.KLV:
            self._take_klv(packet.pid, payload, packet.starts_unit)

    def _take_klv(self, pid: int, payload: bytes, starts_unit: bool) -> None:
        if starts_unit:
            self._open[pid] = bytearray(payload)
        elif pid in self._open:
            self._open[pid] += payload
        else:
            return
        unit = self._open[pid]
        # PES_packet_length (ISO/IEC 13818-1 section 2.4.3.7) says when it is whole; it is never 0 here.
        size = 6 + int.from_bytes(unit[4:6], "big")
        if len(unit) >= size or len(unit) > PES_MAX_BYTES:
            del self._open[pid]
            self._read(bytes(unit[:size]))

    def _read(self, unit: bytes) -> None:
        try:
            found = parse_local_set_untrusted(unit)
        except KlvError:
            self.bad_sets += 1
            return
        if not found.is_checked:
            self.bad_sets += 1
        elif found.time_us is not None:
            self.time_us = found.time_us
