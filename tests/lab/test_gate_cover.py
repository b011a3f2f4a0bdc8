# SPDX-License-Identifier: Apache-2.0
"""Devices that stand on others: the gate holds below them, too, and the tripwire sees what passes every gate.

An independent sniffer counts at the far end of the wire, outside the node's namespace.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from meshd.daemon.emission import EmissionControl
from meshd.emcon.settings import EmconProfile, EmconSettings
from meshd.link.settings import BearerKind, BearerSettings, Posture, Station
from meshd.linux.covering_gate import CoveringGate
from meshd.linux.device_stack import DeviceStack
from meshd.linux.emission_gate import KernelGate
from tests.lab.af_xdp import XdpSender
from tests.lab.bypass import send_raw
from tests.lab.gate_netns import ETH_P_MARKER, FAR_IP, FAR_MAC, NODE_MAC, Wire, inside

pytestmark = [pytest.mark.root, pytest.mark.lab]

LONG_S = 60.0
RAW_FRAME = FAR_MAC + NODE_MAC + struct.pack(">H", ETH_P_MARKER) + bytes(60)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


class Gates:
    """The gate of a daemon, and what lies below it."""

    def __init__(self, wire: Wire, notes: Path, management: dict[str, tuple[Station, ...]] | None = None) -> None:
        with inside(wire.node):
            self.stack = DeviceStack()
            kernel: list[KernelGate] = []

            def make(stations: Any) -> KernelGate:
                kernel.append(KernelGate(notes, stations))
                return kernel[0]

            self.covering = CoveringGate(make, self.stack, management or {})
        self.kernel = kernel[0]

    def release(self) -> None:
        self.kernel.release()
        self.stack.close()


@pytest.fixture
def gates(wire: Wire, tmp_path: Path) -> Iterator[Gates]:
    made = Gates(wire, tmp_path / "notes")
    yield made
    made.release()


def bridge(wire: Wire) -> str:
    wire.run("ip link add br0 type bridge")
    wire.run("ip link set rad0 master br0")
    return "br0"


def macvlan(wire: Wire) -> str:
    wire.run("ip link add child0 link rad0 type macvlan mode bridge")
    return "child0"


@pytest.mark.parametrize("make", [bridge, macvlan])
def test_what_is_below_a_silent_bearer_is_silent(wire: Wire, gates: Gates, make: Any) -> None:
    device = make(wire)
    wire.run(f"ip link set {device} up")
    gates.covering.open(device, LONG_S)
    send_raw(wire, "rad0")
    send_raw(wire, device)
    assert sum(frame[12:14] == struct.pack(">H", ETH_P_MARKER) for frame in wire.heard()) == 40
    gates.covering.close([device])
    wire.heard()
    for each in ("rad0", device):
        send_raw(wire, each)
        send_raw(wire, each, bypass=True)
    assert wire.heard() == []
    assert gates.covering.counters()[device].below == ("rad0",)
    assert gates.covering.problems() == {}


def test_a_port_that_joins_a_silent_bridge_falls_silent(wire: Wire, gates: Gates) -> None:
    wire.run("ip link add br0 type bridge")
    wire.run("ip link set br0 up")
    gates.covering.close(["br0"])
    send_raw(wire, "rad0")
    assert len(wire.heard()) >= 20
    wire.run("ip link set rad0 master br0")
    assert gates.covering.reapply() == ["rad0: it came below a device that is gated"]
    wire.heard()
    send_raw(wire, "rad0", bypass=True)
    assert wire.heard() == []
    wire.run("ip link set rad0 nomaster")  # still a radio
    gates.covering.reapply()
    send_raw(wire, "rad0")
    assert wire.heard() == []
    gates.covering.open("br0", LONG_S)
    send_raw(wire, "rad0")
    assert len(wire.heard()) >= 20


def test_a_shared_device_is_as_silent_as_any_of_its_bearers(wire: Wire, gates: Gates) -> None:
    for name in ("one0", "two0"):
        wire.run(f"ip link add {name} link rad0 type macvlan mode bridge")
        wire.run(f"ip link set {name} up")
    gates.covering.close(["one0"])
    gates.covering.open("two0", LONG_S)
    wire.heard()
    send_raw(wire, "two0")
    assert wire.heard() == []
    assert "rad0 is shut" in gates.covering.problems()["two0"]
    gates.covering.open("one0", LONG_S)
    send_raw(wire, "two0")
    assert len(wire.heard()) >= 20


def test_off_sets_what_is_below_down(wire: Wire, gates: Gates) -> None:
    device = macvlan(wire)
    wire.run(f"ip link set {device} up")
    with inside(wire.node):
        xdp = XdpSender("rad0")
    xdp.send(RAW_FRAME)
    assert RAW_FRAME in wire.heard()
    gates.covering.close([device], off=[device])
    wire.heard()
    with contextlib.suppress(OSError):
        xdp.send(RAW_FRAME)
    send_raw(wire, "rad0", bypass=True)
    assert wire.heard() == []
    xdp.close()


async def test_one_frame_that_passes_every_gate_is_an_alarm_within_a_second(wire: Wire, tmp_path: Path) -> None:
    station = Station(FAR_MAC.hex(":"), FAR_IP)
    gates = Gates(wire, tmp_path / "notes", {"child0": (station,)})
    macvlan(wire)
    wire.run("ip link set child0 up")
    alarms: list[str] = []
    rung = trio.Event()

    def report(kind: str, fields: dict[str, Any]) -> None:
        if kind == "emcon.alarm":
            alarms.append(f"{fields.get('device')}: {fields['text']}")
            rung.set()

    bearer = BearerSettings("sat", BearerKind.SATCOM, "child0", True, None, 1_000_000, 0x6D01, 15)
    settings = EmconSettings({"silent": EmconProfile("silent", {}, Posture.RX_ONLY)}, Posture.RX_ONLY, 5.0)
    with inside(wire.node):
        control = EmissionControl(
            settings,
            [bearer],
            gates.covering,
            tmp_path / "state",
            lambda _: None,
            report,
            lambda: 1,
            watch_kernel=False,
        )
        xdp = XdpSender("rad0")
    await control.start()
    async with trio.open_nursery() as nursery:
        await nursery.start(control.run)
        await trio.sleep(1.2)  # some looks, so that only what comes now is news
        wire.heard()
        with inside(wire.node), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"rad0")
            sender.sendto(b"to the radio's own port", (FAR_IP, 4556))
        assert len(wire.heard()) == 1
        await trio.sleep(1.2)
        assert alarms == []
        xdp.send(RAW_FRAME)
        sent_at = trio.current_time()
        with trio.fail_after(10.0):
            await rung.wait()
        assert trio.current_time() - sent_at < 1.0
        assert alarms == ["rad0: 1 frames left a device that is ordered silent"]
        assert wire.heard() == [RAW_FRAME]
        nursery.cancel_scope.cancel()
    control.close()
    xdp.close()
    gates.release()
