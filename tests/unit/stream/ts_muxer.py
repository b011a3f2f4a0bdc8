# SPDX-License-Identifier: Apache-2.0
"""A small multiplexer of transport streams for tests: one program with video of H.264 in name, KLV and audio."""

import random
from dataclasses import dataclass, field

from meshd.stream.klv import UAS_LABEL, klv_checksum
from meshd.stream.psi import mpeg_crc32

VIDEO_PID, KLV_PID, AUDIO_PID, PMT_PID = 0x100, 0x101, 0x102, 0x1000
KEY_SLICE = bytes.fromhex("000001 0910 000001 6742c01e 000001 68ce3c80 000001 6588")
OTHER_SLICE = bytes.fromhex("000001 0930 000001 419a")
KLVA = bytes.fromhex("05044b4c5641")


def section(table: int, number: int, body: bytes, version: int = 0) -> bytes:
    """A section in the long form, with its CRC."""
    head = number.to_bytes(2, "big") + bytes((0xC1 | version << 1, 0, 0))
    size = len(head) + len(body) + 4
    data = bytes((table, 0xB0 | size >> 8, size & 0xFF)) + head + body
    return data + mpeg_crc32(data).to_bytes(4, "big")


def pat(programs: dict[int, int], version: int = 0) -> bytes:
    """A PAT: PID of the PMT by program."""
    words = [number.to_bytes(2, "big") + (0xE000 | pid).to_bytes(2, "big") for number, pid in programs.items()]
    return section(0, 1, b"".join(words), version)


def pmt(streams: list[tuple[int, int, bytes]], pcr_pid: int = VIDEO_PID, version: int = 0, number: int = 1) -> bytes:
    """A PMT: stream type, PID and descriptors of each stream."""
    rows = [
        bytes((kind,)) + (0xE000 | pid).to_bytes(2, "big") + (0xF000 | len(words)).to_bytes(2, "big") + words
        for kind, pid, words in streams
    ]
    return section(2, number, (0xE000 | pcr_pid).to_bytes(2, "big") + b"\xf0\x00" + b"".join(rows), version)


STREAMS = [(0x1B, VIDEO_PID, b""), (0x06, KLV_PID, KLVA), (0x0F, AUDIO_PID, b"")]


def local_set(time_us: int, extra: bytes = b"") -> bytes:
    """A local set of ST 0601 with a time stamp and a checksum."""
    items = b"\x02\x08" + time_us.to_bytes(8, "big") + extra + b"\x01\x02"
    data = UAS_LABEL + bytes((len(items) + 2,)) + items
    return data + klv_checksum(data).to_bytes(2, "big")


def pes(stream: int, payload: bytes, is_bounded: bool = True) -> bytes:
    """A PES packet without time stamps."""
    size = len(payload) + 3 if is_bounded else 0
    return b"\0\0\1" + bytes((stream,)) + size.to_bytes(2, "big") + b"\x80\x00\x00" + payload


def adaptation(size: int, flags: int, pcr: int | None) -> bytes:
    """An adaptation field of so many bytes in all, its length byte included."""
    if size == 1:
        return b"\0"
    clock = b""
    if pcr is not None:
        flags |= 0x10
        base, rest = divmod(pcr, 300)
        clock = (base << 15 | 0x3F << 9 | rest).to_bytes(6, "big")
    return bytes((size - 1, flags)) + clock.ljust(size - 2, b"\xff")


@dataclass
class Muxer:
    """Makes packets, with counters that go on."""

    rng: random.Random = field(default_factory=lambda: random.Random(1))
    counters: dict[int, int] = field(default_factory=dict)
    pcr: int = 0

    def packets(self, pid: int, unit: bytes, flags: int = 0, pcr: int | None = None) -> bytes:
        """A PES packet or section in packets; the adaptation field of the first has the flags and the clock."""
        out = []
        is_first = True
        while unit or is_first:
            least = (8 if pcr is not None else 2 if flags else 0) if is_first else 0
            room = 184 - least
            take = min(room, len(unit))
            size = 184 - take
            field_bytes = adaptation(size, flags if is_first else 0, pcr if is_first else None) if size else b""
            counter = self.counters[pid] = self.counters.get(pid, -1) + 1 & 0x0F
            head = bytes((0x47, (0x40 if is_first else 0) | pid >> 8, pid & 0xFF, (0x30 if size else 0x10) | counter))
            out.append(head + field_bytes + unit[:take])
            unit, is_first = unit[take:], False
        return b"".join(out)

    def table(self, pid: int, data: bytes) -> bytes:
        """A section in packets, stuffed."""
        unit = b"\0" + data
        return self.packets(pid, unit + b"\xff" * (-len(unit) % 184))

    def tables(self, streams: list[tuple[int, int, bytes]] | None = None, version: int = 0) -> bytes:
        """PAT and PMT."""
        return self.table(0, pat({1: PMT_PID})) + self.table(PMT_PID, pmt(streams or STREAMS, version=version))

    def frame(self, is_key: bool, size: int = 3000, has_flag: bool = True) -> bytes:
        """A frame of video with a clock reference."""
        self.pcr += 900_000
        body = bytes(self.rng.randrange(2, 256) for _ in range(size))
        unit = pes(0xE0, (KEY_SLICE if is_key else OTHER_SLICE) + body, is_bounded=False)
        return self.packets(VIDEO_PID, unit, 0x40 if is_key and has_flag else 0, self.pcr)

    def klv(self, time_us: int) -> bytes:
        """A local set in packets."""
        return self.packets(KLV_PID, pes(0xBD, local_set(time_us)))

    def audio(self, size: int = 400) -> bytes:
        """Something of no tier of its own."""
        return self.packets(AUDIO_PID, pes(0xC0, self.rng.randbytes(size)))

    def null(self) -> bytes:
        """A null packet."""
        return b"\x47\x1f\xff\x10" + b"\xff" * 184

    def second(self, frames: int = 30, frame_bytes: int = 3000, key_bytes: int = 12_000) -> bytes:
        """A group of pictures with all that goes with it."""
        out = [self.tables()]
        for number in range(frames):
            out.append(self.frame(number == 0, key_bytes if number == 0 else frame_bytes))
            if number % 3 == 0:
                out.append(self.klv(1_700_000_000_000_000 + self.pcr // 27))
                out.append(self.audio())
            if number % 7 == 0:
                out.append(self.null())
        return b"".join(out)


def in_form(data: bytes, unit_bytes: int) -> bytes:
    """Packets of 188 bytes in another form; what is added holds no synchronisation byte."""
    if unit_bytes == 188:
        return data
    packets = [data[pos : pos + 188] for pos in range(0, len(data), 188)]
    if unit_bytes == 192:
        return b"".join(number.to_bytes(4, "big").replace(b"G", b"H") + packet for number, packet in enumerate(packets))
    return b"".join(packet + b"\x11" * 16 for packet in packets)


def counter_jumps(data: bytes) -> int:
    """Jumps of continuity counters that a decoder would complain of."""
    last: dict[int, int] = {}
    jumps = 0
    for pos in range(0, len(data), 188):
        assert data[pos] == 0x47
        pid = (data[pos + 1] & 0x1F) << 8 | data[pos + 2]
        counter = data[pos + 3] & 0x0F
        if pid == 0x1FFF:
            continue
        step = 1 if data[pos + 3] & 0x10 else 0
        if pid in last and counter != last[pid] + step & 0x0F:
            jumps += 1
        last[pid] = counter
    return jumps


def whole_units(data: bytes) -> tuple[list[bytes], int]:
    """PES packets of video that are in the stream, and how many bytes stand before the first."""
    units: list[bytearray] = []
    stray = 0
    for pos in range(0, len(data), 188):
        packet = data[pos : pos + 188]
        if (packet[1] & 0x1F) << 8 | packet[2] != VIDEO_PID or not packet[3] & 0x10:
            continue
        payload = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
        if packet[1] & 0x40:
            units.append(bytearray(payload))
        elif units:
            units[-1] += payload
        else:
            stray += len(payload)
    return [bytes(unit) for unit in units], stray
