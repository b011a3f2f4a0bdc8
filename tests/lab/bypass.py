# SPDX-License-Identifier: Apache-2.0
"""Ways round a host's firewall to a device: each is counted by the sniffer with the gate open and with it closed.

Raw packets with and without the queue, a redirect by tc, a bridge, children of the device (macvlan, VLAN where the
kernel has it) and forwarding from a TUN device. AF_XDP and XDP redirect pass every gate of the kernel's network stack;
against them the device has to be down.
"""

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd.linux.emission_gate import KernelGate
from tests.lab.gate_netns import (
    ETH_P_MARKER,
    FAR_IP,
    FAR_MAC,
    NODE_MAC,
    PACKET_QDISC_BYPASS,
    SOL_PACKET,
    Wire,
    inside,
)

FRAMES: Final = 20
TUNSETIFF: Final = 0x400454CA
IFF_TUN_NO_PI: Final = 0x1001
TUN_SOURCE: Final = "10.98.0.2"


class LackingError(Exception):
    """This kernel has no such kind of device."""


@dataclass(frozen=True, slots=True)
class Escapes:
    """Of so many frames, how many left."""

    tried: int
    gate_open: int
    gate_closed: int


def send_raw(wire: Wire, device: str, bypass: bool = False, from_far: bool = False) -> None:
    """Frames from a packet socket."""
    with inside(wire.far if from_far else wire.node), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        if bypass:
            sender.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        sender.bind((device, 0))
        for _ in range(FRAMES):
            with contextlib.suppress(OSError):  # ENOBUFS is what a sender sees behind the gate
                sender.send(FAR_MAC + NODE_MAC + struct.pack(">H", ETH_P_MARKER) + b"round the gate" + bytes(60))


def add_device(wire: Wire, command: str) -> None:
    """Errors: LackingError."""
    try:
        wire.run(f"ip link add {command}")
    except subprocess.CalledProcessError as exc:
        if "Unknown device type" in exc.stderr or "not supported" in exc.stderr:
            raise LackingError(f"ip link add {command}: {exc.stderr.strip()}") from exc
        raise


def through_bridge(wire: Wire) -> Callable[[], None]:
    """What comes in on another port of a bridge leaves on this one."""
    add_device(wire, "br0 type bridge")
    wire.add_port()
    for command in ("in0 master br0", "rad0 master br0", "br0 up"):
        wire.run(f"ip link set {command}")
    return lambda: send_raw(wire, "in1", from_far=True)


def own_bridge(wire: Wire) -> Callable[[], None]:
    """The host's own frames by the bridge that the device is a port of."""
    through_bridge(wire)
    return lambda: send_raw(wire, "br0", bypass=True)


def macvlan(wire: Wire, bypass: bool = False) -> Callable[[], None]:
    """A device on top of it."""
    add_device(wire, "child0 link rad0 type macvlan mode bridge")
    wire.run("ip link set child0 up")
    return lambda: send_raw(wire, "child0", bypass)


def vlan(wire: Wire) -> Callable[[], None]:
    """The same with a tag."""
    add_device(wire, "link rad0 name child0 type vlan id 7")
    wire.run("ip link set child0 up")
    return lambda: send_raw(wire, "child0", bypass=True)


def tun_forwarding(wire: Wire) -> Callable[[], None]:
    """What a program writes into a TUN device is forwarded."""
    with inside(wire.node):
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        wire.close_later(tun)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"tun0", IFF_TUN_NO_PI))
    for command in ("ip address add 10.98.0.1/24 dev tun0", "ip link set tun0 up", "sysctl -q net.ipv4.ip_forward=1"):
        wire.run(command)
    addresses = socket.inet_aton(TUN_SOURCE) + socket.inet_aton(FAR_IP)
    packet = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack(">10H", packet))
    total = (total & 0xFFFF) + (total >> 16)
    packet = packet[:10] + struct.pack(">H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + packet[12:]
    datagram = packet + struct.pack(">HHHH", 4556, 4556, 8, 0)

    def write() -> None:
        for _ in range(FRAMES):
            with contextlib.suppress(OSError):
                os.write(tun, datagram)

    return write


def redirect(wire: Wire) -> Callable[[], None]:
    """tc sends out here what comes in elsewhere."""
    wire.redirect()
    return lambda: send_raw(wire, "out1", from_far=True)


WAYS: Final[dict[str, Callable[[Wire], Callable[[], None]]]] = {
    "AF_PACKET": lambda wire: lambda: send_raw(wire, "rad0"),
    "QDISC_BYPASS": lambda wire: lambda: send_raw(wire, "rad0", bypass=True),
    "tc redirect": redirect,
    "bridge": through_bridge,
    "bridge, own frames": own_bridge,
    "macvlan": macvlan,
    "macvlan, QDISC_BYPASS": lambda wire: macvlan(wire, bypass=True),
    "VLAN": vlan,
    "TUN forwarding": tun_forwarding,
}


def count_escapes(way: str, shaping_dir: Path) -> Escapes:
    """Try one with the gate open and closed. Errors: LackingError."""
    with contextlib.closing(Wire()) as wire:
        with inside(wire.node):
            gate = KernelGate(shaping_dir)
        try:
            gate.open("rad0", 60.0)
            emit = WAYS[way](wire)
            wire.heard()
            emit()
            heard = ours(wire.heard())
            gate.close(["rad0"])
            wire.heard()
            emit()
            # Whatever it is: nothing at all may leave.
            return Escapes(FRAMES, heard, len(wire.heard()))
        finally:
            gate.release()


def ours(frames: list[bytes]) -> int:
    """Those of the way itself, not what the kernel says of its own accord."""
    udp = bytes([0x45, 0, 0, 28])
    return sum(b"round the gate" in frame or frame[14:18] == udp for frame in frames)
