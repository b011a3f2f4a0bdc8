# SPDX-License-Identifier: Apache-2.0
"""What a sniffer saw at one end: totals for ever, the latest frames in a bounded ring, counts per interval, pcap on
request.

Pure: the sniffer process gives times and frames. A count over an interval that the ring no longer covers is refused,
never guessed.
"""

import collections
import enum
import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from netns_lab.errors import LabError

RING_FRAMES: Final = 100_000
SNAP_BYTES: Final = 256
"""Bytes of each frame that the ring keeps; the length on the wire is kept whole."""
ETHERNET_HEADER_BYTES: Final = 14

_ETHERTYPES: Final = {0x0806: "ARP", 0x0800: "IPv4", 0x86DD: "IPv6"}
_PROTOCOLS: Final = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}


class Direction(enum.Enum):
    """As the node sees it."""

    FROM_NODE = "from"
    """The node sent it: it left the node's device."""
    TO_NODE = "to"
    """It was put on the node's wire, after the link's loss and delay."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame at one end."""

    time_s: float
    """Monotonic."""
    time_ns: int
    """Unix, as the kernel stamped it."""
    direction: Direction
    size_bytes: int
    head: bytes


@dataclass(slots=True)
class Totals:
    """Since the sniffer began, for one direction."""

    frames: int = 0
    size_bytes: int = 0


def frame_kind(head: bytes) -> str:
    """`ARP`, `IPv4 TCP`, `IPv6 ICMPv6` ... for reports."""
    if len(head) < ETHERNET_HEADER_BYTES:
        return "short"
    number = int.from_bytes(head[12:14], "big")
    ethertype = _ETHERTYPES.get(number, f"0x{number:04x}")
    offset = {"IPv4": 23, "IPv6": 20}.get(ethertype)
    if offset is None or len(head) <= offset:
        return ethertype
    protocol = head[offset]
    if ethertype == "IPv6" and protocol == 0 and len(head) > 54:
        protocol = head[54]  # MLD reports hide behind a hop-by-hop header
    return f"{ethertype} {_PROTOCOLS.get(protocol, str(protocol))}"


class FrameLog:
    """One end's frames."""

    def __init__(self, ring_frames: int = RING_FRAMES) -> None:
        self._ring: Final[collections.deque[Frame]] = collections.deque(maxlen=ring_frames)
        self._forgotten_until_s = float("-inf")
        self._totals: Final = {direction: Totals() for direction in Direction}

    def add(self, time_s: float, time_ns: int, direction: Direction, frame: bytes) -> None:
        """A frame was seen."""
        totals = self._totals[direction]
        totals.frames += 1
        totals.size_bytes += len(frame)
        if len(self._ring) == self._ring.maxlen:
            self._forgotten_until_s = self._ring[0].time_s
        self._ring.append(Frame(time_s, time_ns, direction, len(frame), frame[:SNAP_BYTES]))

    def totals(self, direction: Direction) -> Totals:
        """Since the sniffer began."""
        return self._totals[direction]

    def frames(self, direction: Direction, since_s: float, until_s: float) -> list[Frame]:
        """Frames with `since <= time < until`, oldest first. LabError when the ring has forgotten some of them."""
        if since_s <= self._forgotten_until_s:
            raise LabError(
                f"the sniffer keeps {self._ring.maxlen} frames and has forgotten the beginning of that interval;"
                " ask about a shorter one"
            )
        return [frame for frame in self._ring if frame.direction is direction and since_s <= frame.time_s < until_s]

    def write_pcap(self, file: BinaryIO) -> int:
        """The ring as a pcap file with nanoseconds, both directions; returns the number of frames."""
        file.write(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAP_BYTES, 1))
        for frame in self._ring:
            seconds, nanoseconds = divmod(frame.time_ns, 1_000_000_000)
            file.write(struct.pack("=IIII", seconds, nanoseconds, len(frame.head), frame.size_bytes))
            file.write(frame.head)
        return len(self._ring)
