# SPDX-License-Identifier: Apache-2.0
"""Frames that make a host on the same wire answer: what a neighbour, or somebody who looks for it, would send.

ARP request, ICMP echo, TCP SYN to an open and to a closed port, UDP to a closed port, neighbour solicitation, IPv6
echo to all nodes, mDNS query, IGMP and MLD general queries. Built by hand from the RFCs named; the lab needs no
packet library for this.
"""

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Final

from netns_lab.kernel import open_packet_socket
from netns_lab.lab import Lab
from netns_lab.topology import Member

SOURCE_PORT: Final = 40000
CLOSED_PORT: Final = 9
ICMP, IGMP, TCP, UDP, ICMPV6 = 1, 2, 6, 17, 58
BROADCAST: Final = b"\xff" * 6


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int(word) for word in struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True, slots=True)
class Wire:
    """Who provokes whom on which wire."""

    source: Member
    target: Member

    def frames(self, open_port: int) -> list[bytes]:
        """One frame of each kind."""
        echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
        mdns = struct.pack("!6H", 0, 0, 1, 0, 0, 0) + b"\x09_services\x07_dns-sd\x04_udp\x05local\x00\x00\x0c\x00\x01"
        igmp = struct.pack("!BBH4s", 0x11, 100, 0, b"\0" * 4)  # RFC 2236: general query
        target6 = ipaddress.IPv6Address(self.target.ip(6))
        solicited = ipaddress.IPv6Address(int(ipaddress.IPv6Address("ff02::1:ff00:0")) | int(target6) & 0xFFFFFF)
        solicitation = struct.pack("!BBHI16sBB6s", 135, 0, 0, 0, target6.packed, 1, 1, _mac(self.source))  # RFC 4861
        mld = struct.pack("!BBHHH16s", 130, 0, 0, 1000, 0, bytes(16))  # RFC 2710: general query
        return [
            self._arp(),
            self._ipv4(ICMP, _with_checksum(echo, 2), None),
            self._ipv4(TCP, self._syn(open_port), None),
            self._ipv4(TCP, self._syn(CLOSED_PORT), None),
            self._ipv4(UDP, self._udp(CLOSED_PORT, b"?"), None),
            self._ipv4(UDP, self._udp(5353, mdns), "224.0.0.251"),
            self._ipv4(IGMP, _with_checksum(igmp, 2), "224.0.0.1"),
            self._icmpv6(solicitation, str(solicited)),
            self._icmpv6(struct.pack("!BBHHH", 128, 0, 0, 1, 1), "ff02::1"),
            self._icmpv6(mld, "ff02::1"),
        ]

    def _arp(self) -> bytes:
        source, target = (ipaddress.IPv4Address(member.ip(4)).packed for member in (self.source, self.target))
        body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, _mac(self.source), source, bytes(6), target)
        return BROADCAST + _mac(self.source) + b"\x08\x06" + body

    def _ipv4(self, protocol: int, payload: bytes, group: str | None) -> bytes:
        source = ipaddress.IPv4Address(self.source.ip(4)).packed
        target = ipaddress.IPv4Address(group or self.target.ip(4)).packed
        ttl = 1 if protocol == IGMP else 255
        size_bytes = 20 + len(payload)
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size_bytes, 0, 0, ttl, protocol, 0, source, target)
        multicast = b"\x01\x00\x5e" + bytes([target[1] & 0x7F]) + target[2:]
        mac = multicast if group else _mac(self.target)
        return mac + _mac(self.source) + b"\x08\x00" + _with_checksum(header, 10) + payload

    def _icmpv6(self, message: bytes, group: str) -> bytes:
        source = ipaddress.IPv6Address(self.source.ip(6)).packed
        target = ipaddress.IPv6Address(group).packed
        pseudo = source + target + struct.pack("!II", len(message), ICMPV6)
        checksum = internet_checksum(pseudo + message)
        body = message[:2] + struct.pack("!H", checksum) + message[4:]
        header = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 255) + source + target
        return b"\x33\x33" + target[12:] + _mac(self.source) + b"\x86\xdd" + header + body

    def _syn(self, port: int) -> bytes:
        header = struct.pack("!HHIIBBHHH", SOURCE_PORT, port, 1, 0, 5 << 4, 0x02, 65535, 0, 0)
        return header[:16] + struct.pack("!H", self._checksum4(TCP, header)) + header[18:]

    def _udp(self, port: int, payload: bytes) -> bytes:
        return struct.pack("!HHHH", SOURCE_PORT, port, 8 + len(payload), 0) + payload  # no checksum: RFC 768 allows it

    def _checksum4(self, protocol: int, segment: bytes) -> int:
        source, target = (ipaddress.IPv4Address(member.ip(4)).packed for member in (self.source, self.target))
        return internet_checksum(source + target + struct.pack("!HH", protocol, len(segment)) + segment)


def _with_checksum(data: bytes, offset: int) -> bytes:
    return data[:offset] + struct.pack("!H", internet_checksum(data)) + data[offset + 2 :]


def _mac(member: Member) -> bytes:
    return bytes.fromhex(member.mac.replace(":", ""))


class Provoker:
    """Sends every kind of frame, from a neighbour's namespace, to one node."""

    def __init__(self, lab: Lab, bearer: str, source: str, target: str, open_port: int) -> None:
        link = lab.topology.link_of(bearer, source)
        wire = Wire(link.members[source], link.members[target])
        self._frames: Final = wire.frames(open_port)
        with lab.node(source).inside():
            self._socket: Final[socket.socket] = open_packet_socket(bearer, ignore_outgoing=True)

    def provoke(self) -> int:
        """One round; returns the number of frames sent."""
        for frame in self._frames:
            self._socket.send(frame)
        return len(self._frames)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
