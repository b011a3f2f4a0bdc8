# SPDX-License-Identifier: Apache-2.0
"""Which nodes there are and which links join them, from `topologies/NAME.toml`.

A link has two or more members; with more than two it is a shared medium on which everybody hears everybody.
Its bearer name is the name of the device in each member's namespace. A profile acts per receiving member.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netns_lab.errors import LabError
from netns_lab.link_profile import LinkProfile, load_profile
from netns_lab.toml_table import TomlTable, read_toml

NODES_MAX: Final = 200
LINKS_MAX: Final = 1000
MTU_DEFAULT_BYTES: Final = 1500
MTU_MAX_BYTES: Final = 9000

_NODE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,13}[a-z0-9]|[a-z]")
_DEVICE_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,14}")

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Member:
    """One node's end of a link."""

    node: str
    addresses: tuple[Interface, ...]
    mac: str
    """Fixed by the positions of link and member in the file, so that captures of two runs compare."""
    profile: LinkProfile
    """What happens to frames on their way *to* this member."""

    def ip(self, version: int) -> str:
        """The first address of that IP version, without prefix length. LabError when there is none."""
        for address in self.addresses:
            if address.version == version:
                return str(address.ip)
        raise LabError(f"node {self.node!r} has no IPv{version} address on this link")


@dataclass(frozen=True, slots=True)
class Link:
    """A medium between its members."""

    name: str
    bearer: str
    mtu_bytes: int
    pin_neighbours: bool
    """True: permanent neighbour entries at every member, so that a silent node is still reached by unicast."""
    members: Mapping[str, Member]

    @property
    def middle(self) -> str:
        """Name of the namespace in which back end and sniffer see this link."""
        return f"mid-{self.name}"


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything a lab is made from."""

    name: str
    description: str
    nodes: tuple[str, ...]
    links: Mapping[str, Link]

    def link(self, name: str) -> Link:
        """LabError when there is no such link."""
        if name not in self.links:
            raise LabError(f"topology {self.name!r} has no link {name!r}; it has: {', '.join(self.links)}")
        return self.links[name]

    def link_of(self, bearer: str, node: str) -> Link:
        """The link behind a node's device. LabError when there is none."""
        for link in self.links.values():
            if link.bearer == bearer and node in link.members:
                return link
        raise LabError(f"topology {self.name!r}: node {node!r} has no bearer {bearer!r}")


def parse_topology(name: str, table: TomlTable, profiles: Path) -> Topology:
    """A topology from its table; LabError names file and key. Profiles are loaded from the folder `profiles`."""
    description = table.text("description", "")
    nodes = tuple(table.texts("nodes"))
    for node in nodes:
        if not _NODE_NAME.fullmatch(node) or node.startswith("mid-"):
            raise table.error("nodes", f"{node!r} is no node name: a-z, 0-9 and -, at most 15, not beginning 'mid-'")
    if not nodes or len(set(nodes)) != len(nodes) or len(nodes) > NODES_MAX:
        raise table.error("nodes", f"needs 1 to {NODES_MAX} different names")
    link_table = table.table("link")
    names = link_table.keys()
    if len(names) > LINKS_MAX:
        raise table.error("link", f"more than {LINKS_MAX} links")
    links = {
        link_name: _parse_link(index, link_name, link_table.table(link_name), nodes, profiles)
        for index, link_name in enumerate(names)
    }
    table.end()
    _refuse_double_devices(table, links)
    return Topology(name, description, nodes, links)


def _parse_link(index: int, name: str, table: TomlTable, nodes: tuple[str, ...], profiles: Path) -> Link:
    if not _NODE_NAME.fullmatch(name):
        raise table.error("", f"{name!r} is no link name: a-z, 0-9 and -, at most 15")
    bearer = table.text("bearer")
    if not _DEVICE_NAME.fullmatch(bearer):
        raise table.error("bearer", f"{bearer!r} is no device name: at most 15 of a-z, 0-9, _ . -")
    default = _profile(table, "profile", profiles)
    mtu_bytes = table.count("mtu", MTU_DEFAULT_BYTES, 1280, MTU_MAX_BYTES)
    pin = table.flag("pin_neighbours", False)
    member_table = table.table("members")
    members = member_table.keys()
    towards = _parse_towards(table, members, profiles)
    if len(members) < 2:
        raise table.error("members", "a link needs two members or more")
    if unknown := [node for node in members if node not in nodes]:
        raise member_table.error(unknown[0], f"is none of the nodes {', '.join(nodes)}")
    table.end()
    return Link(
        name,
        bearer,
        mtu_bytes,
        pin,
        {
            node: Member(node, _addresses(member_table, node), _mac(index, position), towards.get(node, default))
            for position, node in enumerate(members)
        },
    )


def _parse_towards(table: TomlTable, members: list[str], profiles: Path) -> dict[str, LinkProfile]:
    if not table.has("towards"):
        return {}
    towards = table.table("towards")
    receivers = towards.keys()
    for node in receivers:
        if node not in members:
            raise towards.error(node, f"is none of the members {', '.join(members)}")
    return {node: _profile(towards, node, profiles) for node in receivers}


def _profile(table: TomlTable, key: str, profiles: Path) -> LinkProfile:
    name = table.text(key)
    try:
        return load_profile(name, profiles)
    except LabError as error:
        raise table.error(key, str(error)) from None


def _addresses(table: TomlTable, node: str) -> tuple[Interface, ...]:
    addresses = []
    for text in table.texts(node):
        try:
            addresses.append(ipaddress.ip_interface(text))
        except ValueError:
            raise table.error(node, f"{text!r} is no address with prefix length, such as 10.11.0.1/24") from None
    return tuple(addresses)


def _mac(link_index: int, position: int) -> str:
    """Locally administered, unicast."""
    return f"02:6d:{link_index >> 8:02x}:{link_index & 0xFF:02x}:{position >> 8:02x}:{position & 0xFF:02x}"


def _refuse_double_devices(table: TomlTable, links: Mapping[str, Link]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for link in links.values():
        for node in link.members:
            other = seen.setdefault((node, link.bearer), link.name)
            if other != link.name:
                reason = f"node {node!r} has bearer {link.bearer!r} on link {other!r} already"
                raise table.error(f"link.{link.name}.bearer", reason)


def load_topology(path: Path, profiles: Path) -> Topology:
    """The topology in the file `path`."""
    return parse_topology(path.stem, read_toml(path), profiles)
