# SPDX-License-Identifier: Apache-2.0
"""Contacts and the agent: what waits goes when one begins, what is queued is decided anew when it ends, copies."""

from typing import Any

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.eid import parse_eid
from meshd.bundle.precedence import Precedence
from meshd.link.identity import LinkId
from meshd.node import events as ev
from meshd.routing.contact import Contact
from tests.unit.node.playbook import (
    ENDED,
    LAN,
    NO_ROOM,
    NODE,
    SAT,
    START_S,
    STRANGER,
    UTC_OFFSET_MS,
    Playbook,
)

FAR = LinkId("lan0", parse_eid("dtn://far/"))
STRANGER_INBOX = parse_eid("dtn://stranger/inbox")
T = START_S + UTC_OFFSET_MS / 1000
"""DTN time at the start."""


def contact(link: LinkId, start_s: float, end_s: float, rate_bps: int = 10**6) -> Contact:
    """One of this node's own, in seconds from the start."""
    return Contact(NODE, link.neighbour, link.bearer, T + start_s, T + end_s, rate_bps, 0.0)


def onward(link: LinkId, start_s: float = 0, end_s: float = 3000, **changes: Any) -> Contact:
    """From a neighbour to the stranger."""
    return Contact(link.neighbour, STRANGER, "x", T + start_s, T + end_s, 10**6, 0.0, **changes)


def planned(*contacts: Contact, **changes: Any) -> Playbook:
    """A node with a plan."""
    play = Playbook(**changes)
    play.plan.add(contacts)
    return play


def test_it_waits_for_its_contact_and_is_asked_again_when_that_begins() -> None:
    play = planned(contact(SAT, 60, 600))
    play.take_in("a")
    assert (play.state("a"), play.wake_at) == ("waiting", START_S + 60)
    play.up(LAN)
    play.now = START_S + 60
    play.handle(ev.TimerFired())
    assert play.state("a") == "waiting", "the link is late"
    assert play.up(SAT) == ["send sat0>home a"]


def test_what_is_queued_when_a_contact_ends_is_decided_anew() -> None:
    play = planned(contact(LAN, -5, 60), onward(LAN), onward(SAT, 1000))
    play.handle(ev.LinkUp(LAN))
    play.handle(ev.LinkUp(SAT))
    play.bundle("a", STRANGER, source=STRANGER)
    play.take_in("a", link=FAR)
    assert (play.agent.forwarding.queued(LAN)[0], play.wake_at) == (1, START_S + 60)
    play.now = START_S + 60
    play.handle(ev.TimerFired())
    assert (play.agent.forwarding.queued(LAN)[0], play.state("a")) == (1, "queued"), "up for longer than planned"
    play.handle(ev.LinkDown(LAN, "gone"))
    assert play.agent.forwarding.queued(SAT)[0] == 1


def test_parked_bundles_wait_for_their_contact_too() -> None:
    play = planned(contact(SAT, 60, 600))
    play.take_in("a")
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    again = planned(contact(SAT, 60, 600))
    again.name("a", entry.record.id)
    again.handle(ev.StoreRecovered([entry.record], (), {}))
    assert again.agent._state.table.parked.records
    assert again.wake_at == START_S + 60
    again.now = START_S + 61
    assert again.up(SAT) == ["send sat0>home a"]


def test_more_urgent_ones_take_the_place_of_what_waits() -> None:
    play = planned(contact(SAT, 60, 61, 1200), contact(SAT, 500, 600))
    play.take_in("a")
    assert play.wake_at == START_S + 60
    play.bundle("b", precedence=Precedence.IMMEDIATE)
    play.take_in("b")
    waiting = {name: play.agent.entry(play.id(name)) for name in "ab"}
    assert {name: "in 500 s" in entry.reason for name, entry in waiting.items() if entry} == {"a": True, "b": False}


def test_more_urgent_ones_take_the_place_of_what_is_queued() -> None:
    play = planned(contact(SAT, -5, 0.0028))
    play.handle(ev.LinkUp(SAT))
    for name, precedence in (("a", Precedence.ROUTINE), ("b", Precedence.IMMEDIATE)):
        play.bundle(name, payload=bytes(100), precedence=precedence, flags=BundleFlag.MUST_NOT_FRAGMENT)
        play.take_in(name)
    assert [play.state(name) for name in "ab"] == ["waiting", "queued"]


def doubtful(*contacts: Contact) -> Playbook:
    """Two neighbours who may meet the stranger, neither of them surely."""
    play = planned(onward(LAN, confidence=0.5), onward(SAT, confidence=0.5), *contacts)
    play.up(LAN, SAT)
    return play


def test_a_message_goes_over_two_doubtful_ways_and_is_forgotten_when_both_have_it() -> None:
    play = doubtful()
    name = play.submit(destination=STRANGER_INBOX)
    assert play.state(name) == "replicating"
    assert [play.agent.forwarding.in_flight(link) for link in (LAN, SAT)] == [1, 1]
    play.handle(play.acknowledged(LAN, name))
    assert play.state(name) == "replicating"
    assert "store delete" in play.handle(play.acknowledged(SAT, name))[0]
    assert play.state(name) is None
    assert not any(key.startswith("copies/") for key in play.agent._state.notes)


def test_a_copy_that_does_not_get_through_is_decided_anew() -> None:
    play = doubtful()
    name = play.submit(destination=STRANGER_INBOX)
    play.handle(play.acknowledged(LAN, name))
    play.handle(play.failed(SAT, NO_ROOM, name))
    assert play.state(name) == "replicating", "it is offered again later"
    play.now = play.wake_at or 0.0
    assert play.handle(ev.TimerFired()) == [f"send sat0>home {name}"]
    play.handle(ev.LinkDown(SAT, "gone"))
    assert play.state(name) is None, "one copy is out, and no other way is known"


def test_it_stays_when_both_copies_fail() -> None:
    play = doubtful()
    name = play.submit(destination=STRANGER_INBOX)
    play.handle(play.failed(SAT, ENDED, name))
    play.handle(ev.LinkDown(SAT, "gone"))
    play.handle(ev.LinkDown(LAN, "gone"))
    assert play.state(name) == "waiting"
    assert play.up(LAN) == [f"send lan0>dpop2 {name}"]


def test_what_others_brought_is_not_multiplied() -> None:
    play = doubtful()
    play.bundle("a", STRANGER_INBOX)
    assert play.take_in("a", link=FAR) == ["accept lan0>far a", "send lan0>dpop2 a"]


def test_the_second_copy_goes_when_its_contact_begins() -> None:
    play = planned(onward(LAN, confidence=0.5), onward(SAT, confidence=0.5), contact(SAT, 100, 2000))
    play.up(LAN)
    name = play.submit(destination=STRANGER_INBOX)
    play.handle(play.acknowledged(LAN, name))
    assert (play.state(name), play.wake_at) == ("replicating", START_S + 100)
    assert play.up(SAT) == [f"send sat0>home {name}"]
    play.handle(play.acknowledged(SAT, name))
    assert play.state(name) is None


def test_a_message_that_is_cancelled_while_copies_are_out_is_gone() -> None:
    play = doubtful()
    name = play.submit(destination=STRANGER_INBOX)
    play.handle(ev.BundleCancelled(play.id(name), "uid 0"))
    assert play.state(name) is None
    assert [play.agent.forwarding.in_flight(link) for link in (LAN, SAT)] == [0, 0]
