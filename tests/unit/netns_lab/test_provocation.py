# SPDX-License-Identifier: Apache-2.0
"""Provoking frames are well-formed: an independent library (scapy) finds nothing to correct in them."""

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6MLQuery, ICMPv6ND_RA, IPv6, IPv6ExtHdrFragment, RouterAlert
from scapy.layers.l2 import Ether

from netns_lab.frame_log import frame_kind
from netns_lab.provocation import Wire, internet_checksum
from netns_lab.scenario import find_topology


@pytest.fixture
def frames() -> list[bytes]:
    members = find_topology("triangle").link("los").members
    return Wire(members["dpop1"], members["dpop2"]).frames(open_port=4556)


def is_fragment(packet: Ether) -> bool:
    return IPv6ExtHdrFragment in packet or (IP in packet and bool(packet[IP].frag or packet[IP].flags.MF))


def test_rfc1071_example() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


def test_every_kind_is_there(frames: list[bytes]) -> None:
    kinds = {frame_kind(frame) for frame in frames}
    usual = {"ARP", "IPv4 ICMP", "IPv4 TCP", "IPv4 UDP", "IPv4 IGMP", "IPv6 ICMPv6"}
    assert kinds == usual | {"IPv4 253", "IPv6 253", "IPv6 44"}
    packets = [Ether(frame) for frame in frames]
    assert sum(map(is_fragment, packets)) == 4
    assert any(ICMPv6ND_RA in packet for packet in packets)


def test_checksums_and_lengths_are_right(frames: list[bytes]) -> None:
    for frame in frames:
        packet = Ether(frame)
        names = ["IP", "IPv6"] if is_fragment(packet) else ["IP", "IPv6", "TCP", "ICMP"]
        for name in names:
            layer = packet.getlayer(name)
            for field in ("chksum", "cksum", "len", "plen"):
                if layer is not None and field in layer.fields:
                    delattr(layer, field)  # scapy computes it anew
        assert bytes(packet) == frame


def test_two_fragments_are_an_echo_request(frames: list[bytes]) -> None:
    pieces = [packet for packet in map(Ether, frames) if IP in packet and is_fragment(packet) and packet[IP].id == 1]
    assert [(packet[IP].frag, bool(packet[IP].flags.MF)) for packet in pieces] == [(0, True), (2, False)]
    whole = ICMP(b"".join(bytes(packet[IP].payload) for packet in pieces))
    assert (whole.type, whole.code) == (8, 0)
    sent = whole.chksum
    del whole.chksum
    assert ICMP(bytes(whole)).chksum == sent


def test_the_query_is_one_that_hosts_answer(frames: list[bytes]) -> None:
    query = next(packet for packet in map(Ether, frames) if ICMPv6MLQuery in packet)
    assert query[IPv6].hlim == 1
    assert query[IPv6].src.startswith("fe80:")
    assert RouterAlert in query
