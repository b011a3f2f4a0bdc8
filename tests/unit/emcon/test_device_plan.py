# SPDX-License-Identifier: Apache-2.0
"""Restricted and switched-off bearers: what their devices are to do, and in which sequence policy wants it."""

import dataclasses

import pytest

from meshd.emcon.commands import ChangePostures, CloseGate, OpenGate, OrderRefused, PersistState, RestrictGate
from meshd.emcon.device_plan import DevicePlan
from meshd.emcon.events import GateFailed, Persisted, PersistingFailed, SettingsChanged, TimerFired
from meshd.emcon.gate import GateLimits
from meshd.emcon.profile import tightest
from meshd.emcon.settings import EmconProfile, Restriction
from meshd.emcon.upkeep import GATE_RETRY_S
from meshd.link.settings import Posture
from tests.unit.emcon.emcon_samples import (
    BEARERS,
    LEASE_S,
    OPEN,
    PROFILES,
    RX_ONLY,
    WALL_MS,
    Playbook,
    make_bearer,
    make_settings,
    only,
    order_state,
)

RESTRICTED, OFF = Posture.RESTRICTED, Posture.OFF
MIB = 1 << 20
WIDE, NARROW = Restriction(MIB, 50), Restriction(1000, 1, 4)
SETTINGS = dataclasses.replace(
    make_settings(),
    profiles={
        **PROFILES,
        "wide": EmconProfile("wide", {}, OPEN, RESTRICTED, {"radiating": WIDE}),
        "narrow": EmconProfile("narrow", {"sat": RESTRICTED}, OFF, None, {"sat": NARROW}),
    },
)
WIDE_LIMITS = GateLimits((0x6D01,), MIB, 125_000, 1564)
NARROW_LIMITS = GateLimits((0x6D01,), 1000, 2500, 1564)


@pytest.fixture
def playbook() -> Playbook:
    return Playbook(SETTINGS)


def plan(postures: dict[str, Posture], restrictions: dict[str, Restriction], *devices: str) -> DevicePlan:
    bearers = tuple(make_bearer(name, True, device) for name, device in zip(postures, devices, strict=True))
    return DevicePlan.make(postures, restrictions, SETTINGS, bearers)


def test_a_shared_device_has_the_tightest_limits_of_any_bearer() -> None:
    made = plan({"a": RESTRICTED, "b": RESTRICTED, "c": OPEN}, {"a": WIDE, "b": NARROW}, "eth1", "eth1", "eth1")
    assert made.restricted == {"eth1": (NARROW_LIMITS, LEASE_S)}
    assert (made.open, made.shut) == ({}, ())


def test_one_that_is_off_takes_a_shared_device_down() -> None:
    made = plan({"a": OFF, "b": RX_ONLY, "c": RX_ONLY}, {}, "eth1", "eth1", "eth2")
    assert made.close(made.shut) == [CloseGate(("eth1", "eth2"), ("eth1",))]


def test_the_tightest_of_all_values() -> None:
    assert tightest([Restriction(None, 5, 1), Restriction(7, None, 3)]) == Restriction(7, 5, 3)


def test_from_open_a_restriction_holds_at_once_and_is_then_written(playbook: Playbook) -> None:
    playbook.boot(order_state("unrestricted"))
    commands = playbook.order("wide")
    assert commands[:2] == [RestrictGate("dev-sat", WIDE_LIMITS, LEASE_S), RestrictGate("los", WIDE_LIMITS, LEASE_S)]
    assert isinstance(commands[-1], PersistState)
    assert playbook.policy.restrictions == {"sat": WIDE, "los": WIDE}


def test_from_silence_a_restriction_waits_for_the_disk(playbook: Playbook) -> None:
    playbook.boot(order_state("silent"))
    commands = playbook.order("wide")
    assert only(commands, RestrictGate) == []
    (write,) = only(commands, PersistState)
    commands = playbook.tell(Persisted(write.number))
    assert [each.device for each in only(commands, RestrictGate)] == ["dev-sat", "los"]


def test_tighter_at_once_and_wider_only_when_durable(playbook: Playbook) -> None:
    playbook.boot(order_state("wide"))
    commands = playbook.order("narrow")
    assert commands[:3] == [
        CloseGate(("los", "lan"), ("los", "lan")),
        RestrictGate("dev-sat", NARROW_LIMITS, LEASE_S),
        ChangePostures({"sat": RESTRICTED, "los": OFF, "lan": OFF}),
    ]
    (write,) = only(commands, PersistState)
    playbook.tell(Persisted(write.number))
    commands = playbook.order("wide")
    assert only(commands, RestrictGate) == []
    (write,) = only(commands, PersistState)
    (refused,) = only(playbook.tell(PersistingFailed(write.number, "no space left")), OrderRefused)
    assert "no space left" in refused.reason
    assert playbook.policy.restrictions == {"sat": NARROW}


def test_leases_of_restricted_devices_are_renewed(playbook: Playbook) -> None:
    playbook.boot(order_state("wide"))
    playbook.now += LEASE_S / 3
    commands = playbook.tell(TimerFired(WALL_MS))
    assert only(commands, RestrictGate) == [
        RestrictGate("dev-sat", WIDE_LIMITS, LEASE_S),
        RestrictGate("los", WIDE_LIMITS, LEASE_S),
    ]
    assert only(commands, OpenGate) == []


def test_what_the_kernel_refused_is_tried_again_as_it_was_ordered(playbook: Playbook) -> None:
    playbook.boot(order_state("narrow"))
    playbook.tell(GateFailed(("dev-sat", "los"), "no"))
    playbook.now += GATE_RETRY_S
    commands = playbook.tell(TimerFired(WALL_MS))
    assert commands[:2] == [CloseGate(("los",), ("los",)), RestrictGate("dev-sat", NARROW_LIMITS, LEASE_S)]


def test_an_order_with_an_end_brings_a_restriction_back(playbook: Playbook) -> None:
    playbook.boot(order_state("wide"))
    (write,) = only(playbook.order("silent", for_s=60.0), PersistState)
    playbook.tell(Persisted(write.number))
    playbook.now += 60.0
    (write,) = only(playbook.tell(TimerFired(WALL_MS + 60_000)), PersistState)
    commands = playbook.tell(Persisted(write.number))
    assert len(only(commands, RestrictGate)) == 2
    assert playbook.policy.restrictions == {"sat": WIDE, "los": WIDE}


def test_a_reload_changes_the_limits(playbook: Playbook) -> None:
    playbook.boot(order_state("wide"))
    wide = EmconProfile("wide", {}, OPEN, RESTRICTED, {"radiating": NARROW})
    changed = dataclasses.replace(SETTINGS, profiles={**SETTINGS.profiles, "wide": wide})
    commands = playbook.tell(SettingsChanged(changed, BEARERS))
    assert [each.limits for each in only(commands, RestrictGate)] == [NARROW_LIMITS, NARROW_LIMITS]
