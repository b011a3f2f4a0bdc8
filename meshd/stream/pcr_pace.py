# SPDX-License-Identifier: Apache-2.0
"""When the bytes of a recorded transport stream were on the air: a file is published at the pace of its clock.

The first PID that carries a clock reference gives it. A jump of the clock, backwards or by more than a second, moves
nothing: what follows comes at once, and from there on the clock counts again. Bytes before the first reference, and
those of a stream without one, are due at once.
"""

from typing import Final

from meshd.stream.ts_packet import CLOCK_CYCLE, CLOCK_HZ, PACKET_BYTES, TsError, parse_packet_untrusted
from meshd.stream.ts_sync import GARBAGE, PREFIX_BYTES, TsSync

JUMP_S: Final = 1.0


class PcrPace:
    """Of one file, read in order."""

    def __init__(self) -> None:
        self._sync = TsSync()
        self._pid: int | None = None
        self._pcr = 0
        self._due_s = 0.0
        self.references = 0

    def feed(self, data: bytes) -> list[tuple[float, bytes]]:
        """Portions in order, with the seconds from the begin on at which they are due; all that can be told by now."""
        out: list[tuple[float, bytes]] = []
        for run in self._sync.feed_untrusted(data):
            self._take(run.unit_bytes, run.data, out)
        return out

    def finish(self) -> list[tuple[float, bytes]]:
        """What is left at the end."""
        return [(self._due_s, run.data) for run in self._sync.flush()]

    def _take(self, unit_bytes: int, data: bytes, out: list[tuple[float, bytes]]) -> None:
        begin = 0
        if unit_bytes != GARBAGE:
            for pos in range(0, len(data), unit_bytes):
                pcr = self._reference(data, pos + PREFIX_BYTES[unit_bytes])
                if pcr is not None:
                    if begin < pos:
                        out.append((self._due_s, data[begin:pos]))
                    begin = pos
                    self._move(pcr)
        out.append((self._due_s, data[begin:]))

    def _reference(self, data: bytes, at: int) -> int | None:
        # Most packets have no adaptation field with a clock: that is told from two bytes.
        if not data[at + 3] & 0x20 or not data[at + 4] or not data[at + 5] & 0x10:
            return None
        try:
            packet = parse_packet_untrusted(data[at : at + PACKET_BYTES])
        except TsError:
            return None
        if self._pid is None and packet.pcr is not None:
            self._pid, self._pcr = packet.pid, packet.pcr
        return packet.pcr if packet.pid == self._pid else None

    def _move(self, pcr: int) -> None:
        step_s = (pcr - self._pcr) % CLOCK_CYCLE / CLOCK_HZ
        self._pcr = pcr
        self.references += 1
        if step_s <= JUMP_S:
            self._due_s += step_s
