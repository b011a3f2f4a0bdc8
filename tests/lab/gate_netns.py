# SPDX-License-Identifier: Apache-2.0
"""Two network namespaces with two wires between them: `rad0`, which is gated, and `out0`, which is not.

The sniffer stands at the far end, outside the node's namespace. All is done on one CPU, whose receive queue is first
in, first out: a marker sent on `out0` arrives after everything that was sent before it on `rad0`. The namespaces have
no name and are gone with their last file descriptor, whatever happens to the test.
"""

import contextlib
import ctypes
import os
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 0x0003
ETH_P_MARKER = 0x88B5
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
PACKET_QDISC_BYPASS = 20
WAIT_S = 10.0
FAR_MAC = bytes.fromhex("02000000fa01")
NODE_MAC = bytes.fromhex("020000000a01")
NODE_IP, FAR_IP = "10.99.0.1", "10.99.0.2"

_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: str, *arguments: int) -> None:
    if getattr(_libc, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def new_namespace() -> int:
    """Make one and come back; only its file descriptor is left."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _call("setns", home, CLONE_NEWNET)
    finally:
        os.close(home)


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """What is made in here (sockets, processes) belongs to that namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", home, CLONE_NEWNET)
    finally:
        os.close(home)


@contextlib.contextmanager
def own_namespace() -> Iterator[None]:
    """What is made in here belongs to a new namespace, whose loopback device is up."""
    with contextlib.ExitStack() as stack:
        space = new_namespace()
        stack.callback(os.close, space)
        stack.enter_context(inside(space))
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=WAIT_S)
        yield


class Wire:
    """The two namespaces, the sniffer and what a node does to be heard."""

    def __init__(self) -> None:
        self._affinity = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._affinity)})
        self.node, self.far = new_namespace(), new_namespace()
        self._stack = contextlib.ExitStack()
        self.run("ip link set lo up")
        self.make_device()
        self._make_pair("out0", "out1", "02:00:00:00:0b:01", "02:00:00:00:fb:01")
        self._sniffer = self._packet_socket(self.far, "far0")
        self._marker_in = self._packet_socket(self.far, "out1")
        self._marker_out = self._packet_socket(self.node, "out0")
        self._markers = 0
        self._strangers = 0

    def close(self) -> None:
        self._stack.close()
        os.close(self.node)
        os.close(self.far)
        os.sched_setaffinity(0, self._affinity)

    def run(self, command: str) -> str:
        """A program in the node's namespace."""
        return self._run(self.node, command)

    def _run(self, namespace: int, command: str) -> str:
        with inside(namespace):
            done = subprocess.run(command.split(), check=True, capture_output=True, text=True, timeout=WAIT_S)
        return done.stdout

    def _make_pair(self, ours: str, theirs: str, mac: str, far_mac: str) -> None:
        near = f"ip link add {ours} address {mac} type veth"
        peer = f"peer name {theirs} address {far_mac} netns /proc/self/fd/{self.far}"
        with inside(self.node):
            subprocess.run(
                [*near.split(), *peer.split()],
                check=True,
                pass_fds=[self.far],
                timeout=WAIT_S,
            )
        self._run(self.far, f"ip link set {theirs} up")
        self.run(f"ip link set {ours} up")

    def make_device(self) -> None:
        self._make_pair("rad0", "far0", "02:00:00:00:0a:01", "02:00:00:00:fa:01")
        self.run(f"ip address add {NODE_IP}/24 dev rad0")
        self.pin_neighbour()

    def close_later(self, descriptor: int) -> None:
        """With everything else."""
        self._stack.callback(os.close, descriptor)

    def add_port(self) -> None:
        """Another wire, `in0` to `in1`: for what comes in elsewhere and might leave on `rad0`."""
        self._make_pair("in0", "in1", "02:00:00:00:0c:01", "02:00:00:00:fc:01")

    def pin_neighbour(self) -> None:
        self.run(f"ip neighbour replace {FAR_IP} lladdr 02:00:00:00:fa:01 nud permanent dev rad0")

    def remake_device(self) -> None:
        """As when a USB radio that was pulled is plugged in again."""
        self.make_device()
        self._sniffer = self._packet_socket(self.far, "far0")

    def _packet_socket(self, namespace: int, device: str) -> socket.socket:
        with inside(namespace):
            fresh = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._stack.callback(fresh.close)
        fresh.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        fresh.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        fresh.bind((device, ETH_P_ALL))
        fresh.setblocking(False)
        return fresh

    def heard(self) -> list[bytes]:
        """Every frame that has left `rad0` since the last call, complete by a marker on the other wire."""
        self._markers += 1
        marker = b"\xff" * 6 + NODE_MAC + struct.pack(">HI", ETH_P_MARKER, self._markers) + bytes(46)
        self._marker_out.send(marker)
        while _receive(self._marker_in)[:18] != marker[:18]:
            pass
        frames = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frames.append(self._sniffer.recv(65536))
        return frames

    def wait_for(self, content: bytes) -> list[bytes]:
        """Frames that left `rad0` up to and with one that holds this; for what a queue holds back."""
        frames: list[bytes] = []
        while not frames or content not in frames[-1]:
            frames.append(_receive(self._sniffer))
        return frames

    def redirect(self) -> None:
        """What comes in on `out0` is sent out of `rad0` by tc, which netfilter egress passes over by design."""
        self.run("tc qdisc add dev out0 clsact")
        self.run("tc filter add dev out0 ingress protocol all u32 match u32 0 0 action mirred egress redirect dev rad0")

    def emit(self, path: str) -> None:
        """Try ten times to be heard on `rad0` by one of the paths."""
        emitter = {
            "udp": self._emit_udp,
            "packet": lambda: self._emit_packet(bypass=False),
            "qdisc_bypass": lambda: self._emit_packet(bypass=True),
            "arp_answer": lambda: self._provoke(_arp_request()),
            "ping_answer": lambda: self._provoke(_ping()),
            "arp_request": self._emit_arp,
            "redirect": self._feed_redirect,
        }[path]
        for _ in range(10):
            with contextlib.suppress(OSError):  # ENOBUFS is what a sender sees behind the gate
                emitter()

    def _emit_udp(self) -> None:
        self.udp(b"payload")

    def udp(self, payload: bytes, count: int = 1) -> None:
        with inside(self.node), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                sender.sendto(payload, (FAR_IP, 4556))

    def _emit_arp(self) -> None:
        with inside(self.node), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            self._strangers += 1  # asked for once, a neighbour is not asked for again at once
            sender.sendto(b"who has", (f"10.99.0.{self._strangers % 200 + 20}", 4556))

    def _emit_packet(self, bypass: bool) -> None:
        with inside(self.node), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            if bypass:
                sender.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
            sender.bind(("rad0", 0))
            sender.send(FAR_MAC + NODE_MAC + struct.pack(">H", ETH_P_MARKER) + b"raw" + bytes(60))

    def _feed_redirect(self) -> None:
        with inside(self.far), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("out1", 0))
            sender.send(FAR_MAC + NODE_MAC + struct.pack(">H", ETH_P_MARKER) + b"redirected" + bytes(60))

    def _provoke(self, frame: bytes) -> None:
        """From the far end; what the node answers is sent before this returns, since all is on one CPU."""
        with inside(self.far), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("far0", 0))
            sender.send(frame)


def flood_rad0(stop: threading.Event) -> None:
    """Without the queue's rules, so that nftables alone is what is looked at."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        sender.bind(("rad0", 0))
        while not stop.is_set():
            try:
                sender.send(bytes(12) + b"\x88\xb5" + bytes(60))
            except OSError:
                stop.wait(0.0001)


def _receive(source: socket.socket) -> bytes:
    ready, _, _ = select.select([source], [], [], WAIT_S)
    assert ready, f"nothing came within {WAIT_S} s"
    return source.recv(65536)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _arp_request() -> bytes:
    head = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1)
    body = FAR_MAC + socket.inet_aton(FAR_IP) + bytes(6) + socket.inet_aton(NODE_IP)
    return b"\xff" * 6 + FAR_MAC + struct.pack(">H", 0x0806) + head + body


def _ping() -> bytes:
    icmp = struct.pack(">BBHHH", 8, 0, 0, 7, 1) + b"are you there?!!"
    icmp = icmp[:2] + struct.pack(">H", _checksum(icmp)) + icmp[4:]
    addresses = socket.inet_aton(FAR_IP) + socket.inet_aton(NODE_IP)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0) + addresses
    ip = ip[:10] + struct.pack(">H", _checksum(ip)) + ip[12:]
    return NODE_MAC + FAR_MAC + struct.pack(">H", 0x0800) + ip + icmp
