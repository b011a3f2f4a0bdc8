# SPDX-License-Identifier: Apache-2.0
"""Restricted emission and devices that are off, on the running kernel: marks, quota, duty cycle, exceptions.

An independent sniffer counts at the far end of the wire, outside the node's namespace.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.emcon.gate import GateLimits
from meshd.link.settings import Station
from meshd.linux.emission_gate import QUOTA_S, KernelGate
from tests.lab.af_xdp import XdpSender
from tests.lab.gate_netns import ETH_P_MARKER, FAR_IP, FAR_MAC, NODE_MAC, Wire, inside

pytestmark = [pytest.mark.root, pytest.mark.lab]

MARK = 0x6D01
PAYLOAD = bytes(958)
FRAME_BYTES = 1000
"""With headers of UDP, IPv4 and Ethernet."""
LONG_S = 60.0
PATHS = ("udp", "packet", "qdisc_bypass", "arp_answer", "ping_answer", "arp_request")
QUOTA = GateLimits((MARK,), 20 * FRAME_BYTES, None, 1564)
RAW_FRAME = FAR_MAC + NODE_MAC + struct.pack(">H", ETH_P_MARKER) + bytes(60)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


class Clock:
    """Monotonic time that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(wire: Wire, clock: Clock, tmp_path: Path) -> Iterator[KernelGate]:
    with inside(wire.node):
        made = KernelGate(tmp_path / "notes", now=clock)
    made.close(["rad0"])
    wire.heard()  # what the kernel sent of itself before
    yield made
    made.release()


def send(wire: Wire, count: int, mark: int = MARK, address: str = FAR_IP) -> None:
    with inside(wire.node), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        for _ in range(count):
            with contextlib.suppress(OSError):  # what a sender sees behind the gate, or of a device that is down
                sender.sendto(PAYLOAD, (address, 4556))


def test_restricted_lets_marked_frames_out_within_the_quota(wire: Wire, gate: KernelGate, clock: Clock) -> None:
    gate.restrict("rad0", QUOTA, LONG_S)
    for path in PATHS:
        wire.emit(path)
    send(wire, 5, MARK + 1)
    assert wire.heard() == []
    send(wire, 15)
    gate.restrict("rad0", QUOTA, LONG_S)  # a renewed lease brings no new quota
    send(wire, 35)
    assert len(wire.heard()) == 20
    assert gate.counters()["rad0"].quota_used_bytes >= 20 * FRAME_BYTES
    clock.now += QUOTA_S
    gate.restrict("rad0", QUOTA, LONG_S)
    send(wire, 50)
    assert len(wire.heard()) == 20


@pytest.mark.parametrize("between", ["close", "flush", "successor"])
def test_what_was_used_of_a_quota_stays_used(wire: Wire, gate: KernelGate, tmp_path: Path, between: str) -> None:
    gate.restrict("rad0", QUOTA, LONG_S)
    send(wire, 12)
    assert len(wire.heard()) == 12
    gate.counters()
    if between == "close":
        gate.close(["rad0"])
        send(wire, 5)
        assert wire.heard() == []
        gate.restrict("rad0", QUOTA, LONG_S)
    elif between == "flush":
        wire.run("nft flush ruleset")
        assert gate.reapply() == ["table netdev meshd had been changed or removed"]
    else:
        with inside(wire.node):
            successor = KernelGate(tmp_path / "notes")
        successor.adopt(["rad0"])
        send(wire, 5)
        assert wire.heard() == []
        successor.restrict("rad0", QUOTA, LONG_S)
        successor.disconnect()
    send(wire, 50)
    assert len(wire.heard()) == 8


def test_the_duty_cycle_is_counted_by_the_kernel(wire: Wire, gate: KernelGate) -> None:
    gate.restrict("rad0", GateLimits((MARK,), None, 2 * FRAME_BYTES, FRAME_BYTES), LONG_S)
    send(wire, 200)
    heard = len(wire.heard())
    assert 3 <= heard <= 20  # a bucket of three frames, and two each second
    assert gate.counters()["rad0"].is_open


def test_open_again_and_restricted_again(wire: Wire, gate: KernelGate) -> None:
    gate.restrict("rad0", QUOTA, LONG_S)
    gate.open("rad0", LONG_S)
    wire.emit("udp")
    assert len(wire.heard()) >= 10
    gate.restrict("rad0", QUOTA, LONG_S)
    wire.emit("udp")
    assert wire.heard() == []
    assert gate.reapply() == []
    assert gate.problems() == {}


def test_a_restricted_device_is_silent_when_its_lease_is_over(wire: Wire, gate: KernelGate) -> None:
    gate.restrict("rad0", QUOTA, 0.2)
    assert gate.counters()["rad0"].is_open
    deadline = time.monotonic() + 10.0
    while gate.counters()["rad0"].is_open and time.monotonic() < deadline:
        time.sleep(0.01)
    wire.heard()
    send(wire, 5)
    assert wire.heard() == []


def test_off_passes_nothing_by_any_way(wire: Wire, gate: KernelGate) -> None:
    with inside(wire.node):
        xdp = XdpSender("rad0")
    for _ in range(5):
        xdp.send(RAW_FRAME)
    assert len(wire.heard()) == 5  # AF_XDP passes the closed gate
    gate.close(["rad0"], off=["rad0"])
    wire.heard()
    for _ in range(5):
        with contextlib.suppress(OSError):
            xdp.send(RAW_FRAME)
    for path in PATHS:
        wire.emit(path)
    assert wire.heard() == []
    wire.run("ip link set rad0 up")
    assert gate.reapply() == ["rad0: it was up"]
    wire.heard()
    with contextlib.suppress(OSError):
        xdp.send(RAW_FRAME)
    assert wire.heard() == []
    xdp.close()


def test_a_device_that_was_set_down_is_set_up_again(wire: Wire, gate: KernelGate, tmp_path: Path) -> None:
    gate.close(["rad0"], off=["rad0"])
    assert "state DOWN" in wire.run("ip link show rad0")
    with inside(wire.node):
        successor = KernelGate(tmp_path / "notes")
    successor.adopt(["rad0"])
    assert "state DOWN" in wire.run("ip link show rad0")
    wire.heard()
    successor.close(["rad0"])
    assert "state UP" in wire.run("ip link show rad0")
    wire.pin_neighbour()
    wire.emit("udp")
    assert wire.heard() == []
    successor.disconnect()
    gate.adopt([])
    gate.open("rad0", LONG_S)
    wire.emit("udp")
    assert len(wire.heard()) >= 10


def test_a_device_that_a_site_has_set_down_stays_down(wire: Wire, gate: KernelGate) -> None:
    wire.run("ip link set rad0 down")
    gate.close(["rad0"], off=["rad0"])
    gate.close(["rad0"])
    assert "state DOWN" in wire.run("ip link show rad0")


def test_only_an_excepted_station_is_reached(wire: Wire, tmp_path: Path) -> None:
    with inside(wire.node):
        gate = KernelGate(tmp_path / "notes", {"rad0": [Station(FAR_MAC.hex(":"), FAR_IP)]}.get)
    wire.run(f"ip neighbour replace 10.99.0.3 lladdr {FAR_MAC.hex(':')} nud permanent dev rad0")
    wire.run("ip neighbour replace 10.99.0.4 lladdr 02:00:00:00:fa:09 nud permanent dev rad0")
    gate.close(["rad0"])
    wire.heard()
    for path in ("packet", "qdisc_bypass", "arp_answer", "arp_request"):
        wire.emit(path)
    send(wire, 5, 0, "10.99.0.3")
    send(wire, 5, 0, "10.99.0.4")
    assert wire.heard() == []
    send(wire, 5, 0)
    assert len(wire.heard()) == 5
    counted = gate.counters()["rad0"]
    assert (counted.excepted_frames, counted.is_open) == (5, False)
    wire.run("nft delete table netdev meshd")
    send(wire, 5, 0, "10.99.0.3")
    assert wire.heard() == []
    send(wire, 5, 0)
    assert len(wire.heard()) == 5
    assert gate.reapply() == ["table netdev meshd had been changed or removed"]
    assert gate.reapply() == []
    assert gate.problems() == {}
    gate.release()
