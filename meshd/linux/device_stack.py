# SPDX-License-Identifier: Apache-2.0
"""Which devices carry what another one sends: members of a bond or bridge, the parent of a VLAN or macvlan.

What a device above sends passes the egress of every device below it, so that gating the lowest covers all of them; but
frames may be put straight on a lower one. Read by rtnetlink (linux/if_link.h). Tunnels are not followed: they send by
routes.
"""

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from meshd.base.errors import GateError
from meshd.linux.netlink import NETLINK_ROUTE, Message, NetlinkError, NetlinkSocket, as_text, attributes
from meshd.linux.traffic_control import IFLA_IFNAME, RTM_GETLINK

STACK_DEPTH_MAX: Final = 8
"""As the kernel's own limit."""
_IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_LINK_NETNSID = 5, 10, 18, 37
_INFO_KIND: Final = 1
_IFINFO: Final = struct.Struct("=BBHiII")
_ON_A_PARENT: Final = frozenset(("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"))
_OF_MEMBERS: Final = frozenset(("bond", "bridge", "team"))


@dataclass(frozen=True, slots=True)
class _Link:
    index: int
    name: str
    kind: str
    parent: int
    master: int


def read_lower(links: Collection[Message]) -> dict[str, tuple[str, ...]]:
    """For every device of a dump that has any: all devices below it, in order of their names."""
    found = {link.index: link for link in map(_link, links)}
    below = {link.index: _directly_below(link, found) for link in found.values()}
    return {
        found[index].name: tuple(sorted(found[each].name for each in lower))
        for index in below
        if (lower := _all_below(index, below))
    }


class DeviceStack:
    """Of the network namespace in which it is made. Resource handling: a netlink socket, until `close`."""

    def __init__(self) -> None:
        self._kernel = NetlinkSocket(NETLINK_ROUTE)

    def close(self) -> None:
        """Close the socket."""
        self._kernel.close()

    def read(self) -> dict[str, tuple[str, ...]]:
        """As it is now. Errors: GateError."""
        try:
            return read_lower(self._kernel.dump(RTM_GETLINK, bytes(_IFINFO.size), "listing devices"))
        except NetlinkError as exc:
            raise GateError(f"emission gate: nobody knows what stands on what: {exc}") from exc


def _link(message: Message) -> _Link:
    index = _IFINFO.unpack_from(message.body)[3]
    parts = attributes(message.body[_IFINFO.size :])
    kind = as_text(attributes(parts.get(_IFLA_LINKINFO, b"")).get(_INFO_KIND))
    parent = 0 if _IFLA_LINK_NETNSID in parts else _number(parts, _IFLA_LINK)
    return _Link(index, as_text(parts.get(IFLA_IFNAME)), kind, parent, _number(parts, _IFLA_MASTER))


def _number(parts: Mapping[int, bytes], kind: int) -> int:
    value = parts.get(kind, b"")
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else 0


def _directly_below(link: _Link, found: Mapping[int, _Link]) -> set[int]:
    below: set[int] = set()
    if link.kind in _ON_A_PARENT and link.parent in found:
        below.add(link.parent)
    if link.kind in _OF_MEMBERS:
        below |= {each.index for each in found.values() if each.master == link.index}
    return below


def _all_below(index: int, below: Mapping[int, set[int]]) -> set[int]:
    reached: set[int] = set()
    fresh = below[index]
    for _ in range(STACK_DEPTH_MAX):
        fresh = {each for last in fresh for each in below[last] | {last}} - reached - {index}
        if not fresh:
            break
        reached |= fresh
    return reached
