# SPDX-License-Identifier: Apache-2.0
"""What passes the loopback device on one TCP port, caught with an AF_PACKET socket (needs root), for tshark to read.

In a network namespace of its own: each frame is looked at here, and the end is when none comes any more.
"""

import select
import socket
import struct
import threading
from pathlib import Path
from typing import Final

from tests.interop.tcp_capture import PORT

_ETH_P_ALL: Final = 3
_PACKET_OUTGOING: Final = 4
_FRAME_MAX_BYTES: Final = 1 << 18
_BUFFER_BYTES: Final = 32 * 1024 * 1024
_LINK_ETHERNET: Final = 1
_TCP_PORTS_OFFSET: Final = 14 + 20
_POLL_S: Final = 0.1


class LoopbackCapture:
    """Use with `with`; frames are kept from then on."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._frames: list[bytes] = []
        self._stopping = threading.Event()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.bind(("lo", 0))
        self._thread = threading.Thread(target=self._catch, daemon=True)

    def __enter__(self) -> "LoopbackCapture":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, after what is still in the socket's buffer."""
        self._stopping.set()
        self._thread.join()
        self._socket.close()

    def write(self, path: Path) -> Path:
        """A capture file. The port becomes the registered one, by which tshark knows TCPCL."""
        with path.open("wb") as file:
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _FRAME_MAX_BYTES, _LINK_ETHERNET))
            for number, frame in enumerate(self._frames):
                file.write(struct.pack("<IIII", 1_767_139_200, number, len(frame), len(frame)) + frame)
        return path

    def _catch(self) -> None:
        while select.select([self._socket], [], [], _POLL_S)[0] or not self._stopping.is_set():
            if not select.select([self._socket], [], [], 0)[0]:
                continue
            frame, address = self._socket.recvfrom(_FRAME_MAX_BYTES)
            if address[2] != _PACKET_OUTGOING:  # on this device every frame passes twice
                self._keep(frame)

    def _keep(self, frame: bytes) -> None:
        if len(frame) < _TCP_PORTS_OFFSET + 4 or frame[12:15] != b"\x08\x00\x45" or frame[23] != socket.IPPROTO_TCP:
            return
        ports = struct.unpack_from(">HH", frame, _TCP_PORTS_OFFSET)
        if self._port not in ports:
            return
        renamed = struct.pack(">HH", *(PORT if port == self._port else port for port in ports))
        self._frames.append(frame[:_TCP_PORTS_OFFSET] + renamed + frame[_TCP_PORTS_OFFSET + 4 :])
