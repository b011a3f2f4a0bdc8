# SPDX-License-Identifier: Apache-2.0
"""Permanent entries in the kernel's neighbour table, by rtnetlink: a silent host answers neither ARP nor ND (RFC 4861).

What `ip neigh replace ADDRESS lladdr MAC dev DEVICE nud permanent` does. A device without hardware addresses, such as
the loopback or a point-to-point one, needs no entry. Calls return at once.
"""

import errno
import socket
import struct
from typing import Final

from meshd.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Message,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes,
)

_RTM_NEWNEIGH: Final = 28
_RTM_GETNEIGH: Final = 30
_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
_NUD_STALE: Final = 0x04
_NUD_PERMANENT: Final = 0x80
_NUD_USABLE: Final = 0x02 | 0x04 | 0x08 | 0x10 | _NUD_PERMANENT
"""REACHABLE, STALE, DELAY, PROBE, PERMANENT: the hardware address is known."""
_MAC_BYTES: Final = 6
_FAMILIES: Final = {int(each): each for each in (socket.AF_INET, socket.AF_INET6)}
_ENTRY: Final = struct.Struct("=BxxxiHBB")
"""Family, device index, state, flags, type (struct ndmsg)."""
_ANY: Final = _ENTRY.pack(0, 0, 0, 0, 0)


class NeighbourTable:
    """Of the network namespace in which a call is made."""

    def pin(self, device: str, host: str, mac: str | None) -> bool:
        """Make the entry of a host permanent.

        Args: `mac`: its hardware address; None: the one that the kernel knows.

        Returns: False: the kernel knows none, or the device has no such thing.
        Errors: NetlinkError.
        """
        index, family, address = _locate(device, host)
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            hardware = bytes.fromhex(mac.replace(":", "")) if mac else _find(kernel, index, family, address)
            if hardware is None:
                return False
            _put(kernel, index, family, address, hardware, _NUD_PERMANENT)
            return True

    def pin_known(self, device: str) -> list[str]:
        """Make all entries of a device permanent that are not yet, and whose hardware address is known.

        Returns: their hosts. Errors: NetlinkError.
        """
        index = _index(device)
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            found = [_known(answer, index) for answer in kernel.dump(_RTM_GETNEIGH, _ANY, "listing neighbour entries")]
            known = [each for each in found if each is not None]
            for family, address, hardware in known:
                _put(kernel, index, family, address, hardware, _NUD_PERMANENT)
        return [socket.inet_ntop(family, address) for family, address, _ in known]

    def release(self, device: str, host: str) -> None:
        """Let the kernel find the hardware address out anew when it next sends there. Errors: NetlinkError."""
        index, family, address = _locate(device, host)
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            hardware = _find(kernel, index, family, address)
            if hardware is not None:
                _put(kernel, index, family, address, hardware, _NUD_STALE)


def _locate(device: str, host: str) -> tuple[int, socket.AddressFamily, bytes]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return _index(device), family, socket.inet_pton(family, host.partition("%")[0])


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError as error:
        raise NetlinkError(errno.ENODEV, f"looking for {device}") from error


def _known(answer: Message, index: int) -> tuple[socket.AddressFamily, bytes, bytes] | None:
    """Family, address and hardware address of an entry that the kernel has found out by itself."""
    if answer.type != _RTM_NEWNEIGH or len(answer.body) < _ENTRY.size:
        return None
    family, _, state, _, _ = _ENTRY.unpack_from(answer.body)
    address = attributes(answer.body[_ENTRY.size :]).get(_NDA_DST, b"")
    hardware = _match(answer, index, address)
    if family not in _FAMILIES or state & _NUD_PERMANENT or hardware is None:
        return None
    return _FAMILIES[family], address, hardware


def _find(kernel: NetlinkSocket, index: int, family: socket.AddressFamily, address: bytes) -> bytes | None:
    body = _ENTRY.pack(family, index, 0, 0, 0)
    for answer in kernel.dump(_RTM_GETNEIGH, body, "listing neighbour entries"):
        hardware = _match(answer, index, address)
        if hardware is not None:
            return hardware
    return None


def _match(answer: Message, index: int, address: bytes) -> bytes | None:
    if answer.type != _RTM_NEWNEIGH or len(answer.body) < _ENTRY.size:
        return None
    _, its_index, state, _, _ = _ENTRY.unpack_from(answer.body)
    found = attributes(answer.body[_ENTRY.size :])
    hardware = found.get(_NDA_LLADDR, b"")
    is_it = its_index == index and state & _NUD_USABLE and found.get(_NDA_DST) == address
    return hardware if is_it and len(hardware) == _MAC_BYTES and any(hardware) else None


def _put(
    kernel: NetlinkSocket, index: int, family: socket.AddressFamily, address: bytes, hardware: bytes, state: int
) -> None:
    body = _ENTRY.pack(family, index, state, 0, 0) + attribute(_NDA_DST, address) + attribute(_NDA_LLADDR, hardware)
    host = socket.inet_ntop(family, address)
    kernel.request(_RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"making a permanent neighbour entry of {host}")
