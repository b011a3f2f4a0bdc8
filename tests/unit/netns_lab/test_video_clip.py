# SPDX-License-Identifier: Apache-2.0
"""The demonstration's clip: the KLV beside ffmpeg's video is what the daemon reads."""

from pathlib import Path

import pytest

from meshd.stream.klv import parse_local_set_untrusted
from meshd.stream.psi import ProgramMap, Role
from meshd.stream.ts_packet import parse_packet_untrusted
from netns_lab.errors import LabError
from netns_lab.video_clip import (
    KLV_PID,
    PACKET_BYTES,
    PMT_PID,
    VIDEO_PID,
    add_klv_pid,
    clip_command,
    klv_packet,
    packet_pid,
    starts_unit,
)
from tests.unit.stream.ts_muxer import Muxer, counter_jumps

VIDEO_ALONE = [(0x1B, VIDEO_PID, b"")]


def test_the_program_map_names_the_klv_pid() -> None:
    mux = Muxer()
    data = add_klv_pid(mux.tables(VIDEO_ALONE) + mux.frame(is_key=True))
    programs = ProgramMap()
    for pos in range(0, len(data), PACKET_BYTES):
        packet = data[pos : pos + PACKET_BYTES]
        parsed = parse_packet_untrusted(packet)
        if parsed.pid in (0, PMT_PID):
            programs.take_untrusted(parsed.pid, packet[parsed.payload_start :], parsed.starts_unit)
    assert programs.roles[KLV_PID] is Role.KLV
    assert VIDEO_PID in programs.roles


def test_a_program_map_of_another_form_is_refused() -> None:
    rows = [(0x1B, VIDEO_PID, b"\x05\x64" + bytes(100)), (0x0F, 0x102, b"\x05\x64" + bytes(100))]
    with pytest.raises(LabError, match="program map"):
        add_klv_pid(Muxer().tables(rows))


def test_klv_packets_have_their_time_and_a_right_checksum() -> None:
    packets = [klv_packet(number, 1_700_000_000_000_000 + number) for number in range(20)]
    for number, packet in enumerate(packets):
        assert (len(packet), packet_pid(packet), starts_unit(packet)) == (PACKET_BYTES, KLV_PID, True)
        found = parse_local_set_untrusted(packet[parse_packet_untrusted(packet).payload_start :])
        assert (found.time_us, found.is_checked) == (1_700_000_000_000_000 + number, True)
    assert counter_jumps(b"".join(packets)) == 0


def test_the_clip_has_a_clock_and_a_key_frame_a_second() -> None:
    command = clip_command(Path("clip.ts"), 25)
    assert command[0] == "ffmpeg"
    assert command[-1] == "clip.ts"
    assert "drawtext" in command[command.index("-i") + 1]
    assert command[command.index("-t") + 1] == "25"
    assert command[command.index("-g") + 1] == "30"
    assert command[command.index("-mpegts_start_pid") + 1] == hex(VIDEO_PID)
