# SPDX-License-Identifier: Apache-2.0
"""Bearers that are assured on a kernel that leaves a path open; and devices that a hook's failure takes down."""

import dataclasses

import pytest

from meshd.emcon.commands import ChangePostures, CloseGate, OpenGate, OrderRefused, PersistState
from meshd.emcon.events import GateProbed, HookRan
from meshd.emcon.policy import EmconPolicy
from meshd.emcon.settings import EmconProfile
from meshd.link.settings import Posture
from tests.unit.emcon.emcon_samples import (
    BEARERS,
    LEASE_S,
    OPEN,
    PROFILES,
    RX_ONLY,
    Playbook,
    make_settings,
    only,
    order_state,
)

OFF = Posture.OFF
ASSURED = (dataclasses.replace(BEARERS[0], assured=True), *BEARERS[1:])
SETTINGS = dataclasses.replace(
    make_settings(), profiles={**PROFILES, "off": EmconProfile("off", {"sat": OFF}, RX_ONLY)}
)
WEAK = GateProbed("no clsact: what tc redirects passes")


def make(weakness: GateProbed) -> Playbook:
    playbook = Playbook(SETTINGS)
    playbook.policy = EmconPolicy(SETTINGS, ASSURED)
    playbook.tell(weakness)
    return playbook


def test_without_an_order_what_is_assured_is_off() -> None:
    playbook = make(WEAK)
    assert playbook.boot(None)[0] == CloseGate(("dev-sat", "los"), ("dev-sat",))
    assert playbook.policy.postures == {"sat": OFF, "los": RX_ONLY, "lan": OPEN}


def test_an_order_of_before_is_off_there_too() -> None:
    playbook = make(WEAK)
    playbook.boot(order_state("silent"))
    assert playbook.policy.postures == {"sat": OFF, "los": RX_ONLY, "lan": RX_ONLY}


def test_rx_only_is_refused_and_says_why() -> None:
    playbook = make(WEAK)
    playbook.boot(order_state("unrestricted"))
    (refused,) = only(playbook.order("silent"), OrderRefused)
    assert "sat is assured" in refused.reason
    assert "what tc redirects passes" in refused.reason
    assert only(playbook.order("off"), PersistState) != []
    assert playbook.policy.postures == {"sat": OFF, "los": RX_ONLY, "lan": RX_ONLY}


def test_on_a_whole_gate_nothing_is_refused() -> None:
    playbook = make(GateProbed(""))
    playbook.boot(order_state("unrestricted"))
    assert only(playbook.order("silent"), OrderRefused) == []
    assert playbook.policy.postures == dict.fromkeys(("sat", "los", "lan"), RX_ONLY)


@pytest.mark.parametrize("profile", ["unrestricted", "silent"])
def test_a_failed_hook_takes_the_device_down_until_it_works(profile: str) -> None:
    playbook = make(GateProbed(""))
    playbook.boot(order_state(profile))
    (closed,) = only(playbook.tell(HookRan("los", has_failed=True)), CloseGate)
    assert closed.off == ("los",)
    assert playbook.tell(HookRan("los", has_failed=True)) == []
    commands = playbook.tell(HookRan("los", has_failed=False))
    assert all("los" not in each.off for each in only(commands, CloseGate))
    assert (OpenGate("los", LEASE_S) in commands) is (profile == "unrestricted")
    assert only(commands, ChangePostures) != []
