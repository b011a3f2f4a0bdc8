# SPDX-License-Identifier: Apache-2.0
"""The two ends of a video in a node of the lab: a paced raw source, and a viewer that stamps what is played out.

    video_ends.py send FILE PORT SECONDS STAMPS     video_ends.py view PORT FILE STAMPS

Stamps are those of the monotonic clock, which all nodes of a lab share: one line for each datagram, time and bytes.
The viewer ends after five seconds of silence that follow the first datagram.
"""

import socket
import sys
import time
from pathlib import Path
from typing import Final

DATAGRAM_BYTES: Final = 7 * 188
SILENCE_S: Final = 5.0
FIRST_S: Final = 60.0
BUFFER_BYTES: Final = 1 << 22


def send(file: str, port: str, duration_s: str, stamps: str) -> None:
    """The file, evenly over its duration."""
    data, lines = Path(file).read_bytes(), []
    began_s, per_byte_s = time.monotonic(), float(duration_s) / len(data)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for pos in range(0, len(data), DATAGRAM_BYTES):
            time.sleep(max(0.0, began_s + pos * per_byte_s - time.monotonic()))
            lines.append(f"{time.monotonic()} {len(data[pos : pos + DATAGRAM_BYTES])}")
            out.sendto(data[pos : pos + DATAGRAM_BYTES], ("127.0.0.1", int(port)))
    Path(stamps).write_text("\n".join(lines))


def view(port: str, file: str, stamps: str) -> None:
    """What comes, until nothing more does."""
    lines, seen = [], bytearray()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as viewer:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        viewer.bind(("127.0.0.1", int(port)))
        viewer.settimeout(FIRST_S)
        try:
            while True:
                data = viewer.recv(65536)
                lines.append(f"{time.monotonic()} {len(data)}")
                seen += data
                viewer.settimeout(SILENCE_S)
        except TimeoutError:
            Path(file).write_bytes(seen)
            Path(stamps).write_text("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(*sys.argv[2:])
    else:
        view(*sys.argv[2:])
