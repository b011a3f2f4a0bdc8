# SPDX-License-Identifier: Apache-2.0
"""Frames that make a host on the same wire answer: what a neighbour, or somebody who looks for it, would send.

ARP request, ICMP echo, whole and in fragments, TCP SYN to an open and to a closed port, UDP to a closed port, a
protocol and a next header that nobody knows, a fragment whose rest never comes, neighbour solicitation, router
advertisement, IPv6 echo to all nodes, mDNS query, IGMP and MLD general queries. Built by hand from the RFCs named; the
lab needs no packet library for this.
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
FRAGMENT: Final = 44
UNKNOWN: Final = 253
"""For experiments (RFC 3692): no host has anything behind it."""
MORE_FRAGMENTS: Final = 0x2000
PIECE_BYTES: Final = 16
PREFIX: Final = "fd6d:ffff::"
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
        igmp = struct.pack("!BBH4s", 0x11, 5, 0, b"\0" * 4)  # RFC 2236: general query, answered within 0.5 s
        target6 = ipaddress.IPv6Address(self.target.ip(6))
        solicited = ipaddress.IPv6Address(int(ipaddress.IPv6Address("ff02::1:ff00:0")) | int(target6) & 0xFFFFFF)
        solicitation = struct.pack("!BBHI16sBB6s", 135, 0, 0, 0, target6.packed, 1, 1, _mac(self.source))  # RFC 4861
        mld = struct.pack("!BBHHH16s", 130, 0, 0, 500, 0, bytes(16))  # RFC 2710: general query
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
            self._mld(mld),
            self._router_advertisement(),
            self._ipv4(UNKNOWN, b"who knows?", None),
            self._ipv6(UNKNOWN, b"who knows?", str(target6)),
            *self._fragments(echo),
        ]

    def _fragments(self, echo: bytes) -> list[bytes]:
        """An echo request in two pieces, of which a host that puts them together makes an answer, and a first piece
        alone, which is answered when the host gives up (RFC 792, RFC 4443: 30 to 60 s)."""
        whole = _with_checksum(echo + bytes(2 * PIECE_BYTES - len(echo)), 2)
        head, tail = whole[:PIECE_BYTES], whole[PIECE_BYTES:]
        lone = struct.pack("!BBHI", ICMPV6, 0, 1, 2) + b"\x80\x00" + bytes(PIECE_BYTES - 2)
        return [
            self._ipv4(ICMP, head, None, fragment=MORE_FRAGMENTS, identification=1),
            self._ipv4(ICMP, tail, None, fragment=PIECE_BYTES // 8, identification=1),
            self._ipv4(ICMP, head, None, fragment=MORE_FRAGMENTS, identification=2),
            self._ipv6(FRAGMENT, lone, self.target.ip(6)),
        ]

    def _arp(self) -> bytes:
        source, target = (ipaddress.IPv4Address(member.ip(4)).packed for member in (self.source, self.target))
        body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, _mac(self.source), source, bytes(6), target)
        return BROADCAST + _mac(self.source) + b"\x08\x06" + body

    def _ipv4(
        self, protocol: int, payload: bytes, group: str | None, fragment: int = 0, identification: int = 0
    ) -> bytes:
        source = ipaddress.IPv4Address(self.source.ip(4)).packed
        target = ipaddress.IPv4Address(group or self.target.ip(4)).packed
        ttl = 1 if protocol == IGMP else 255
        size_bytes = 20 + len(payload)
        header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, size_bytes, identification, fragment, ttl, protocol, 0, source, target
        )
        multicast = b"\x01\x00\x5e" + bytes([target[1] & 0x7F]) + target[2:]
        mac = multicast if group else _mac(self.target)
        return mac + _mac(self.source) + b"\x08\x00" + _with_checksum(header, 10) + payload

    def _icmpv6(self, message: bytes, group: str) -> bytes:
        source = ipaddress.IPv6Address(self.source.ip(6)).packed
        return self._ipv6(ICMPV6, _icmpv6_message(message, source, group), group)

    def _mld(self, query: bytes) -> bytes:
        """Taken only from a link-local address, with hop limit 1 and router alert (RFC 3810, section 6.2)."""
        source = _link_local(self.source)
        alert = struct.pack("!BBBBHBB", ICMPV6, 0, 5, 2, 0, 1, 0)  # RFC 2711, padded
        return self._ipv6(0, alert + _icmpv6_message(query, source, "ff02::1"), "ff02::1", source, hop_limit=1)

    def _router_advertisement(self) -> bytes:
        """With a prefix, of which a host makes an address, which it announces (RFC 4861, 4862)."""
        source = _link_local(self.source)
        prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0, ipaddress.IPv6Address(PREFIX).packed)
        message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
        return self._ipv6(ICMPV6, _icmpv6_message(message, source, "ff02::1"), "ff02::1", source)

    def _ipv6(self, next_header: int, body: bytes, to: str, source: bytes | None = None, hop_limit: int = 255) -> bytes:
        """To a group by its own MAC address, to the target by the target's."""
        target = ipaddress.IPv6Address(to)
        source = source or ipaddress.IPv6Address(self.source.ip(6)).packed
        mac = b"\x33\x33" + target.packed[12:] if target.is_multicast else _mac(self.target)
        header = struct.pack("!IHBB", 6 << 28, len(body), next_header, hop_limit) + source + target.packed
        return mac + _mac(self.source) + b"\x86\xdd" + header + body

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


def _icmpv6_message(message: bytes, source: bytes, to: str) -> bytes:
    """The message with its checksum (RFC 4443, section 2.3)."""
    pseudo = source + ipaddress.IPv6Address(to).packed + struct.pack("!II", len(message), ICMPV6)
    return message[:2] + struct.pack("!H", internet_checksum(pseudo + message)) + message[4:]


def _mac(member: Member) -> bytes:
    return bytes.fromhex(member.mac.replace(":", ""))


def _link_local(member: Member) -> bytes:
    """RFC 4291, appendix A."""
    mac = _mac(member)
    return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


class Provoker:
    """Sends every kind of frame, from a neighbour's namespace, to one node."""

    def __init__(self, lab: Lab, bearer: str, source: str, target: str, open_port: int) -> None:
        link = lab.topology.link_of(bearer, source)
        wire = Wire(link.members[source], link.members[target])
        self._frames: Final = wire.frames(open_port)
        self._next = 0
        with lab.node(source).inside():
            self._socket: Final[socket.socket] = open_packet_socket(bearer, ignore_outgoing=True)

    def provoke(self) -> int:
        """One round; returns the number of frames sent."""
        for frame in self._frames:
            self._socket.send(frame)
        return len(self._frames)

    def provoke_once(self) -> None:
        """The next frame of a round."""
        self._socket.send(self._frames[self._next % len(self._frames)])
        self._next += 1

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
