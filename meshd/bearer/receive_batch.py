# SPDX-License-Identifier: Apache-2.0
"""Many datagrams with one system call: recvmmsg(2), which Python's socket does not offer.

A full turn takes two thirds of the time of single calls; a single datagram takes a microsecond more, which matters to
nobody while datagrams come one by one. A turn that is not full needs no further call to say that nothing is left.
"""

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any, Final, overload

from meshd.bearer.mmsghdr import Message, Part
from meshd.bearer.sockets import Address

_MSG_DONTWAIT: Final = 0x40
_NAME_BYTES: Final = 28
"""A struct sockaddr_in6, the larger of the two."""
_PLACE4: Final = struct.Struct("!2xH4s")
_PLACE6: Final = struct.Struct("!2xHI16s4s")
"""struct sockaddr_in and sockaddr_in6 from their port on; the scope is in the machine's order."""


def find_recvmmsg() -> Any:
    """The function of the C library, or None where it has none."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "recvmmsg", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
    return function


class ReceiveBatch:
    """Room for so many datagrams of so many bytes, and for the addresses that they come from where those matter."""

    def __init__(self, recvmmsg: Any, datagrams_max: int, size_bytes: int, *, has_sources: bool = False) -> None:
        """`recvmmsg` as `find_recvmmsg` found it."""
        self._recvmmsg = recvmmsg
        self._datagrams_max = datagrams_max
        # Pages that no datagram ever touched are not there.
        room = bytearray(datagrams_max * size_bytes)
        base = ctypes.addressof(ctypes.c_char.from_buffer(room))
        self._room = memoryview(room)
        self._places = range(0, len(room), size_bytes)
        self._parts = (Part * datagrams_max)(*[Part(base + place, size_bytes) for place in self._places])
        self._messages = (Message * datagrams_max)()
        for message, part in zip(self._messages, self._parts, strict=True):
            message.header.parts = ctypes.addressof(part)
            message.header.part_count = 1
        self._names = bytearray(datagrams_max * _NAME_BYTES if has_sources else 0)
        if has_sources:  # the kernel notes the size of each; of one socket they are all of one size
            names = ctypes.addressof(ctypes.c_char.from_buffer(self._names))
            for place, message in enumerate(self._messages):
                message.header.name, message.header.name_bytes = names + place * _NAME_BYTES, _NAME_BYTES
        words = ctypes.sizeof(Message) // 4
        numbers = memoryview(self._messages).cast("B").cast("I")
        self._sizes = numbers[Message.done_bytes.offset // 4 :: words]

    def receive(self, sock: socket.socket) -> list[bytes]:
        """What is there; a datagram that is too large is cut short. Errors: OSError, as of `socket.recv`."""
        count = self._recvmmsg(sock.fileno(), self._messages, self._datagrams_max, _MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        room, sizes = self._room, self._sizes[:count].tolist()
        return [bytes(room[place : place + size]) for place, size in zip(self._places, sizes, strict=False)]

    def receive_from(self, sock: socket.socket) -> tuple[list[bytes], Sequence[Address]]:
        """As `receive`, with the address that each came from; of an IPv4 or IPv6 socket."""
        datagrams = self.receive(sock)
        return datagrams, Sources(sock.family, bytes(self._names[: len(datagrams) * _NAME_BYTES]))


class Sources(Sequence[Address]):
    """The addresses of one turn, each made only when it is asked for: in a flood hardly one is."""

    def __init__(self, family: int, names: bytes) -> None:
        self._family = family
        self._names = names

    def __len__(self) -> int:
        return len(self._names) // _NAME_BYTES

    @overload
    def __getitem__(self, place: int) -> Address: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Address]: ...

    def __getitem__(self, place: int | slice) -> Address | Sequence[Address]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        offset = range(len(self))[place] * _NAME_BYTES
        if self._family == socket.AF_INET:
            port, host = _PLACE4.unpack_from(self._names, offset)
            return socket.inet_ntop(socket.AF_INET, host), port
        port, flow, host, scope = _PLACE6.unpack_from(self._names, offset)
        return socket.inet_ntop(socket.AF_INET6, host), port, flow, int.from_bytes(scope, sys.byteorder)
