# SPDX-License-Identifier: Apache-2.0
"""UDP sockets that belong to one bearer: for one place of ours, or for a multicast group (RFC 1112, RFC 3493).

Multicast never leaves the link (TTL and hop limit 1), and the group stays joined as long as the socket is open: a
silent host could not answer the query of a switch, and leaving would be an emission. Packets are never larger than the
device's MTU, whatever a path says: what does not fit is an error, not a fragment.

Datagrams of one size for one place leave with one call where the kernel cuts them apart (UDP_SEGMENT, udp(7)): two of
them cost four fifths of what they cost one by one, sixteen a quarter. sendmmsg(2) saves no more than an eighth of
sixteen and loses on two. All that has come is read with one call as well (`receive_batch.py`).

What the emission gate drops is not seen here: the kernel keeps a drop below UDP from the sender unless IP_RECVERR is
set (udp(7)), and with that every forged ICMP error would cost a datagram, since a pending error is what the next send
gets instead of sending. The event is the posture: whoever closes the gate freezes the machine before, and a gate that
somebody else closes, or whose lease ran out, is told by the one who watches it, with the kernel's count of drops.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from meshd.bearer.receive_batch import ReceiveBatch, find_recvmmsg
from meshd.bearer.sockets import (
    Address,
    BearerError,
    explain,
    format_address,
    open_on_device,
    parse_address,
    set_mark,
)
from meshd.link.settings import BearerSettings

RECEIVE_BUFFER_BYTES: Final = 16 * 1024 * 1024
"""What comes in while something else has the processor: a second at 100 Mbit/s, an eighth of one in a flood. The kernel
doubles it, and counts what a datagram takes in its memory."""
RECEIVE_MIN_BYTES: Final = 9216
"""A neighbour's datagrams may be larger than ours; what is cut short is refused as damaged."""
TURN_DATAGRAMS: Final = 256
"""Read at a time before other tasks get their turn."""
SEGMENTS_MAX: Final = 64
SEGMENTS_MAX_BYTES: Final = 65_000
"""The kernel takes so many datagrams with one call, and so many bytes."""

_SO_RCVBUFFORCE: Final = 33
_UDP_SEGMENT: Final = 103
_SEGMENT_BYTES: Final = struct.Struct("=H")
_MTU_DISCOVER: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_PMTUDISC_INTERFACE: Final = 4
_MREQN: Final = struct.Struct("=4s4si")
_MREQ6: Final = struct.Struct("=16sI")

_LOST: Final = frozenset(
    (errno.ENOBUFS, errno.EPERM, errno.EAGAIN, errno.ENOMEM, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMSGSIZE)
)
"""The datagram is gone, as if the link had lost it; the socket is good."""
_BROKEN: Final = frozenset((errno.ENODEV, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.ENXIO, errno.EINVAL))
"""The socket is of no use any more."""
_CAN_NOT_SEGMENT: Final = frozenset((errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP))
"""The kernel or the device does not cut datagrams apart, or is asked for too large ones."""


class DatagramSocket:
    """One socket.

    Resource handling: closes with `close()` or `with`.
    """

    def __init__(self, settings: BearerSettings) -> None:
        """Errors: BearerError."""
        radio = settings.radio
        where = radio.group or radio.listen
        assert where is not None, "the settings were checked"
        self._family, place = parse_address(where)
        self._place: Address | None = None if radio.group is None else place
        self._name = settings.name
        self._receive_bytes = max(radio.mtu_bytes, RECEIVE_MIN_BYTES)
        recvmmsg = find_recvmmsg()
        self._batch: ReceiveBatch | None = None
        """None: the C library reads one datagram with each call."""
        if recvmmsg:
            has_sources = radio.discovery and radio.group is None
            self._batch = ReceiveBatch(recvmmsg, TURN_DATAGRAMS, self._receive_bytes, has_sources=has_sources)
        self._is_segmenting = True
        self.is_counted = False
        """The gate counts bytes: each datagram leaves by itself, since what the kernel cuts apart it counts before."""
        self.socket = open_on_device(self._family, socket.SOCK_DGRAM, settings)
        try:
            self._index = socket.if_nametoindex(settings.device)
            self._set_up(place, is_group=radio.group is not None)
        except OSError as error:
            self.socket.close()
            raise BearerError(f"bearer {settings.name} can't listen on {where}: {explain(error)}") from error

    def _set_up(self, place: Address, *, is_group: bool) -> None:
        sock = self.socket
        level, option = _MTU_DISCOVER[self._family]
        sock.setsockopt(level, option, _PMTUDISC_INTERFACE)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)  # as much as net.core.rmem_max
        if self._family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_group:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place = self._join(place)
            self._place = place
        sock.bind(place)

    def _join(self, group: Address) -> Address:
        sock, index = self.socket, self._index
        host = socket.inet_pton(self._family, group[0].partition("%")[0])
        if self._family == socket.AF_INET:
            interface = _MREQN.pack(host, bytes(4), index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, interface)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            return group
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _MREQ6.pack(host, index))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        return group[0], group[1], 0, index

    def set_mark(self, mark: int, *, is_counted: bool) -> None:
        """What is sent from now on carries this mark.

        Errors: BearerError: this needs CAP_NET_ADMIN.
        """
        self.is_counted = is_counted
        try:
            set_mark(self.socket, mark)
        except OSError as error:
            raise BearerError(f"bearer {self._name} can't mark what it sends: {explain(error)}") from error

    @property
    def bound_address(self) -> str:
        """Where it listens, with the port that the kernel chose."""
        return format_address(self.socket.getsockname())

    def is_current(self, device: str) -> bool:
        """False when the device was removed and made again: the socket is bound to what is gone."""
        try:
            return socket.if_nametoindex(device) == self._index
        except OSError:
            return False

    def send(self, datagrams: Sequence[bytes], to: Address | None) -> tuple[int, str]:
        """Send these in order, to the group if there is one; how many were lost, and why the last of them.

        Errors: BearerError: the socket is of no use any more.
        """
        place = self._place or to
        assert place is not None, "the settings were checked"
        lost, reason = 0, ""
        is_joining = self._is_segmenting and not self.is_counted
        for run in split_runs(datagrams) if is_joining else ([each] for each in datagrams):
            try:
                self._send_run(run, place)
            except OSError as error:
                if len(run) > 1 and error.errno in _CAN_NOT_SEGMENT:
                    self._is_segmenting = False
                    more, why = self.send(run, to)
                    lost, reason = lost + more, why or reason
                elif error.errno in _LOST:
                    lost += len(run)
                    reason = f"a datagram to {format_address(place)} was lost here: {explain(error)}"
                else:
                    raise self._broken(error) from error
        return lost, reason

    def _send_run(self, run: Sequence[bytes], place: Address) -> None:
        if len(run) == 1:
            self.socket.sendto(run[0], place)
            return
        size = _SEGMENT_BYTES.pack(len(run[0]))
        self.socket.sendmsg(run, [(socket.IPPROTO_UDP, _UDP_SEGMENT, size)], 0, place)

    def receive(self) -> list[bytes]:
        """What is there, at most TURN_DATAGRAMS. Errors: BearerError: the socket is of no use any more."""
        datagrams: list[bytes] = []
        try:
            if self._batch is not None:
                return self._batch.receive(self.socket)
            while len(datagrams) < TURN_DATAGRAMS:
                datagrams.append(self.socket.recv(self._receive_bytes))
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._broken(error) from error
        return datagrams

    def receive_from(self) -> tuple[list[bytes], Sequence[Address]]:
        """As `receive`, with the address that each one came from; where neighbours are found by them."""
        datagrams: list[bytes] = []
        sources: list[Address] = []
        try:
            if self._batch is not None:
                return self._batch.receive_from(self.socket)
            while len(datagrams) < TURN_DATAGRAMS:
                data, source = self.socket.recvfrom(self._receive_bytes)
                datagrams.append(data)
                sources.append(source)
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._broken(error) from error
        return datagrams, sources

    def _broken(self, error: OSError) -> BearerError:
        if error.errno not in _BROKEN:
            raise error
        return BearerError(f"bearer {self._name} has lost its socket: {explain(error)}")

    def close(self) -> None:
        """Close it."""
        self.socket.close()


def split_runs(datagrams: Sequence[bytes]) -> Iterator[list[bytes]]:
    """In order, what can leave with one call: of one size, but for the last, which may be smaller."""
    run: list[bytes] = []
    room_bytes = 0
    for each in datagrams:
        if run and (len(each) > len(run[0]) or len(run[-1]) < len(run[0]) or len(each) > room_bytes):
            yield run
            run = []
        if not run:
            room_bytes = min(SEGMENTS_MAX * len(each), SEGMENTS_MAX_BYTES)
        run.append(each)
        room_bytes -= len(each)
    if run:
        yield run
