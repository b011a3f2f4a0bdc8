# SPDX-License-Identifier: Apache-2.0
"""A sender by AF_XDP in copy mode (linux/if_xdp.h): frames that pass by every gate of the network stack.

Just what sending takes: a UMEM with one frame in each chunk, and the TX ring.
"""

import ctypes
import mmap
import os
import socket
import struct
from typing import Final

AF_XDP: Final = 44
SOL_XDP: Final = 283
MMAP_OFFSETS, TX_RING, UMEM_REG, UMEM_FILL_RING, UMEM_COMPLETION_RING = 1, 3, 4, 5, 6
TX_RING_PLACE: Final = 0x80000000
XDP_COPY: Final = 1 << 1
MSG_DONTWAIT: Final = 0x40
CHUNK_BYTES: Final = 2048
RING_ENTRIES: Final = 64
DESCRIPTOR: Final = struct.Struct("=QII")

_libc = ctypes.CDLL(None, use_errno=True)


class XdpSender:
    """Of one device, in the network namespace where it is made; sends at most RING_ENTRIES frames in all."""

    def __init__(self, device: str) -> None:
        self._socket = socket.socket(AF_XDP, socket.SOCK_RAW)
        self._umem = mmap.mmap(-1, CHUNK_BYTES * RING_ENTRIES)
        place = ctypes.addressof(ctypes.c_char.from_buffer(self._umem))
        umem = struct.pack("=QQIIII", place, CHUNK_BYTES * RING_ENTRIES, CHUNK_BYTES, 0, 0, 0)
        self._socket.setsockopt(SOL_XDP, UMEM_REG, umem)
        for ring in (UMEM_FILL_RING, UMEM_COMPLETION_RING, TX_RING):
            self._socket.setsockopt(SOL_XDP, ring, struct.pack("=I", RING_ENTRIES))
        offsets = struct.unpack("=16Q", self._socket.getsockopt(SOL_XDP, MMAP_OFFSETS, 128))
        self._producer, self._descriptors = offsets[4], offsets[6]
        size_bytes = self._descriptors + RING_ENTRIES * DESCRIPTOR.size
        self._ring = mmap.mmap(self._socket.fileno(), size_bytes, mmap.MAP_SHARED, offset=TX_RING_PLACE)
        self._sent = 0
        # Python's own sockets don't know the addresses of this family.
        address = struct.pack("=HHIII", AF_XDP, XDP_COPY, socket.if_nametoindex(device), 0, 0)
        _check(_libc.bind(self._socket.fileno(), address, len(address)), "bind")

    def send(self, frame: bytes) -> None:
        """Errors: OSError where the kernel does not take it, such as ENETDOWN."""
        offset = self._sent * CHUNK_BYTES
        self._umem[offset : offset + len(frame)] = frame
        place = self._descriptors + self._sent * DESCRIPTOR.size
        self._ring[place : place + DESCRIPTOR.size] = DESCRIPTOR.pack(offset, len(frame), 0)
        self._sent += 1
        self._ring[self._producer : self._producer + 4] = struct.pack("=I", self._sent)
        _check(_libc.sendto(self._socket.fileno(), None, 0, MSG_DONTWAIT, None, 0), "sendto")

    def close(self) -> None:
        """Let go of the device; the UMEM goes with the object."""
        self._ring.close()
        self._socket.close()


def _check(result: int, doing: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"AF_XDP {doing}: {os.strerror(number)}")
