# SPDX-License-Identifier: Apache-2.0
"""Where the packets of a transport stream begin, in bytes that come in any portions and with anything between them.

Three forms are known: 188 bytes; 192, with a time stamp of four before each packet (M2TS); 204, with sixteen of a
Reed-Solomon code after it (DVB). Three synchronisation bytes at the distance of a form make a lock. In a lock a single
wrong one is a damaged packet, which keeps its place; a second one ends the lock. What comes out, put together again,
is what went in, byte for byte, and does not depend on the portions. What a packet says is the matter of `ts_packet.py`.
"""

from typing import Final

import msgspec

from meshd.stream.ts_packet import PACKET_BYTES, SYNC_BYTE

UNIT_SIZES: Final = (PACKET_BYTES, 192, 204)
"""Bytes of a packet and what belongs to it, in the three forms."""
GARBAGE: Final = 1
"""Instead of one of them: these bytes are no packets."""
PREFIX_BYTES: Final = {PACKET_BYTES: 0, 192: 4, 204: 0, GARBAGE: 0}
"""What stands before the synchronisation byte, by form."""
LOCK_PACKETS: Final = 3
_PREFIX_MAX_BYTES: Final = max(PREFIX_BYTES.values())
_LOOK_AHEAD_BYTES: Final = (LOCK_PACKETS - 1) * max(UNIT_SIZES) + 1
_STEP_PACKETS: Final = 64
"""Looked at together."""
_SYNC: Final = bytes((SYNC_BYTE,))


class TsRun(msgspec.Struct, frozen=True, gc=False):
    """Bytes one after the other that are of one kind."""

    unit_bytes: int
    """One of UNIT_SIZES: `data` holds whole packets of this form. GARBAGE: anything."""
    data: bytes


class TsSync:
    """Cuts what is fed into runs of packets and garbage."""

    def __init__(self) -> None:
        self._rest = b""
        self._unit_bytes = GARBAGE
        self.damaged_packets = 0
        """They have a wrong synchronisation byte between right ones."""
        self.garbage_bytes = 0
        self.locks_lost = 0

    @property
    def held_bytes(self) -> int:
        """Those that wait for more: less than three packets."""
        return len(self._rest)

    def feed_untrusted(self, data: bytes) -> list[TsRun]:
        """Take a portion of any size, give what can be told by now. Damage is counted, never an error."""
        buffer = self._rest + data if self._rest else data
        runs: list[TsRun] = []
        pos = 0
        while True:
            if self._unit_bytes == GARBAGE:
                begin = pos
                pos, is_decided = self._search(buffer, pos)
                self._give_garbage(buffer, begin, pos, runs)
            else:
                pos, is_decided = self._walk(buffer, pos, runs)
            if not is_decided:
                break
        self._rest = buffer[pos:]
        return runs

    def flush(self) -> list[TsRun]:
        """Give what was held back: the stream ended or pauses, and no more comes that would tell what it is."""
        runs: list[TsRun] = []
        self._give_garbage(self._rest, 0, len(self._rest), runs)
        self._rest, self._unit_bytes = b"", GARBAGE
        return runs

    def _give_garbage(self, buffer: bytes, begin: int, end: int, runs: list[TsRun]) -> None:
        if begin < end:
            self.garbage_bytes += end - begin
            runs.append(TsRun(GARBAGE, buffer[begin:end]))

    def _search(self, buffer: bytes, pos: int) -> tuple[int, bool]:
        """Where packets begin, and True; or where the bytes begin that more are needed for, and False."""
        begin = pos
        while True:
            candidate = buffer.find(_SYNC, pos)
            if candidate < 0:
                # Four bytes without one may yet be the time stamp before the first packet.
                return max(begin, len(buffer) - _PREFIX_MAX_BYTES), False
            if candidate + _LOOK_AHEAD_BYTES > len(buffer):
                return max(begin, candidate - _PREFIX_MAX_BYTES), False
            for unit in UNIT_SIZES:
                start = candidate - PREFIX_BYTES[unit]
                if start >= begin and buffer[candidate + unit] == buffer[candidate + 2 * unit] == SYNC_BYTE:
                    self._unit_bytes = unit
                    return start, True
            pos = candidate + 1

    def _walk(self, buffer: bytes, pos: int, runs: list[TsRun]) -> tuple[int, bool]:
        """Step over packets of the locked form: where to go on, and whether what is here decides how."""
        unit, prefix = self._unit_bytes, PREFIX_BYTES[self._unit_bytes]
        begin = pos
        is_decided = False
        while True:
            count = min((len(buffer) - pos) // unit, _STEP_PACKETS)
            marks = buffer[pos + prefix : pos + count * unit : unit]
            right = len(marks) - len(marks.lstrip(_SYNC))
            pos += right * unit
            if right == count:
                if count == _STEP_PACKETS:
                    continue
                break
            # The next packet is wrong: the one behind it tells whether it is damaged or the lock is lost.
            behind = pos + unit + prefix
            if behind >= len(buffer):
                break
            if buffer[behind] != SYNC_BYTE:
                self._unit_bytes, is_decided = GARBAGE, True
                self.locks_lost += 1
                break
            self.damaged_packets += 1
            pos += unit
        if begin < pos:
            runs.append(TsRun(unit, buffer[begin:pos]))
        return pos, is_decided
