# SPDX-License-Identifier: Apache-2.0
"""What a sniffer keeps: intervals, bounds, kinds, pcap."""

import io
import struct

import pytest

from netns_lab.errors import LabError
from netns_lab.frame_log import SNAP_BYTES, Direction, FrameLog, frame_kind

FROM, TO = Direction.FROM_NODE, Direction.TO_NODE
ALWAYS = float("inf")


def filled(count: int, ring_frames: int = 100) -> FrameLog:
    log = FrameLog(ring_frames)
    for number in range(count):
        log.add(float(number), number * 10**9 + 7, FROM if number % 2 == 0 else TO, bytes(60 + number))
    return log


def test_an_interval_includes_its_beginning_and_not_its_end() -> None:
    log = filled(10)
    assert [frame.time_s for frame in log.frames(FROM, 2.0, 6.0)] == [2.0, 4.0]
    assert [frame.time_s for frame in log.frames(TO, 2.0, 6.0)] == [3.0, 5.0]


def test_totals_outlive_the_ring() -> None:
    log = filled(10, ring_frames=4)
    assert log.totals(FROM).frames == 5
    assert log.totals(TO).size_bytes == sum(60 + number for number in (1, 3, 5, 7, 9))


def test_an_interval_that_is_partly_forgotten_is_refused() -> None:
    log = filled(10, ring_frames=4)
    assert len(log.frames(FROM, 5.5, ALWAYS)) == 2
    with pytest.raises(LabError, match="has forgotten the beginning of that interval"):
        log.frames(FROM, 5.0, ALWAYS)


def test_pcap_keeps_times_lengths_and_heads() -> None:
    log = FrameLog()
    log.add(1.0, 5_000_000_123, FROM, b"\x01" * 1000)
    file = io.BytesIO()
    assert log.write_pcap(file) == 1
    magic, major, minor, _, _, snap_bytes, link_type = struct.unpack("=IHHiIII", file.getvalue()[:24])
    assert (magic, major, minor, snap_bytes, link_type) == (0xA1B23C4D, 2, 4, SNAP_BYTES, 1)
    assert struct.unpack("=IIII", file.getvalue()[24:40]) == (5, 123, SNAP_BYTES, 1000)
    assert file.getvalue()[40:] == b"\x01" * SNAP_BYTES


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (bytes(12) + b"\x08\x06", "ARP"),
        (bytes(12) + b"\x08\x00" + bytes(9) + b"\x06", "IPv4 TCP"),
        (bytes(12) + b"\x08\x00" + bytes(9) + b"\x63", "IPv4 99"),
        (bytes(12) + b"\x86\xdd" + bytes(6) + b"\x3a", "IPv6 ICMPv6"),
        (bytes(12) + b"\x86\xdd" + bytes(6) + b"\x00" + bytes(33) + b"\x3a", "IPv6 ICMPv6"),
        (bytes(12) + b"\x88\xcc", "0x88cc"),
        (bytes(12) + b"\x08\x00", "IPv4"),
        (bytes(3), "short"),
    ],
)
def test_kinds(head: bytes, kind: str) -> None:
    assert frame_kind(head) == kind
