# SPDX-License-Identifier: Apache-2.0
"""Tells when a network device comes, goes, or changes its state, MTU or addresses, by rtnetlink (rtnetlink(7)).

A notification says only that something has changed: the state is read anew then, so lost or merged notifications do no
harm, and a burst of them costs one look in SETTLE_S. An IPv6 address counts once it is no longer tentative.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import trio

from meshd.linux.netlink import DATAGRAM_MAX_BYTES, NETLINK_ROUTE, Message, NetlinkSocket, attributes
from meshd.linux.traffic_control import RTM_NEWLINK, device_of

SETTLE_S: Final = 0.05
"""From one look to the next."""
READS_MAX: Final = 256
"""Notifications thrown away at a time."""

_RTMGRP_LINK: Final = 0x1
_RTMGRP_IPV4_IFADDR: Final = 0x10
_RTMGRP_IPV6_IFADDR: Final = 0x100
_RTM_GETLINK: Final = 18
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_IFLA_MTU: Final = 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_TENTATIVE: Final = 0x40
_IFF_UP: Final = 0x1
_IFF_LOWER_UP: Final = 0x10000
_IFINFO: Final = struct.Struct("=BBHiII")
_IFADDR: Final = struct.Struct("=BBBBI")
_U32: Final = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What is of importance of a device that is there."""

    index: int
    """Another one when the device was removed and made again."""
    is_up: bool
    """Administratively up and with a carrier."""
    mtu_bytes: int
    addresses: tuple[str, ...]


class DeviceMonitor:
    """Watches some devices of the network namespace in which it is made.

    Resource handling: closes with `close()`; `run` ends by cancellation.
    Errors: OSError from the constructor.
    """

    def __init__(self, devices: Collection[str]) -> None:
        self._devices = frozenset(devices)
        kinds = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._source = socket.socket(socket.AF_NETLINK, kinds, NETLINK_ROUTE)
        try:
            self._source.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
            self._kernel = NetlinkSocket(NETLINK_ROUTE)
        except OSError:
            self._source.close()
            raise

    def close(self) -> None:
        """Stop watching."""
        self._source.close()
        self._kernel.close()

    def read(self) -> dict[str, DeviceState]:
        """How the devices are that exist now. Errors: NetlinkError."""
        links = self._kernel.dump(_RTM_GETLINK, bytes(_IFINFO.size), "listing devices")
        found = self._kernel.dump(_RTM_GETADDR, bytes(_IFADDR.size), "listing addresses")
        return read_states(links, found, self._devices)

    async def run(self, on_change: Callable[[Mapping[str, DeviceState]], None]) -> None:
        """Call `on_change` with the state of all, now and whenever something has changed. Errors: NetlinkError."""
        before: dict[str, DeviceState] | None = None
        while True:
            self._drain()
            now = self.read()
            if now != before:
                before = now
                on_change(now)
            await trio.sleep(SETTLE_S)
            await trio.lowlevel.wait_readable(self._source)

    def _drain(self) -> None:
        for _ in range(READS_MAX):
            try:
                self._source.recv(DATAGRAM_MAX_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def read_states(
    links: Collection[Message], found: Collection[Message], devices: Collection[str]
) -> dict[str, DeviceState]:
    """What these answers say of these devices."""
    addresses = _read_addresses(found)
    states: dict[str, DeviceState] = {}
    for answer in links:
        if answer.type != RTM_NEWLINK or len(answer.body) < _IFINFO.size:
            continue
        device = device_of(answer)
        if device.name in devices:
            flags = _IFINFO.unpack_from(answer.body)[4]
            mtu = attributes(answer.body[_IFINFO.size :]).get(_IFLA_MTU, bytes(4))
            is_up = flags & _IFF_UP != 0 and flags & _IFF_LOWER_UP != 0
            own = tuple(sorted(addresses.get(device.index, ())))
            states[device.name] = DeviceState(device.index, is_up, _U32.unpack(mtu)[0], own)
    return states


def _read_addresses(found: Collection[Message]) -> dict[int, list[str]]:
    addresses: dict[int, list[str]] = {}
    for answer in found:
        if answer.type != _RTM_NEWADDR or len(answer.body) < _IFADDR.size:
            continue
        _, _, flags, _, index = _IFADDR.unpack_from(answer.body)
        parts = attributes(answer.body[_IFADDR.size :])
        flags = _U32.unpack(parts[_IFA_FLAGS])[0] if _IFA_FLAGS in parts else flags
        packed = parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS, b"")
        if len(packed) in (4, 16) and not flags & _IFA_F_TENTATIVE:
            addresses.setdefault(index, []).append(str(ipaddress.ip_address(packed)))
    return addresses
