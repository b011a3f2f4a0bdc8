# SPDX-License-Identifier: Apache-2.0
"""Tells at once what changes below us: devices, qdiscs and filters, and the nftables ruleset.

Two plain netlink sockets under trio, one in the rtnetlink groups for links and traffic control, one in nfnetlink's
group for nftables. Changes that carry one of our own port numbers are not told. What to do about a change is for
others.
"""

import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from meshd.linux import netlink
from meshd.linux.netlink import Message, as_text, attributes, message_list
from meshd.linux.nfnetlink import SUBSYSTEM_NFTABLES, TABLE
from meshd.linux.nft_message import NFPROTO_NETDEV
from meshd.linux.traffic_control import RTM_DELLINK, RTM_NEWLINK, device_of

RECEIVE_BUFFER_BYTES: Final = 1 << 20
DATAGRAMS_PER_TURN_MAX: Final = 256
"""After so many the listener is told before more is read."""

_RTMGRP_LINK: Final = 0x1
_RTMGRP_TC: Final = 0x8
_NFNLGRP_NFTABLES: Final = 7
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_IFF_LOWER_UP: Final = 0x10000
_TC_EVENTS: Final = range(36, 47)
_NEWGEN: Final = 15
_GEN_PROC_PID, _GEN_PROC_NAME = 2, 3


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A device came, changed or went."""

    device: str
    index: int
    exists: bool
    is_up: bool
    """Administratively up and with a carrier."""


@dataclass(frozen=True, slots=True)
class TrafficControlChanged:
    """Somebody else touched qdiscs or filters of the device with this index."""

    index: int


@dataclass(frozen=True, slots=True)
class RulesetChanged:
    """Somebody else touched our nftables table."""

    by: str
    """Program and process ID, as the kernel names them; empty: the kernel itself."""


@dataclass(frozen=True, slots=True)
class EventsLost:
    """The kernel had more to say than we could read: anything may have changed."""


KernelChange = LinkChanged | TrafficControlChanged | RulesetChanged | EventsLost


class LinkMonitor:
    """Watches the network namespace in which it is made; what happens from then on is told, `run` or not yet.

    Resource handling: closes with `close()`; `run` ends by cancellation.
    Errors: OSError from the constructor.
    """

    def __init__(self, own_ports: Collection[int] = ()) -> None:
        self._own_ports = frozenset(own_ports)
        self._route = _listening(netlink.NETLINK_ROUTE, _RTMGRP_LINK | _RTMGRP_TC)
        try:
            self._netfilter = _listening(netlink.NETLINK_NETFILTER, 0)
            self._netfilter.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        except OSError:
            self._route.close()
            raise

    def close(self) -> None:
        """Stop watching."""
        self._route.close()
        self._netfilter.close()

    async def run(self, on_changes: Callable[[list[KernelChange]], None]) -> None:
        """Call `on_changes` with everything that has come in, as soon as it comes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, self._route, on_changes)
            nursery.start_soon(self._listen, self._netfilter, on_changes)

    async def _listen(self, source: socket.socket, on_changes: Callable[[list[KernelChange]], None]) -> None:
        while True:
            await trio.lowlevel.wait_readable(source)
            changes = changes_of(_datagrams(source), self._own_ports)
            if changes:
                on_changes(changes)


@dataclass(frozen=True, slots=True)
class _Author:
    """Who made the transaction that just ended; alone it says nothing about our table."""

    by: str


def _listening(protocol: int, groups: int) -> socket.socket:
    kinds = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    fresh = socket.socket(socket.AF_NETLINK, kinds, protocol)
    try:
        fresh.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        fresh.bind((0, groups))
    except OSError:
        fresh.close()
        raise
    return fresh


def _datagrams(source: socket.socket) -> list[Message | None]:
    """What waits now; None stands for what was lost."""
    found: list[Message | None] = []
    for _ in range(DATAGRAMS_PER_TURN_MAX):
        try:
            found += message_list(source.recv(netlink.DATAGRAM_MAX_BYTES))
        except BlockingIOError:
            break
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            found.append(None)
    return found


def changes_of(messages: Iterable[Message | None], own_ports: Collection[int]) -> list[KernelChange]:
    """What these notifications say, each change once and in order. None stands for what was lost.

    The author of a transaction, whom the kernel names at its end, goes into the change of our table.
    """
    changes: dict[KernelChange, None] = {}
    is_ours = False
    for message in messages:
        match _change(message, own_ports):
            case _Author(by):
                if is_ours:
                    changes[RulesetChanged(by)] = None
                is_ours = False
            case RulesetChanged():
                is_ours = True
            case None:
                pass
            case change:
                changes[change] = None
    if is_ours:
        changes[RulesetChanged("")] = None
    return list(changes)


def _change(message: Message | None, own_ports: Collection[int]) -> KernelChange | _Author | None:
    if message is None:
        return EventsLost()
    if message.type >> 8 == SUBSYSTEM_NFTABLES:
        return None if message.port in own_ports else _ruleset_change(message)
    if message.type in (RTM_NEWLINK, RTM_DELLINK) and len(message.body) >= 16:
        return _link_change(message)
    if message.type in _TC_EVENTS and message.port not in own_ports and len(message.body) >= 8:
        return TrafficControlChanged(struct.unpack_from("=i", message.body, 4)[0])
    return None


def _link_change(message: Message) -> LinkChanged:
    device = device_of(message)
    flags = struct.unpack_from("=I", message.body, 8)[0]
    exists = message.type == RTM_NEWLINK
    return LinkChanged(device.name, device.index, exists, exists and bool(flags & _IFF_LOWER_UP))


def _ruleset_change(message: Message) -> RulesetChanged | _Author | None:
    if len(message.body) < 4:
        return None
    parts = attributes(message.body[4:])
    if message.type & 0xFF == _NEWGEN:
        pid = struct.unpack(">I", parts.get(_GEN_PROC_PID, bytes(4)))[0]
        return _Author(f"{as_text(parts.get(_GEN_PROC_NAME))} (pid {pid})")
    if message.body[0] == NFPROTO_NETDEV and as_text(parts.get(1)) == TABLE:
        return RulesetChanged("")
    return None
