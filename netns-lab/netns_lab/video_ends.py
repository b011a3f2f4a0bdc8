# SPDX-License-Identifier: Apache-2.0
"""The two ends of a video inside of nodes of the lab: a paced source with KLV, and a screen that notes what it gets.

Both run in threads of the scenario, on sockets that were made inside their node, and stamp each datagram on the clock
of time.monotonic(). Bytes are sent raw: what ffmpeg would multiplex again could not be compared.
"""

import bisect
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from netns_lab.lab import NodeHandle
from netns_lab.video_clip import PACKET_BYTES, VIDEO_PID, klv_packet, packet_pid, starts_unit

DATAGRAM_BYTES: Final = 7 * PACKET_BYTES
KLV_EVERY_S: Final = 0.1
POLL_S: Final = 0.2
BUFFER_BYTES: Final = 1 << 22
WINDOW_BYTES: Final = 5000 * PACKET_BYTES
"""What is decoded for one picture: some seconds of video, with a key frame in it for certain."""


class Recording:
    """A transport stream, and when each part of it passed."""

    def __init__(self) -> None:
        self.data: Final = bytearray()
        self._times_s: Final[list[float]] = []
        self._ends: Final[list[int]] = []

    def add(self, data: bytes, time_s: float) -> None:
        """A datagram."""
        self.data.extend(data)
        self._times_s.append(time_s)
        self._ends.append(len(self.data))

    def packets(self) -> list[tuple[bytes, float]]:
        """Each packet and its time. Continuity counters are left out: a receiver writes them anew behind a gap."""
        rows, begin = [], 0
        for end, time_s in zip(self._ends, self._times_s, strict=True):
            for pos in range(begin, end, PACKET_BYTES):
                packet = bytes(self.data[pos : pos + PACKET_BYTES])
                rows.append((packet[:3] + bytes((packet[3] & 0xF0,)) + packet[4:], time_s))
            begin = end
        return rows

    def window(self, until_s: float) -> bytes:
        """What a player needs for the picture that it shows at this time: up to the last one that was whole by then."""
        index = bisect.bisect_right(self._times_s, until_s)
        end = self._ends[index - 1] if index else 0
        data = bytes(self.data[:end])
        for pos in range(end - PACKET_BYTES, -1, -PACKET_BYTES):
            packet = data[pos : pos + PACKET_BYTES]
            if packet_pid(packet) == VIDEO_PID and starts_unit(packet):
                return data[max(0, pos - WINDOW_BYTES) : pos]
        return b""


def unique(packets: Sequence[tuple[bytes, float]]) -> list[tuple[bytes, float]]:
    """Packets whose content comes once: all but tables."""
    numbers = Counter(packet for packet, _ in packets)
    return [(packet, time_s) for packet, time_s in packets if numbers[packet] == 1]


def match(sent: Sequence[tuple[bytes, float]], seen: Sequence[tuple[bytes, float]]) -> list[tuple[bytes, float, float]]:
    """Packets that were sent and seen, when sent, and when seen; by content, so those of `unique` alone."""
    times_s = dict(sent)
    return [(packet, times_s[packet], seen_s) for packet, seen_s in seen if packet in times_s]


class Source:
    """Sends a clip evenly over its duration, and KLV between."""

    def __init__(self, node: NodeHandle, port: int, clip: bytes, duration_s: float) -> None:
        self.sent: Final = Recording()
        self._clip: Final = clip
        self._duration_s: Final = duration_s
        with node.inside():
            self._socket: Final = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._thread: Final = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def is_running(self) -> bool:
        """There is more to send."""
        return self._thread.is_alive()

    def _run(self) -> None:
        begun_s, per_byte_s, klv_sets = time.monotonic(), self._duration_s / len(self._clip), 0
        for pos in range(0, len(self._clip), DATAGRAM_BYTES):
            due_s = pos * per_byte_s
            time.sleep(max(0.0, begun_s + due_s - time.monotonic()))
            if due_s >= klv_sets * KLV_EVERY_S:
                self._send(klv_packet(klv_sets, time.time_ns() // 1000))
                klv_sets += 1
            self._send(self._clip[pos : pos + DATAGRAM_BYTES])
        self._socket.close()

    def _send(self, data: bytes) -> None:
        self._socket.send(data)
        self.sent.add(data, time.monotonic())


class Screen:
    """What a viewer at a UDP port of a node is given."""

    def __init__(self, node: NodeHandle, port: int) -> None:
        self.seen: Final = Recording()
        with node.inside():
            self._socket: Final = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.settimeout(POLL_S)
        self._socket.bind(("127.0.0.1", port))
        self._is_ended = False
        self._thread: Final = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nothing more is of interest."""
        self._is_ended = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._is_ended:
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                continue
            self.seen.add(data, time.monotonic())
