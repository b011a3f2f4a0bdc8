# SPDX-License-Identifier: Apache-2.0
"""The few kernel calls that the standard library of Python 3.11 lacks: setns, timerfd, ethtool's offloads, packet
sockets, the
parent-death signal. Each raises OSError; nothing here decides anything.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NETNS_FOLDER: Final = Path("/run/netns")
FRAME_SIZE_MAX_BYTES: Final = 9300
"""Largest Ethernet frame the lab carries: MTU 9000 and headers."""
RECEIVE_BUFFER_BYTES: Final = 16 * 1024 * 1024

SO_RCVBUFFORCE: Final = 33
SO_TIMESTAMPNS: Final = 35
SOL_PACKET: Final = 263
PACKET_STATISTICS: Final = 6
PACKET_IGNORE_OUTGOING: Final = 23
PACKET_OUTGOING: Final = 4
ETH_P_ALL: Final = 0x0003

_CLONE_NEWNET: Final = 0x40000000
_PR_SET_PDEATHSIG: Final = 1
_SIOCETHTOOL: Final = 0x8946
_OFFLOADS: Final = {
    "tx checksum": 0x17,  # ETHTOOL_STXCSUM
    "scatter-gather": 0x19,  # ETHTOOL_SSG; without it the kernel segments before the device
    "TSO": 0x1F,  # ETHTOOL_STSO
    "GSO": 0x24,  # ETHTOOL_SGSO
    "GRO": 0x2C,  # ETHTOOL_SGRO
}
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the block's thread in a named network namespace; sockets made there stay there afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NETNS_FOLDER / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(there, _CLONE_NEWNET), f"setns({namespace})")
        finally:
            os.close(there)
        try:
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET), "setns(back)")
    finally:
        os.close(home)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def switch_offloads_off(device: str) -> None:
    """No checksum or segmentation offload on a device of this namespace: what a packet socket reads is what a
    wire would carry.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for command in _OFFLOADS.values():
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0), 8)
            request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
            fcntl.ioctl(handle, _SIOCETHTOOL, request)


def open_packet_socket(device: str, ignore_outgoing: bool) -> socket.socket:
    """A non-blocking AF_PACKET socket for every frame on a device of this namespace, from this moment on."""
    handle = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        try:
            handle.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except PermissionError:  # an ordinary user gets what net.core.rmem_max allows
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if ignore_outgoing:
            handle.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        handle.bind((device, ETH_P_ALL))
    except OSError:
        handle.close()
        raise
    return handle


def frames_dropped(handle: socket.socket) -> int:
    """Frames that a packet socket had no room for since the last call."""
    _, drops = struct.unpack("=II", handle.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    return int(drops)


class MonotonicTimer:
    """A timerfd on CLOCK_MONOTONIC: epoll's own timeout has only milliseconds."""

    def __init__(self) -> None:
        flags = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC have these values
        self._fd: Final = _check(_libc.timerfd_create(1, flags), "timerfd_create")

    def fileno(self) -> int:
        """For epoll."""
        return self._fd

    def arm(self, when_s: float | None) -> None:
        """Fire at an absolute monotonic time; None: never."""
        nanoseconds = max(1, int(when_s * 1e9)) if when_s is not None else 0
        setting = struct.pack("=qqqq", 0, 0, nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
        _check(_libc.timerfd_settime(self._fd, 1, setting, None), "timerfd_settime")

    def acknowledge(self) -> None:
        """Take the event, if there is one."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def become_realtime() -> bool:
    """SCHED_FIFO at the lowest priority when permitted; True when it worked."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    return True
