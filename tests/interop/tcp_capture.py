# SPDX-License-Identifier: Apache-2.0
"""A capture of one TCP connection, written by hand from what its two ends said, for tshark to read.

No loss, no reordering, checksums left at zero (tshark does not verify them unless told to).
"""

import struct
from pathlib import Path
from typing import Final

PORT: Final = 4556
CLIENT_PORT: Final = 50_000
SEGMENT_MAX_BYTES: Final = 1400
_LINK_RAW_IP: Final = 101
_SYN, _ACK, _FIN = 0x02, 0x10, 0x01


class TcpCapture:
    """A connection that `client` opened to `server`; both are fed in the order in which they spoke."""

    def __init__(self) -> None:
        self._packets: list[bytes] = []
        self._sent = {True: 0, False: 0}  # bytes of the stream, SYN included; the key is "by the client"
        self._add(by_client=True, flags=_SYN)
        self._add(by_client=False, flags=_SYN | _ACK)
        self._add(by_client=True, flags=_ACK)

    def client(self, data: bytes) -> None:
        """The client says this."""
        self._say(data, by_client=True)

    def server(self, data: bytes) -> None:
        """The server says this."""
        self._say(data, by_client=False)

    def write(self, path: Path) -> None:
        """Close the connection, and write the file."""
        self._add(by_client=True, flags=_FIN | _ACK)
        self._add(by_client=False, flags=_FIN | _ACK)
        self._add(by_client=True, flags=_ACK)
        with path.open("wb") as file:
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, _LINK_RAW_IP))
            for number, packet in enumerate(self._packets):
                file.write(struct.pack("<IIII", 1_767_139_200, number, len(packet), len(packet)) + packet)

    def _say(self, data: bytes, *, by_client: bool) -> None:
        for start in range(0, len(data), SEGMENT_MAX_BYTES):
            self._add(by_client=by_client, flags=_ACK, data=data[start : start + SEGMENT_MAX_BYTES])
            self._add(by_client=not by_client, flags=_ACK)

    def _add(self, *, by_client: bool, flags: int, data: bytes = b"") -> None:
        ports = (CLIENT_PORT, PORT) if by_client else (PORT, CLIENT_PORT)
        sequence, acknowledged = self._sent[by_client], self._sent[not by_client]
        tcp = struct.pack(
            ">HHIIBBHHH", *ports, sequence, acknowledged if flags & _ACK else 0, 0x50, flags, 65_535, 0, 0
        )
        hosts = bytes((127, 0, 0, 1 if by_client else 2, 127, 0, 0, 2 if by_client else 1))
        size = 20 + len(tcp) + len(data)
        ip = struct.pack(">BBHHHBBH", 0x45, 0, size, len(self._packets), 0, 64, 6, 0) + hosts
        self._packets.append(ip + tcp + data)
        self._sent[by_client] += len(data) + bool(flags & (_SYN | _FIN))
