# SPDX-License-Identifier: Apache-2.0
"""Who stands on whom, from what the kernel lists; kinds that the kernel of a test machine may lack are here."""

import struct

from meshd.linux.device_stack import read_lower
from meshd.linux.netlink import Message, attribute, nested, text


def link(index: int, name: str, kind: str = "", parent: int = 0, master: int = 0, *more: bytes) -> Message:
    parts = [text(3, name), *more]
    if kind:
        parts.append(nested(18, text(1, kind)))
    if parent:
        parts.append(attribute(5, struct.pack("=I", parent)))
    if master:
        parts.append(attribute(10, struct.pack("=I", master)))
    return Message(16, 0, 0, 0, struct.pack("=BBHiII", 0, 0, 1, index, 0, 0) + b"".join(parts))


def test_a_vlan_on_a_bond_of_two() -> None:
    links = [
        link(1, "lo"),
        link(2, "eth0", master=4),
        link(3, "eth1", master=4),
        link(4, "bond0", "bond"),
        link(5, "bond0.7", "vlan", parent=4),
    ]
    assert read_lower(links) == {"bond0": ("eth0", "eth1"), "bond0.7": ("bond0", "eth0", "eth1")}


def test_a_bridge_with_a_macvlan_above_and_a_vlan_below() -> None:
    links = [link(2, "eth0"), link(3, "eth0.3", "vlan", 2, 4), link(4, "br0", "bridge"), link(5, "m0", "macvlan", 4)]
    assert read_lower(links) == {
        "br0": ("eth0", "eth0.3"),
        "eth0.3": ("eth0",),
        "m0": ("br0", "eth0", "eth0.3"),
    }


def test_the_other_end_of_a_wire_is_not_below() -> None:
    assert read_lower([link(2, "a0", "veth", parent=3), link(3, "a1", "veth", parent=2)]) == {}


def test_a_parent_in_another_namespace_is_not_ours() -> None:
    elsewhere = attribute(37, struct.pack("=I", 1))
    assert read_lower([link(2, "eth0"), link(3, "m0", "macvlan", 2, 0, elsewhere)]) == {}


def test_a_circle_ends() -> None:
    assert read_lower([link(2, "a", "macvlan", 3), link(3, "b", "macvlan", 2)]) == {"a": ("b",), "b": ("a",)}
