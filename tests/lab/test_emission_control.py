# SPDX-License-Identifier: Apache-2.0
"""Emission control whole: orders, state file and the running kernel, heard by the sniffer outside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from meshd.daemon.emission import EmissionControl
from meshd.emcon.settings import EmconProfile, EmconSettings
from meshd.link.settings import BearerKind, BearerSettings, Posture
from meshd.linux.emission_gate import KernelGate
from tests.lab.gate_netns import WAIT_S, Wire, inside

pytestmark = [pytest.mark.root, pytest.mark.lab]

PATHS = ["udp", "packet", "qdisc_bypass", "arp_answer", "ping_answer"]
BEARERS = (
    BearerSettings("sat", BearerKind.SATCOM, "rad0", True, None, 2_000_000, 0x6D01, 15),
    BearerSettings("lan", BearerKind.TERRESTRIAL, "out0", False, None, 2_000_000, 0x6D01, 15),
)
PROFILES = {
    "unrestricted": EmconProfile("unrestricted", {}, Posture.OPEN),
    "quiet-radio": EmconProfile("quiet-radio", {"sat": Posture.RX_ONLY}, Posture.OPEN),
}


class Host:
    """A daemon's emission control in the node's namespace."""

    def __init__(self, wire: Wire, directory: Path) -> None:
        self.wire = wire
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.mended = trio.Event()
        with inside(wire.node):
            self.gate = KernelGate(directory / "run")
        self.control = EmissionControl(
            EmconSettings(PROFILES, Posture.RX_ONLY, 30.0),
            BEARERS,
            self.gate,
            directory / "emcon.state",
            lambda postures: None,
            self.take_report,
            lambda: 1_800_000_000_000,
        )

    def take_report(self, kind: str, fields: dict[str, Any]) -> None:
        self.reports.append((kind, fields))
        if "whole again" in str(fields.get("text")):
            self.mended.set()

    async def start(self) -> None:
        with inside(self.wire.node):
            await self.control.start()

    def frames(self) -> int:
        """How many frames leave while everything is tried."""
        self.wire.heard()
        for path in PATHS:
            self.wire.emit(path)
        return len(self.wire.heard())


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def host(wire: Wire, tmp_path: Path) -> Iterator[Host]:
    made = Host(wire, tmp_path)
    yield made
    made.control.close()
    made.gate.release()


async def test_silent_from_the_first_moment_until_ordered_open(host: Host) -> None:
    assert host.frames() > 0
    await host.start()
    assert host.frames() == 0
    status = await host.control.order("unrestricted", None, None, "uid 0")
    assert status["bearers"][0]["gate"]["open"]
    assert status["bearers"][0]["problem"] is None
    assert host.frames() > 0
    status = await host.control.order("quiet-radio", None, None, "uid 0")
    assert host.frames() == 0
    assert not status["bearers"][0]["gate"]["open"]
    assert status["bearers"][1]["gate"] is None or status["bearers"][1]["gate"]["open"]


async def test_a_restart_keeps_the_silence_and_the_opening(host: Host, tmp_path: Path) -> None:
    await host.start()
    await host.control.order("unrestricted", None, None, "uid 0")
    host.control.close()
    successor = Host(host.wire, tmp_path)
    await successor.start()
    assert successor.frames() > 0
    await successor.control.order("quiet-radio", None, None, "uid 0")
    assert successor.frames() == 0
    successor.control.close()
    third = Host(host.wire, tmp_path)
    await third.start()
    assert third.frames() == 0
    third.control.close()
    for gate in (successor.gate, third.gate):
        gate.disconnect()


@pytest.mark.parametrize("tampering", ["nft flush ruleset", "tc qdisc delete dev rad0 clsact", "ip link delete rad0"])
async def test_whatever_is_taken_away_is_there_again(host: Host, nursery: trio.Nursery, tampering: str) -> None:
    await host.start()
    await nursery.start(host.control.run)
    host.wire.run(tampering)
    if "delete rad0" in tampering:
        host.wire.remake_device()
    with trio.fail_after(WAIT_S):
        await host.mended.wait()
    assert host.frames() == 0
    assert host.control.status()["bearers"][0]["problem"] is None
    assert host.gate.reapply() == []
