# SPDX-License-Identifier: Apache-2.0
"""Sockets of streams outside: an input listens on an address or in a group, an output sends to one.

They never block. Numeric addresses only: a name look-up would be an emission of its own.
"""

import errno
import socket
import struct
from typing import Final

from meshd.base.errors import MeshdError
from meshd.daemon.streams.udp_address import IpAddress, UdpAddress

RECEIVE_BUFFER_BYTES: Final = 8 * 1024 * 1024
"""A second of 64 Mbit/s, while the node does something else; the kernel may give less."""
DATAGRAM_MAX_BYTES: Final = 65_536
TURN_DATAGRAMS: Final = 128
MULTICAST_HOPS: Final = 1
_SO_RCVBUFFORCE: Final = 33
_MCAST_JOIN_GROUP: Final = 42
_MCAST_JOIN_SOURCE_GROUP: Final = 46
_STORAGE_BYTES: Final = 128
_MREQN: Final = struct.Struct("=4s4si")
_LOST: Final = frozenset(
    (
        errno.EAGAIN,
        errno.ENOBUFS,
        errno.ECONNREFUSED,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.EPERM,
    )
)
_REMEDIES: Final = {
    errno.EADDRINUSE: "the address is in use: does another program listen there?",
    errno.EADDRNOTAVAIL: "the address is not one of this host's",
    errno.EACCES: "not permitted: a port below 1024 needs CAP_NET_BIND_SERVICE",
    errno.EPERM: "not permitted: a device needs CAP_NET_RAW",
    errno.ENODEV: "there is no such network device, or none that takes multicast: name one, such as ...@lan0",
    errno.EAFNOSUPPORT: "this host has no such address family",
    errno.ENETUNREACH: "there is no route to it: name the device, such as ...@lan0",
    errno.EHOSTUNREACH: "there is no route to it: name the device, such as ...@lan0",
    errno.ENOBUFS: "the host is in too many multicast groups: raise net.ipv4.igmp_max_memberships",
    errno.EMFILE: "too many open files: raise LimitNOFILE",
}


class UdpError(MeshdError):
    """This address can't be used."""


class UdpInput:
    """Listens."""

    def __init__(self, address: UdpAddress) -> None:
        """Errors: UdpError."""
        index = _device_index(address)
        self._family, place = _family(address.host), (str(address.host), address.port)
        self.socket = socket.socket(self._family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        try:
            _enlarge(self.socket)
            if self._family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if address.host.is_multicast:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.socket.bind(place)
                self._join(address.host, address.source, index)
            else:
                if address.device is not None:
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, address.device.encode())
                self.socket.bind(place)
        except OSError as error:
            self.socket.close()
            raise UdpError(f"can't listen on {address.text}: {_explain(error)}") from error
        self.port = int(self.socket.getsockname()[1])

    def receive(self) -> list[bytes]:
        """What is there, at most TURN_DATAGRAMS."""
        found: list[bytes] = []
        try:
            while len(found) < TURN_DATAGRAMS:
                found.append(self.socket.recv(DATAGRAM_MAX_BYTES))
        except BlockingIOError:
            pass
        return found

    def close(self) -> None:
        """Leave the group, too."""
        self.socket.close()

    def _join(self, group: IpAddress, source: IpAddress | None, index: int) -> None:
        level = socket.IPPROTO_IP if self._family == socket.AF_INET else socket.IPPROTO_IPV6
        request = struct.pack("@I4x", index) + _storage(group)
        if source is None:
            self.socket.setsockopt(level, _MCAST_JOIN_GROUP, request)
        else:
            self.socket.setsockopt(level, _MCAST_JOIN_SOURCE_GROUP, request + _storage(source))


class UdpOutput:
    """Sends; what can't leave at once is lost and counted."""

    def __init__(self, address: UdpAddress) -> None:
        """Errors: UdpError."""
        self.address = address
        self.lost_datagrams = 0
        index, family = _device_index(address), _family(address.host)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            if address.host.is_multicast and family == socket.AF_INET:
                interface = _MREQN.pack(bytes(4), bytes(4), index)
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, MULTICAST_HOPS)
            elif address.host.is_multicast:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, MULTICAST_HOPS)
            elif address.device is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, address.device.encode())
            self._socket.connect((str(address.host), address.port))
        except OSError as error:
            self._socket.close()
            raise UdpError(f"can't send to {address.text}: {_explain(error)}") from error

    def send(self, data: bytes) -> None:
        """One datagram."""
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno not in _LOST:
                raise
            self.lost_datagrams += 1

    def close(self) -> None:
        """Send no more."""
        self._socket.close()


def _family(host: IpAddress) -> socket.AddressFamily:
    return socket.AF_INET if host.version == 4 else socket.AF_INET6


def _device_index(address: UdpAddress) -> int:
    """0: whichever the host chooses. Errors: UdpError."""
    if address.device is None:
        return 0
    for index, name in socket.if_nameindex():
        if name == address.device:
            return index
    raise UdpError(f"{address.text}: there is no such network device as {address.device}")


def _storage(address: IpAddress) -> bytes:
    """A sockaddr_storage with port 0."""
    family = int(_family(address))
    head = struct.pack("@H2x", family) if address.version == 4 else struct.pack("@H2xI", family, 0)
    return (head + address.packed).ljust(_STORAGE_BYTES, b"\0")


def _enlarge(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)  # as much as net.core.rmem_max


def _explain(error: OSError) -> str:
    """Any error that is not expected is raised again."""
    if error.errno not in _REMEDIES:
        raise error
    return f"{_REMEDIES[error.errno]} ({errno.errorcode[error.errno]})"
