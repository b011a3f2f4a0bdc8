# SPDX-License-Identifier: Apache-2.0
"""Many datagrams with one system call: recvmmsg(2), which Python's socket does not offer.

A full turn takes two thirds of the time of single calls; a single datagram takes a microsecond more, which matters to
nobody while datagrams come one by one. A turn that is not full needs no further call to say that nothing is left.
"""

import ctypes
import os
import socket
from typing import Any, Final

_MSG_DONTWAIT: Final = 0x40


class _Part(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size_bytes", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("received_bytes", ctypes.c_uint32))


def find_recvmmsg() -> Any:
    """The function of the C library, or None where it has none."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "recvmmsg", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
    return function


class ReceiveBatch:
    """Room for so many datagrams of so many bytes."""

    def __init__(self, recvmmsg: Any, datagrams_max: int, size_bytes: int) -> None:
        """`recvmmsg` as `find_recvmmsg` found it."""
        self._recvmmsg = recvmmsg
        self._datagrams_max = datagrams_max
        # Pages that no datagram ever touched are not there.
        room = bytearray(datagrams_max * size_bytes)
        base = ctypes.addressof(ctypes.c_char.from_buffer(room))
        self._room = memoryview(room)
        self._places = range(0, len(room), size_bytes)
        self._parts = (_Part * datagrams_max)(*[_Part(base + place, size_bytes) for place in self._places])
        self._messages = (_Message * datagrams_max)()
        for message, part in zip(self._messages, self._parts, strict=True):
            message.header.parts = ctypes.addressof(part)
            message.header.part_count = 1
        words = ctypes.sizeof(_Message) // 4
        numbers = memoryview(self._messages).cast("B").cast("I")
        self._sizes = numbers[_Message.received_bytes.offset // 4 :: words]

    def receive(self, sock: socket.socket) -> list[bytes]:
        """What is there; a datagram that is too large is cut short. Errors: OSError, as of `socket.recv`."""
        count = self._recvmmsg(sock.fileno(), self._messages, self._datagrams_max, _MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        room, sizes = self._room, self._sizes[:count].tolist()
        return [bytes(room[place : place + size]) for place, size in zip(self._places, sizes, strict=False)]
