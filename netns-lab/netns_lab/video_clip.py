# SPDX-License-Identifier: Apache-2.0
"""A clip for demonstrations: ffmpeg's test picture with a burned-in clock, and KLV on a PID of its own beside it.

ffmpeg makes the video; the KLV PID is put into its program map (ISO/IEC 13818-1 section 2.4.4.8), and the packets for
it are made one by one, so that each can carry the time at which it is sent (MISB ST 0601, tag 2).
"""

from pathlib import Path
from typing import Final

from netns_lab.errors import LabError
from netns_lab.ffmpeg import run_ffmpeg

PACKET_BYTES: Final = 188
VIDEO_PID: Final = 0x100
KLV_PID: Final = 0x110
PMT_PID: Final = 0x1000
RATE: Final = "2M"
PICTURES_PER_S: Final = 30
KEY_EVERY_S: Final = 1

_CLOCK: Final = r"%{eif\:t\:d\:2}.%{eif\:mod(t*1000\,1000)\:d\:3} s"
_KLVA: Final = bytes.fromhex("05044b4c5641")
_PRIVATE_DATA: Final = 0x06
_PRIVATE_STREAM_1: Final = 0xBD
_UAS_LABEL: Final = bytes.fromhex("060e2b34020b01010e01030101000000")
_CRC_POLYNOMIAL: Final = 0x04C11DB7


def clip_command(path: Path, duration_s: int) -> list[str]:
    """The command line of ffmpeg that makes the video."""
    clock = f"drawtext=font=Mono:text='{_CLOCK}':fontsize=170:fontcolor=white:box=1:boxcolor=black:boxborderw=24"
    picture = f"testsrc2=size=1280x720:rate={PICTURES_PER_S},{clock}:x=(w-tw)/2:y=(h-th)/2"
    group = str(PICTURES_PER_S * KEY_EVERY_S)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", picture, "-t", str(duration_s)]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-bf", "0", "-pix_fmt", "yuv420p"]
    command += ["-g", group, "-keyint_min", group, "-sc_threshold", "0"]
    command += ["-b:v", RATE, "-maxrate", RATE, "-bufsize", "1M"]
    command += ["-f", "mpegts", "-mpegts_start_pid", hex(VIDEO_PID), "-mpegts_pmt_start_pid", hex(PMT_PID)]
    return [*command, str(path)]


def make_clip(path: Path, duration_s: int) -> bytes:
    """The transport stream: video, and a program map that names the KLV PID."""
    run_ffmpeg(clip_command(path, duration_s))
    return add_klv_pid(path.read_bytes())


def packet_pid(packet: bytes) -> int:
    """PID of a packet."""
    return (packet[1] & 0x1F) << 8 | packet[2]


def starts_unit(packet: bytes) -> bool:
    """A PES packet or section begins in it."""
    return bool(packet[1] & 0x40)


def add_klv_pid(data: bytes) -> bytes:
    """The same with the KLV PID in each program map. LabError when a map is not alone in one packet."""
    packets = [data[pos : pos + PACKET_BYTES] for pos in range(0, len(data), PACKET_BYTES)]
    return b"".join(_with_klv(each) if packet_pid(each) == PMT_PID else each for each in packets)


def _with_klv(packet: bytes) -> bytes:
    begin = 5
    size = (packet[begin + 1] & 0x0F) << 8 | packet[begin + 2]
    if packet[4] or not starts_unit(packet) or begin + 3 + size > PACKET_BYTES:
        raise LabError("the program map is not whole in its first packet: this ffmpeg writes another form of it")
    row = bytes((_PRIVATE_DATA,)) + (0xE000 | KLV_PID).to_bytes(2, "big") + (0xF000 | len(_KLVA)).to_bytes(2, "big")
    rest = packet[begin + 3 : begin + 3 + size - 4] + row + _KLVA
    section = packet[begin : begin + 1] + (0xB000 | len(rest) + 4).to_bytes(2, "big") + rest
    whole = packet[:begin] + section + _crc32(section).to_bytes(4, "big")
    return whole.ljust(PACKET_BYTES, b"\xff")


def klv_packet(number: int, time_us: int) -> bytes:
    """A local set with this time stamp and its checksum, in one packet.

    Args:
        number: how many went before.
        time_us: since 1970.
    """
    body = b"\x02\x08" + time_us.to_bytes(8, "big") + b"\x01\x02"
    data = _UAS_LABEL + bytes((len(body) + 2,)) + body
    local_set = data + ((sum(data[0::2]) * 256 + sum(data[1::2])) & 0xFFFF).to_bytes(2, "big")
    pes = b"\0\0\1" + bytes((_PRIVATE_STREAM_1,)) + (len(local_set) + 3).to_bytes(2, "big") + b"\x84\0\0" + local_set
    stuffing = PACKET_BYTES - 4 - len(pes)
    head = b"\x47" + (0x4000 | KLV_PID).to_bytes(2, "big") + bytes((0x30 | number & 0x0F,))
    return head + bytes((stuffing - 1, 0)) + b"\xff" * (stuffing - 2) + pes


def _crc32(data: bytes) -> int:
    """Of a section (ISO/IEC 13818-1 annex A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (_CRC_POLYNOMIAL if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc
