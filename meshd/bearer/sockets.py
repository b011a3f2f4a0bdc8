# SPDX-License-Identifier: Apache-2.0
"""Sockets that belong to one bearer: bound to its device and marked, so that no frame wanders to another one.

Only numeric addresses: a name look-up would be an emission of its own. Every expected errno becomes a `BearerError`
that says what to do; any other is a fault of ours and propagates.
"""

import errno
import fcntl
import socket
import struct
from typing import Final

import trio

from meshd.base.errors import MeshdError
from meshd.bearer.congestion import set_congestion
from meshd.link.settings import BearerSettings

DIAL_TIMEOUT_S: Final = 20.0
DIAL_LINE_TIMEOUT_S: Final = 3.0
"""Over a terrestrial line, where an answer takes no such time: a new attempt asks again sooner than the kernel does."""
LISTEN_BACKLOG: Final = 32
SLOW_RATE_BPS: Final = 100_000_000
"""Below this rate the kernel holds only about a second of unsent data: urgent bundles need not queue there."""
_NOTSENT_MIN_BYTES: Final = 16 * 1024

_SIOCGIFADDR: Final = 0x8915
_SIOCGIFMTU: Final = 0x8921
_MARK: Final = struct.Struct("=I")
_IFREQ: Final = struct.Struct("=16si20x")

Address = tuple[str, int] | tuple[str, int, int, int]

_REMEDIES: Final = {
    errno.ENODEV: "there is no such network device: check `device`, or bring it up; it is tried again",
    errno.EPERM: "not permitted: meshd needs CAP_NET_ADMIN (run it by its systemd unit, or as root)",
    errno.EACCES: "not permitted: for a port below 1024 meshd needs CAP_NET_BIND_SERVICE",
    errno.EADDRINUSE: "the address is in use: is another meshd running, or does another bearer listen there?",
    errno.EADDRNOTAVAIL: "the address is not one of this host's: check `listen`, or give the device its address",
    errno.EAFNOSUPPORT: "this host has no such address family: write an IPv4 address",
    errno.ECONNREFUSED: "nobody listens there: is the neighbour's meshd running?",
    errno.EHOSTUNREACH: "the host can't be reached",
    errno.ENETUNREACH: "there is no route to it on this device",
    errno.ENETDOWN: "the device is down",
    errno.EHOSTDOWN: "the host is down",
    errno.ENOTCONN: "the connection is gone",
    errno.ENOMEM: "the kernel has no memory for it",
    errno.ETIMEDOUT: "no answer",
    errno.ECONNRESET: "the connection was reset",
    errno.ECONNABORTED: "the connection was aborted",
    errno.EPIPE: "the peer has closed the connection",
    errno.ENOBUFS: "the kernel has no room for it",
    errno.EINVAL: "the address does not fit the device",
    errno.EMSGSIZE: "the datagram is larger than the device takes: check `mtu`",
    errno.EMFILE: "too many open files: raise LimitNOFILE",
    errno.ENFILE: "too many open files in the whole system",
}


class BearerError(MeshdError):
    """A bearer can't do its work at the moment; it is tried again."""


def explain(error: OSError) -> str:
    """What an expected error means and what to do. Any other one is raised again."""
    if error.errno not in _REMEDIES:
        raise error
    return f"{_REMEDIES[error.errno]} ({errno.errorcode[error.errno]})"


def parse_address(text: str) -> tuple[socket.AddressFamily, Address]:
    """`10.1.0.2:4556` or `[fe80::1%lan0]:4556`, numeric only. Errors: BearerError."""
    host, colon, port = text.rpartition(":")
    hint = f"{text!r} is no address: write 10.1.0.2:4556 or [2001:db8::2]:4556"
    if not colon or not port.isdecimal() or int(port) > 65535 or host.startswith("[") != host.endswith("]"):
        raise BearerError(hint)
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as error:
        raise BearerError(f"{hint} ({error.strerror})") from error
    family, _, _, _, address = found[0]
    if len(address) == 2:
        return family, (str(address[0]), int(address[1]))
    return family, (str(address[0]), int(address[1]), int(address[2]), int(address[3]))


def format_address(address: Address) -> str:
    """The way it is written in the configuration."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def open_listener(settings: BearerSettings, listen: str) -> socket.socket:
    """A listening socket on the bearer's device. Errors: BearerError."""
    family, address = parse_address(listen)
    sock = _open(family, settings)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        sock.close()
        raise BearerError(f"bearer {settings.name} can't listen on {listen}: {explain(error)}") from error
    return sock


async def dial(settings: BearerSettings, text: str) -> socket.socket:
    """Connect through the bearer's device. Errors: BearerError. Cancelled: the attempt is given up, nothing leaks."""
    family, address = parse_address(text)
    sock = _open(family, settings)
    try:
        code = await _connect(sock, address, DIAL_LINE_TIMEOUT_S if settings.is_line else DIAL_TIMEOUT_S)
        tune(sock, settings)
    except BaseException:
        sock.close()
        raise
    if code:
        sock.close()
        raise BearerError(f"bearer {settings.name} can't connect to {text}: {explain(OSError(code, 'connect'))}")
    return sock


async def _connect(sock: socket.socket, address: Address, timeout_s: float) -> int:
    """The errno of the attempt; 0: connected."""
    with trio.move_on_after(timeout_s):
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return code
    return errno.ETIMEDOUT


def _open(family: socket.AddressFamily, settings: BearerSettings) -> socket.socket:
    """A socket that can only use the bearer's device. Errors: BearerError."""
    sock = open_on_device(family, socket.SOCK_STREAM, settings)
    try:
        set_congestion(sock, settings.congestion)
    except OSError as error:
        sock.close()
        text = f"bearer {settings.name} can't use its congestion control: {explain(error)}"
        raise BearerError(text) from error
    return sock


def set_mark(sock: socket.socket, mark: int) -> None:
    """SO_MARK, of which the socket module takes only the lower half as a number."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, _MARK.pack(mark))


def open_on_device(family: socket.AddressFamily, kind: socket.SocketKind, settings: BearerSettings) -> socket.socket:
    """A socket that never blocks, bound to the bearer's device and marked. Errors: BearerError."""
    try:
        sock = socket.socket(family, kind)
    except OSError as error:
        raise BearerError(f"bearer {settings.name} has no socket: {explain(error)}") from error
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, settings.device.encode())
        if settings.mark:
            set_mark(sock, settings.mark)
    except OSError as error:
        sock.close()
        text = f"bearer {settings.name} can't use its device {settings.device}: {explain(error)}"
        raise BearerError(text) from error
    return sock


def find_mtu_bytes(device: str) -> int:
    """What the device takes at most; 0: there is no such device."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, _IFREQ.pack(device.encode(), 0))
        except OSError as error:
            explain(error)
            return 0
    return int(_IFREQ.unpack(answer)[1])


def find_ipv4_address(device: str) -> str | None:
    """The first one of the device; None: it has none, or is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, _IFREQ.pack(device.encode(), 0))
        except OSError as error:
            explain(error)
            return None
    return socket.inet_ntoa(answer[20:24])


def tune(sock: socket.socket, settings: BearerSettings) -> None:
    """Options of a connected socket; an accepted one inherits device and mark from its listener."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.rate_bps < SLOW_RATE_BPS:
        unsent_bytes = max(settings.rate_bps // 8, _NOTSENT_MIN_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent_bytes)
