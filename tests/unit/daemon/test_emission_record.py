# SPDX-License-Identifier: Apache-2.0
"""What goes on record of emission control, and the verdict on its counters."""

from collections.abc import Mapping
from typing import Any

import pytest

from meshd.base.errors import AuditError
from meshd.daemon.audit_desk import DAEMON, OK, Author
from meshd.daemon.emission_record import EmissionRecord, judge
from meshd.emcon.breaking import Breaking
from meshd.emcon.order import Order, OrderState
from meshd.link.link_table import Link, LinkTable
from meshd.link.settings import Posture
from tests.unit.daemon.fake_gate import FakeGate
from tests.unit.emcon.emcon_samples import BEARERS


class FakeAudit:
    """Takes entries, or none."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Mapping[str, Any]]] = []
        self.is_full = False

    def note(self, action: str, details: Mapping[str, Any], outcome: str = OK, author: Author = DAEMON) -> None:
        self.entries.append((action, details))

    async def append(self, action: str, details: Mapping[str, Any], author: Author = DAEMON) -> None:
        if self.is_full:
            raise AuditError("full")
        self.entries.append((action, details))


class World:
    def __init__(self) -> None:
        self.audit = FakeAudit()
        self.gate = FakeGate()
        self.gate.is_open = {bearer.device: False for bearer in BEARERS}
        self.reports: list[str] = []
        self.now = 100.0
        self.links: list[Link] = list(LinkTable(BEARERS, [], 0.0).links())
        self.breaking = Breaking()
        self.record = EmissionRecord(
            self.audit,
            self.gate,
            BEARERS,
            lambda kind, _: self.reports.append(kind),
            lambda: self.links,
            self.breaking,
            lambda: self.now,
        )

    def enter(self, posture: Posture) -> None:
        self.gate.is_open = dict.fromkeys(self.gate.is_open, posture is Posture.OPEN)
        self.record.postures_changed({bearer.name: posture for bearer in BEARERS})


def test_a_change_is_on_record_with_the_counters_before_and_after() -> None:
    world = World()
    world.record.report("emcon.boot", {"profile": "boot"})
    world.now += 2.0
    world.gate.tx_frames["los"] = 7
    world.record.report("emcon.order", {"profile": "silent"})
    (_, first), (kind, second) = world.audit.entries
    assert world.reports == ["emcon.boot", "emcon.order"]
    assert first["before"] is None
    assert (kind, second["profile"]) == ("emcon.order", "silent")
    assert second["before"] == {"age_s": 2.0, "counters": first["after"]}
    assert (first["after"]["los"], second["after"]["los"]) == ([0, 5, 0], [7, 5, 0])


def test_a_gate_that_can_not_be_read_does_not_keep_a_change_off_the_record() -> None:
    world = World()
    world.gate.fails = True
    world.record.report("emcon.order", {"profile": "silent"})
    assert world.audit.entries == [("emcon.order", {"profile": "silent", "before": None, "after": None})]


async def test_before_anything_opens_it_is_on_the_disk() -> None:
    world = World()
    order = Order("unrestricted", "uid 7", "we attack", 5, None)
    await world.record.before_opening(OrderState(order, is_bounded=False, before=None))
    ((kind, details),) = world.audit.entries
    assert (kind, details["by"], details["reason"]) == ("emcon.opening", "uid 7", "we attack")
    assert details["before"]["counters"]["los"] == [0, 5, 0]
    await world.record.before_opening(None)
    assert world.audit.entries[1][1]["profile"] == "boot"
    world.audit.is_full = True
    with pytest.raises(AuditError):
        await world.record.before_opening(None)


def test_verify_counts_from_the_change_of_posture_on() -> None:
    world = World()
    world.gate.tx_frames["los"] = 9
    world.enter(Posture.RX_ONLY)
    world.now += 60.0
    rows = {row["bearer"]: row for row in world.record.verify()["bearers"]}
    assert (rows["los"]["verdict"], rows["los"]["device_frames"], rows["los"]["for_s"]) == ("silent", 0, 60.0)
    world.gate.tx_frames["los"] = 11
    verdict = world.record.verify()
    assert not verdict["good"]
    assert [row["verdict"] for row in verdict["bearers"] if not row["good"]] == ["LEAK: 2 frames left the device"]
    world.enter(Posture.OPEN)
    assert world.record.verify()["good"]


@pytest.mark.parametrize(
    ("posture", "is_open", "frames", "bundles", "good", "word"),
    [
        (Posture.RX_ONLY, False, 0, 0, True, "silent"),
        (Posture.RX_ONLY, False, 0, 3, True, "held back"),
        (Posture.RX_ONLY, True, 0, 0, False, "gate is open"),
        (Posture.RX_ONLY, False, 1, 0, False, "LEAK"),
        (Posture.OPEN, True, 5, 3, True, "agrees"),
        (Posture.OPEN, True, 0, 0, True, "agrees"),
        (Posture.OPEN, False, 5, 3, False, "shut"),
        (Posture.OPEN, True, 0, 3, False, "device sent nothing"),
        (Posture.OPEN, None, None, 3, False, "nobody counts"),
        (Posture.RX_ONLY, False, -4, 0, False, "made anew"),
    ],
)
def test_the_verdict(
    posture: Posture, is_open: bool | None, frames: int | None, bundles: int, good: bool, word: str
) -> None:
    found, text = judge(posture, is_open, frames, bundles)
    assert found is good
    assert word in text
