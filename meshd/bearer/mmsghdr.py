# SPDX-License-Identifier: Apache-2.0
"""The structures of recvmmsg(2) and sendmmsg(2), by which one system call takes or gives many datagrams."""

import ctypes


class Part(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size_bytes", ctypes.c_size_t))


class Header(ctypes.Structure):
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


class Message(ctypes.Structure):
    """struct mmsghdr; the kernel notes how many bytes it took or gave."""

    _fields_ = (("header", Header), ("done_bytes", ctypes.c_uint32))
