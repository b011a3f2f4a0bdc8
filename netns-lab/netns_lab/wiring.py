# SPDX-License-Identifier: Apache-2.0
"""Makes a topology's namespaces and veth pairs, and takes them away.

Every node has a namespace of its name. Every link has a middle namespace that holds the far end of each member's
device, named after the member. Middle ends have no addresses and no IPv6: they emit nothing of their own.
"""

from pathlib import Path
from typing import Final

from netns_lab.backend import run_program
from netns_lab.kernel import NETNS_FOLDER, inside, switch_offloads_off
from netns_lab.topology import Link, Topology

_IPV6: Final = Path("/proc/sys/net/ipv6/conf")


def wire(topology: Topology) -> None:
    """Make everything; devices are up afterwards. LabError with ip's own words when the kernel refuses."""
    middles = [link.middle for link in topology.links.values()]
    _ip(None, [f"netns add {name}" for name in (*topology.nodes, *middles)])
    for node in topology.nodes:
        _set_ipv6(node, "accept_dad", 0)  # addresses serve at once, and no frame of a node's start depends on a timer
        _ip(node, ["link set lo up"])
    for link in topology.links.values():
        _set_ipv6(link.middle, "disable_ipv6", 1)
        _wire_link(link)


def unwire(topology: Topology) -> None:
    """Remove the namespaces and with them their devices; those that were never made are passed over."""
    names = (*topology.nodes, *(link.middle for link in topology.links.values()))
    _ip(None, [f"netns del {name}" for name in names if (NETNS_FOLDER / name).exists()])


def _wire_link(link: Link) -> None:
    middle = []
    for member in link.members.values():
        peer = f"peer name {link.bearer} address {member.mac} mtu {link.mtu_bytes} netns {member.node}"
        middle.append(f"link add name {member.node} mtu {link.mtu_bytes} type veth {peer}")
    _ip(link.middle, middle)
    with inside(link.middle):
        for node in link.members:
            switch_offloads_off(node)
    for member in link.members.values():
        with inside(member.node):
            switch_offloads_off(link.bearer)
        _ip(member.node, _member_commands(link, member.node))
    _ip(link.middle, [f"link set dev {node} up" for node in link.members])


def _member_commands(link: Link, node: str) -> list[str]:
    commands = [
        f"addr add {address} dev {link.bearer}" + (" nodad" if address.version == 6 else "")
        for address in link.members[node].addresses
    ]
    commands.append(f"link set dev {link.bearer} up")
    if link.pin_neighbours:
        others = (member for member in link.members.values() if member.node != node)
        for other in others:
            for address in other.addresses:
                entry = f"{address.ip} lladdr {other.mac} dev {link.bearer} nud permanent"
                commands.append(f"neigh replace {entry}")
    return commands


def _ip(namespace: str | None, commands: list[str]) -> None:
    where = ["-n", namespace] if namespace else []
    run_program(["ip", *where, "-batch", "-"], "\n".join(commands) + "\n")


def _set_ipv6(namespace: str, key: str, value: int) -> None:
    with inside(namespace):
        for scope in ("all", "default"):
            path = _IPV6 / scope / key
            if path.exists():  # a kernel without IPv6 has none
                path.write_text(str(value))
