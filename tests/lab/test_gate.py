# SPDX-License-Identifier: Apache-2.0
"""The emission gate on the running kernel, heard by an independent sniffer outside the node's namespace.

Each test counts frames above 0 before the gate closes: a sniffer that hears nothing proves nothing.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from meshd.linux.emission_gate import KernelGate
from meshd.linux.link_monitor import KernelChange, LinkMonitor, RulesetChanged
from meshd.linux.nfnetlink import GateTable
from meshd.linux.traffic_control import TrafficControl
from tests.lab.gate_netns import WAIT_S, Wire, flood_rad0, inside

pytestmark = [pytest.mark.root, pytest.mark.lab]

PATHS = ["udp", "packet", "qdisc_bypass", "arp_answer", "ping_answer", "arp_request"]
HELPER = Path(__file__).parents[2] / "config" / "meshd-gate"


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def gate(wire: Wire, tmp_path: Path) -> Iterator[KernelGate]:
    with inside(wire.node):
        made = KernelGate(tmp_path / "shaping")
    yield made
    made.release()


def tell(text: str) -> None:
    """Printed with `pytest -s`: figures of this machine are nothing to assert."""
    sys.stdout.write(text + "\n")


def provoke_all(wire: Wire) -> None:
    for path in PATHS:
        wire.emit(path)


@pytest.mark.parametrize("path", PATHS)
def test_no_frame_leaves_a_closed_gate(wire: Wire, gate: KernelGate, path: str) -> None:
    gate.open("rad0", 60.0)
    wire.emit(path)
    assert len(wire.heard()) > 0
    gate.close(["rad0"])
    wire.heard()
    wire.emit(path)
    assert wire.heard() == []
    counted = gate.counters()["rad0"]
    assert not counted.is_open
    assert gate.problems() == {}


def test_open_again_after_closing(wire: Wire, gate: KernelGate) -> None:
    gate.close(["rad0"])
    wire.heard()
    wire.emit("udp")
    assert wire.heard() == []
    blocked = gate.counters()["rad0"].blocked_frames
    assert blocked >= 10
    gate.open("rad0", 60.0)
    wire.emit("udp")
    assert len(wire.heard()) >= 10
    assert gate.counters()["rad0"].is_open


def test_counters_tell_sent_and_blocked_apart(wire: Wire, gate: KernelGate) -> None:
    gate.close(["rad0"])
    before = gate.counters()["rad0"]
    wire.emit("udp")
    after = gate.counters()["rad0"]
    assert after.tx_frames == before.tx_frames
    assert after.blocked_frames >= before.blocked_frames + 10


def test_silent_within_the_lease_after_sigkill(wire: Wire, gate: KernelGate) -> None:
    code = "import sys\nfrom meshd.linux.emission_gate import KernelGate\n"
    code += "gate = KernelGate(); gate.adopt(['rad0']); gate.open('rad0', 2.0)\n"
    code += "print('open', flush=True); sys.stdin.read()"
    with inside(wire.node):
        table = GateTable()
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        wire.emit("udp")
        assert len(wire.heard()) > 0
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    deadline = time.monotonic() + WAIT_S
    while table.leases() and time.monotonic() < deadline:
        time.sleep(0.01)
    table.close_socket()
    wire.heard()
    provoke_all(wire)
    assert wire.heard() == []


def test_a_lease_is_renewed(wire: Wire, gate: KernelGate) -> None:
    gate.open("rad0", 1.0)
    gate.open("rad0", 60.0)
    with inside(wire.node):
        table = GateTable()
    left_s = table.leases()["rad0"]
    table.close_socket()
    assert left_s is not None
    assert left_s > 50.0


def test_flushed_ruleset_leaks_nothing_and_is_laid_again(wire: Wire, gate: KernelGate) -> None:
    gate.open("rad0", 60.0)
    provoke_all(wire)
    assert len(wire.heard()) > 0
    gate.close(["rad0"])
    wire.heard()
    wire.run("nft flush ruleset")
    for path in PATHS:
        if path != "qdisc_bypass":  # nothing but netfilter stops that one
            wire.emit(path)
    assert wire.heard() == []
    assert gate.reapply() == ["table netdev meshd had been changed or removed"]
    provoke_all(wire)
    assert wire.heard() == []
    assert gate.reapply() == []


def test_clsact_and_qdisc_are_laid_again(wire: Wire, gate: KernelGate) -> None:
    gate.close(["rad0"])
    wire.run("tc qdisc delete dev rad0 clsact")
    wire.run("tc qdisc delete dev rad0 root")
    assert len(gate.reapply()) == 2
    assert "bytecode '1,6 0 0 2'" in wire.run("tc filter show dev rad0 egress")
    assert "blackhole" in wire.run("tc qdisc show dev rad0")


@pytest.mark.parametrize(
    "tampering",
    [
        "nft flush chain netdev meshd egress-rad0",
        "nft delete table netdev meshd",
        "nft insert rule netdev meshd egress-rad0 accept",
        "nft add element netdev meshd tx_ok { rad0 }",
    ],
)
def test_any_change_to_the_table_is_mended(wire: Wire, gate: KernelGate, tampering: str) -> None:
    gate.close(["rad0"])
    wire.heard()
    wire.run(tampering)
    assert gate.reapply() == ["table netdev meshd had been changed or removed"]
    wire.emit("qdisc_bypass")
    assert wire.heard() == []


async def test_monitor_reapplies_at_once(wire: Wire, gate: KernelGate) -> None:
    gate.close(["rad0"])
    wire.heard()
    with inside(wire.node):
        monitor = LinkMonitor(gate.ports)
    mended: list[float] = []
    authors: list[str] = []
    done = trio.Event()

    def changed(changes: list[KernelChange]) -> None:
        authors.extend(change.by for change in changes if isinstance(change, RulesetChanged))
        if gate.reapply():
            mended.append(time.perf_counter())
            done.set()

    with contextlib.closing(monitor):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run, changed)
            await trio.testing.wait_all_tasks_blocked()
            with inside(wire.node):
                table = GateTable()
            begun = time.perf_counter()
            table.delete()
            with trio.fail_after(10):
                await done.wait()
            # Not before: the kernel holds every other transaction up while a socket that deleted something is closed.
            table.close_socket()
            nursery.cancel_scope.cancel()
    tell(f"mended {(mended[0] - begun) * 1e3:.2f} ms after the deletion began")
    assert "pid " in authors[0]  # the kernel's own number of it, which differs inside of a PID namespace
    wire.emit("qdisc_bypass")
    assert wire.heard() == []


def test_a_shaped_queue_is_purged_and_the_shaper_comes_back(wire: Wire, gate: KernelGate) -> None:
    wire.run("tc qdisc replace dev rad0 root tbf rate 100kbit burst 2kb latency 20s")
    shaper = wire.run("tc qdisc show dev rad0 root")
    gate.open("rad0", 60.0)
    wire.udp(bytes(1000), count=60)  # more than a socket holds would wait for the wire
    assert 0 < len(wire.heard()) < 50
    gate.close(["rad0"])
    wire.heard()
    gate.open("rad0", 60.0)
    assert wire.run("tc qdisc show dev rad0 root").split("refcnt")[0] == shaper.split("refcnt")[0]
    assert wire.run("tc qdisc show dev rad0 root").split("rate")[1] == shaper.split("rate")[1]
    wire.udp(b"first after silence")
    # First in, first out: had anything stayed in the queue, it would come before. The kernel's own IPv6 reports may.
    assert not any(bytes(1000) in frame for frame in wire.wait_for(b"first after silence"))
    assert gate.problems() == {}


def test_a_classful_shaper_comes_back(wire: Wire, gate: KernelGate) -> None:
    for command in (
        "tc qdisc replace dev rad0 root handle 1: htb default 20",
        "tc class add dev rad0 parent 1: classid 1:1 htb rate 1mbit",
        "tc class add dev rad0 parent 1:1 classid 1:20 htb rate 200kbit",
        "tc qdisc add dev rad0 parent 1:20 handle 10: tbf rate 100kbit burst 4k latency 1s",
        "tc filter add dev rad0 parent 1: protocol ip prio 1 u32 match ip dport 80 0xffff flowid 1:20",
    ):
        wire.run(command)

    def shaping() -> list[str]:
        shown = wire.run("tc class show dev rad0") + wire.run("tc qdisc show dev rad0")
        rules = wire.run("tc filter show dev rad0 parent 1:")
        return sorted(line for line in shown.splitlines() if "clsact" not in line) + rules.splitlines()

    before = shaping()
    gate.close(["rad0"])
    assert shaping() != before
    gate.open("rad0", 60.0)
    assert gate.problems() == {}
    assert shaping() == before


def test_a_shaper_survives_a_restart_while_closed(wire: Wire, gate: KernelGate, tmp_path: Path) -> None:
    wire.run("tc qdisc replace dev rad0 root tbf rate 200kbit burst 2kb latency 20s")
    gate.close(["rad0"])
    with inside(wire.node):
        successor = KernelGate(tmp_path / "shaping")
    successor.adopt(["rad0"])
    successor.open("rad0", 60.0)
    assert "tbf" in wire.run("tc qdisc show dev rad0 root")
    successor.release()


def test_a_device_made_anew_while_closed_stays_silent(wire: Wire, gate: KernelGate) -> None:
    gate.close(["rad0"])
    wire.run("ip link delete rad0")
    gate.reapply()
    assert "does not exist" in gate.problems()["rad0"]
    wire.remake_device()
    gate.reapply()
    assert gate.problems() == {}
    wire.heard()
    provoke_all(wire)
    assert wire.heard() == []
    gate.open("rad0", 60.0)
    provoke_all(wire)
    assert len(wire.heard()) > 0


def test_closing_a_device_that_does_not_exist_yet(wire: Wire, gate: KernelGate) -> None:
    gate.close(["rad0", "later0"])
    assert "does not exist" in gate.problems()["later0"]
    wire.heard()
    wire.emit("udp")
    assert wire.heard() == []
    wire.run("ip link add later0 type veth peer name later1")
    gate.reapply()
    assert gate.problems() == {}
    assert not gate.counters()["later0"].is_open


def test_a_successor_takes_over_without_a_gap(wire: Wire, gate: KernelGate) -> None:
    gate.close(["rad0"])
    wire.heard()
    stop = threading.Event()
    blocked = 0
    with inside(wire.node):
        flood = threading.Thread(target=flood_rad0, args=(stop,))
        flood.start()
    try:
        for _ in range(20):
            with inside(wire.node):
                successor = KernelGate()
            successor.adopt(["rad0"])
            deadline = time.monotonic() + 10.0
            while not successor.counters()["rad0"].blocked_frames and time.monotonic() < deadline:
                time.sleep(0.001)
            blocked += successor.counters()["rad0"].blocked_frames
            successor.disconnect()
    finally:
        stop.set()
        flood.join()
    assert wire.heard() == []
    assert blocked > 20


def test_without_a_lease_an_open_device_is_left_alone(wire: Wire, gate: KernelGate) -> None:
    gate.close(["rad0"])
    gate.open("rad0", None)
    assert "egress-rad0" not in wire.run("nft list ruleset")
    wire.emit("udp")
    assert len(wire.heard()) > 0
    gate.close(["rad0"])
    wire.heard()
    provoke_all(wire)
    assert wire.heard() == []


def test_other_tables_and_filters_stay(wire: Wire, gate: KernelGate) -> None:
    wire.run("nft add table inet site")
    wire.run("tc qdisc add dev rad0 clsact")
    wire.run("tc filter add dev rad0 ingress protocol ip prio 7 u32 match ip dport 80 0xffff classid 1:1")
    gate.close(["rad0"])
    gate.open("rad0", 60.0)
    assert "table inet site" in wire.run("nft list ruleset")
    assert "u32" in wire.run("tc filter show dev rad0 ingress")
    assert "bpf" not in wire.run("tc filter show dev rad0 egress")


def test_the_boot_helper_closes_and_the_daemon_takes_over(wire: Wire, gate: KernelGate, tmp_path: Path) -> None:
    config = tmp_path / "meshd.toml"
    config.write_text('[[bearer]]\nname = "sat"\nkind = "satcom"\ndevice = "rad0"\n\n[[bearer]]\nname = "out0"\n')
    wire.emit("udp")
    assert len(wire.heard()) > 0
    wire.run(f"{HELPER} {config}")
    wire.heard()
    provoke_all(wire)
    assert wire.heard() == []
    gate.adopt([])
    provoke_all(wire)
    assert wire.heard() == []
    gate.open("rad0", 60.0)
    wire.emit("udp")
    assert len(wire.heard()) > 0


def test_probe_finds_what_this_kernel_has(gate: KernelGate) -> None:
    assert gate.probe() == []


def test_latency_of_closing(wire: Wire, gate: KernelGate) -> None:
    taken_ms = []
    for _ in range(50):
        gate.open("rad0", 60.0)
        begun = time.perf_counter()
        gate.close(["rad0"])
        taken_ms.append((time.perf_counter() - begun) * 1e3)
    taken_ms.sort()
    tell(f"close: median {taken_ms[25]:.2f} ms, max {taken_ms[-1]:.2f} ms")
    assert not gate.counters()["rad0"].is_open


@pytest.mark.parametrize(("path", "escapes"), [(path, path == "qdisc_bypass") for path in PATHS])
def test_classic_bpf_alone(wire: Wire, path: str, escapes: bool) -> None:
    """Why both layers: what bypasses the qdisc bypasses clsact too, and nothing else does."""
    with inside(wire.node):
        tc = TrafficControl()
    device = tc.device("rad0")
    assert device is not None
    tc.attach_drop(device.index)
    wire.heard()
    wire.emit(path)
    escaped = len(wire.heard())
    tc.detach_drop(device.index)
    wire.emit(path)
    heard = len(wire.heard())
    tc.close_socket()
    assert heard >= 10
    assert bool(escaped) is escapes


def test_redirected_frames_are_stopped_below_nftables(wire: Wire, gate: KernelGate) -> None:
    wire.redirect()
    wire.emit("redirect")
    assert len(wire.heard()) >= 10
    gate.close(["rad0"])
    wire.heard()
    wire.emit("redirect")
    assert wire.heard() == []
