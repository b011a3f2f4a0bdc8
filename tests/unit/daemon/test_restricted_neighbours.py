# SPDX-License-Identifier: Apache-2.0
"""Neighbour entries while a bearer is restricted."""

import dataclasses
from typing import Any

import pytest

from meshd.base.errors import MeshdError
from meshd.bundle.eid import parse_eid
from meshd.daemon.restricted_neighbours import RestrictedNeighbours
from meshd.link.settings import BearerKind, BearerSettings, NeighbourSettings, Posture, Station

BEARER = BearerSettings("los", BearerKind.LOS, "rad0", True, None, 1_000_000, 0x6D01, 15)
NEIGHBOURS = [
    NeighbourSettings(parse_eid("dtn://a/"), "los", "10.0.0.2:4556", mac="02:00:00:00:00:02"),
    NeighbourSettings(parse_eid("dtn://b/"), "los", "[fd00::3]:4556"),
    NeighbourSettings(parse_eid("dtn://c/"), "lan", "10.9.0.4:4556"),
    NeighbourSettings(parse_eid("dtn://d/"), "los", None),
]


class Entries:
    """What was asked of the kernel."""

    def __init__(self, known: list[str]) -> None:
        self.known = known
        self.pinned: dict[str, str | None] = {}
        self.fails = False

    def pin_known(self, device: str) -> list[str]:
        if self.fails:
            raise MeshdError("no such device")
        self.pinned |= dict.fromkeys(self.known)
        return list(self.known)

    def pin(self, device: str, host: str, mac: str | None) -> bool:
        if mac is not None:
            self.pinned[host] = mac
        return mac is not None

    def release(self, device: str, host: str) -> None:
        del self.pinned[host]


def make(known: list[str]) -> tuple[RestrictedNeighbours, Entries, list[str]]:
    entries, alarms = Entries(known), []

    def report(kind: str, fields: dict[str, Any]) -> None:
        assert kind == "emcon.alarm"
        alarms.append(fields["text"])

    return RestrictedNeighbours([BEARER], entries, report), entries, alarms


def test_entries_are_permanent_as_long_as_the_restriction_holds() -> None:
    restricted, entries, alarms = make(["10.0.0.1", "fd00::3"])
    restricted.postures_changed({"los": Posture.RESTRICTED}, NEIGHBOURS)
    pinned = {"10.0.0.1": None, "fd00::3": None, "10.0.0.2": "02:00:00:00:00:02"}
    assert entries.pinned == pinned
    restricted.postures_changed({"los": Posture.RESTRICTED}, NEIGHBOURS)
    assert (entries.pinned, alarms) == (pinned, [])
    restricted.postures_changed({"los": Posture.RX_ONLY}, NEIGHBOURS)
    assert entries.pinned == {}


def test_an_unknown_neighbour_is_an_alarm() -> None:
    restricted, _, alarms = make([])
    restricted.postures_changed({"los": Posture.RESTRICTED}, NEIGHBOURS)
    assert alarms == ["dtn://b/ can't be reached: its hardware address is not known (mac)"]


@pytest.mark.parametrize("posture", [Posture.OPEN, Posture.RX_ONLY, Posture.OFF])
def test_nothing_is_pinned_otherwise(posture: Posture) -> None:
    restricted, entries, _ = make(["10.0.0.1"])
    restricted.postures_changed({"los": posture}, NEIGHBOURS)
    assert entries.pinned == {}


def test_what_the_kernel_refuses_is_an_alarm() -> None:
    restricted, entries, alarms = make([])
    entries.fails = True
    restricted.postures_changed({"los": Posture.RESTRICTED}, NEIGHBOURS)
    assert alarms == ["neighbours may not be reached: no such device"]


def test_stations_are_always_known() -> None:
    bearer = dataclasses.replace(BEARER, management=(Station("02:00:00:00:00:09", "10.9.0.2"),))
    entries = Entries([])
    restricted = RestrictedNeighbours([bearer], entries, lambda *_: None)
    for posture in (Posture.RX_ONLY, Posture.RESTRICTED, Posture.OPEN):
        restricted.postures_changed({"los": posture}, [])
        assert entries.pinned == {"10.9.0.2": "02:00:00:00:00:09"}
