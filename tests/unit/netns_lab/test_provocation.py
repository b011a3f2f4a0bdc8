# SPDX-License-Identifier: Apache-2.0
"""Provoking frames are well-formed: an independent library (scapy) finds nothing to correct in them."""

import pytest
from scapy.layers.l2 import Ether

from netns_lab.frame_log import frame_kind
from netns_lab.provocation import Wire, internet_checksum
from netns_lab.scenario import find_topology


@pytest.fixture
def frames() -> list[bytes]:
    members = find_topology("triangle").link("los").members
    return Wire(members["dpop1"], members["dpop2"]).frames(open_port=4556)


def test_rfc1071_example() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


def test_every_kind_is_there(frames: list[bytes]) -> None:
    kinds = {frame_kind(frame) for frame in frames}
    assert kinds == {"ARP", "IPv4 ICMP", "IPv4 TCP", "IPv4 UDP", "IPv4 IGMP", "IPv6 ICMPv6"}


def test_checksums_and_lengths_are_right(frames: list[bytes]) -> None:
    for frame in frames:
        packet = Ether(frame)
        for name in ("IP", "IPv6", "TCP", "ICMP"):
            layer = packet.getlayer(name)
            for field in ("chksum", "cksum", "len", "plen"):
                if layer is not None and field in layer.fields:
                    delattr(layer, field)  # scapy computes it anew
        assert bytes(packet) == frame
