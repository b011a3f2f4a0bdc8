# SPDX-License-Identifier: Apache-2.0
"""Silence on order: a silent neighbour receives and is not counted on to send; this node's own has an end."""

import pytest

from meshd.bundle.eid import Eid
from meshd.link.settings import Posture
from meshd.node import events as ev
from meshd.routing.contact import Contact
from tests.unit.node.playbook import DPOP2, HOME, LAN, NODE, SAT, STRANGER, Playbook


def plan(play: Playbook, sender: Eid, receiver: Eid, bearer: str) -> None:
    """A radiating contact that has begun and lasts for an hour."""
    now_s = play.now_ms / 1000
    play.plan.add([Contact(sender, receiver, bearer, now_s - 60, now_s + 3600, 1_000_000, 0.1, radiates=True)])
    play.handle(ev.ContactsChanged())


def test_a_silent_neighbour_receives_and_is_no_relay_until_it_speaks() -> None:
    play = Playbook()
    play.up(LAN)
    plan(play, DPOP2, STRANGER, "los0")
    play.handle(ev.NeighbourSilent(DPOP2, 0))
    assert play.kinds == ["neighbour.silent"]
    play.bundle("a", Eid("dtn://stranger/inbox"))
    play.take_in("a", link=SAT)
    assert play.state("a") == "waiting"
    play.bundle("b", DPOP2)
    assert play.take_in("b", link=SAT) == ["accept sat0>home b", "send lan0>dpop2 b"], "it still receives"
    assert play.handle(ev.NeighbourSpeaks(DPOP2)) == ["send lan0>dpop2 a"]


def test_after_a_silence_whose_end_is_known_it_is_a_relay() -> None:
    play = Playbook()
    play.up(LAN)
    plan(play, DPOP2, STRANGER, "los0")
    play.handle(ev.NeighbourSilent(DPOP2, 600))
    play.bundle("a", Eid("dtn://stranger/inbox"))
    assert play.take_in("a", link=SAT) == ["accept sat0>home a", "send lan0>dpop2 a"], "it waits there"


@pytest.mark.parametrize("for_ms", [600_000, None])
def test_the_end_of_the_own_silence_begins_a_contact(for_ms: int | None) -> None:
    play = Playbook()
    plan(play, NODE, HOME, "sat0")
    until_ms = None if for_ms is None else play.now_ms + for_ms
    play.handle(ev.PosturesChanged({"sat0": Posture.RX_ONLY}, until_ms))
    play.take_in("a")
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert ("in 600 s" in entry.reason) is (for_ms is not None), entry.reason
