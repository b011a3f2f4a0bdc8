# SPDX-License-Identifier: Apache-2.0
"""Silence broken for one flow on the running kernel: the mark, the quota, the window, and what ends it early.

An independent sniffer counts at the far end of the wire, outside the node's namespace.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.linux.emission_gate import KernelGate
from meshd.linux.traffic_control import TrafficControl
from tests.lab.gate_netns import FAR_IP, Wire, inside

pytestmark = [pytest.mark.root, pytest.mark.lab]

MARK = 0x6D01
PAYLOAD = bytes(958)
FRAME_BYTES = 1000
"""With headers of UDP, IPv4 and Ethernet."""
LONG_S = 60.0
WINDOW_S = 0.5
GRAIN_S = 0.05
"""Of the kernel's timers."""


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def gate(wire: Wire, tmp_path: Path) -> Iterator[KernelGate]:
    with inside(wire.node):
        made = KernelGate(tmp_path / "shaping")
    made.close(["rad0"])
    wire.heard()  # what the kernel sent of itself before
    yield made
    made.release()


def send_marked(wire: Wire, count: int, mark: int = MARK) -> None:
    with inside(wire.node), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        for _ in range(count):
            with contextlib.suppress(OSError):  # ENOBUFS is what a sender sees behind the gate
                sender.sendto(PAYLOAD, (FAR_IP, 4556))


def test_only_the_marked_flow_leaves(wire: Wire, gate: KernelGate) -> None:
    send_marked(wire, 5)
    assert wire.heard() == []
    gate.break_for("rad0", MARK, 1_000_000, LONG_S)
    for path in ("udp", "packet", "qdisc_bypass", "arp_answer", "ping_answer", "arp_request"):
        wire.emit(path)
    send_marked(wire, 5, MARK + 1)
    assert wire.heard() == []
    send_marked(wire, 5)
    assert len(wire.heard()) == 5


def test_the_quota_ends_it_and_the_kernel_counts_what_the_sniffer_hears(wire: Wire, gate: KernelGate) -> None:
    gate.break_for("rad0", MARK, 20 * FRAME_BYTES, LONG_S)
    before = gate.counters()["rad0"]
    send_marked(wire, 50)
    heard = wire.heard()
    after = gate.counters()["rad0"]
    assert 19 <= len(heard) <= 20
    assert sum(map(len, heard)) <= 20 * FRAME_BYTES
    assert after.tx_frames - before.tx_frames == after.marked_frames == len(heard)
    assert after.marked_bytes == sum(map(len, heard))
    assert not after.is_open


def test_the_window_ends_by_itself(wire: Wire, gate: KernelGate) -> None:
    gate.break_for("rad0", MARK, 1_000_000_000, WINDOW_S)
    began = last = time.monotonic()
    while (sent_s := time.monotonic()) < began + 2 * WINDOW_S:
        send_marked(wire, 1)
        if wire.heard():
            last = sent_s  # by our clock before it was sent: whatever holds us up comes behind
    assert began < last < began + WINDOW_S + GRAIN_S


def test_the_bpf_layer_alone_lets_only_the_mark_pass(wire: Wire, gate: KernelGate) -> None:
    gate.break_for("rad0", MARK, 1_000_000, LONG_S)
    wire.run("nft delete table netdev meshd")
    for path in ("udp", "packet", "arp_answer", "ping_answer", "arp_request"):
        wire.emit(path)
    assert wire.heard() == []
    send_marked(wire, 3)
    assert len(wire.heard()) == 3


@pytest.mark.parametrize("how", ["close", "mend", "adopt"])
def test_what_ends_a_window_early(wire: Wire, gate: KernelGate, tmp_path: Path, how: str) -> None:
    gate.break_for("rad0", MARK, 1_000_000, LONG_S)
    send_marked(wire, 1)
    assert len(wire.heard()) == 1
    if how == "close":
        gate.close(["rad0"])
    elif how == "mend":
        wire.run("nft flush ruleset")
        assert gate.reapply() == ["table netdev meshd had been changed or removed"]
    else:
        with inside(wire.node):
            successor = KernelGate(tmp_path / "shaping")
        successor.adopt(["rad0"])
        successor.disconnect()
    send_marked(wire, 5)
    assert wire.heard() == []


def test_nothing_of_it_is_left_once_the_gate_is_open(wire: Wire, gate: KernelGate) -> None:
    gate.break_for("rad0", MARK, 1_000_000, LONG_S)
    gate.open("rad0", LONG_S)
    wire.emit("udp")
    # The kernel's own reports may come between.
    assert sum(b"payload" in frame for frame in wire.heard()) == 10
    with inside(wire.node):
        tc = TrafficControl()
    device = tc.device("rad0")
    assert device is not None
    assert not tc.has_program(device.index)
    assert not tc.has_drop(device.index)
    tc.close_socket()
