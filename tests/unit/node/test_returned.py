# SPDX-License-Identifier: Apache-2.0
"""Late acknowledgements and bundles that come back: whoever gave its bundle up relies on the one that is here."""

from msgspec import structs

from meshd.bundle.eid import Eid, parse_eid
from meshd.link.identity import LinkId
from meshd.link.settings import NeighbourSettings
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.settings import GroupSettings
from meshd.node.state import ENTRUSTED_MAX
from meshd.routing.contact import Contact
from tests.unit.node.playbook import DPOP2, HOME, LAN, NEIGHBOURS, NO_ROOM, NODE, SAT, STRANGER, Playbook

GROUP = parse_eid("dtn://convoy/~orders")
INBOX = parse_eid("dtn://stranger/inbox")
DPOP3 = parse_eid("dtn://dpop3/")
LAN3 = LinkId("lan0", DPOP3)
FAR = LinkId("lan0", parse_eid("dtn://far/"))
ALL = (NeighbourSettings(DPOP3, "lan0", None), *NEIGHBOURS)


def onward(play: Playbook, *senders: LinkId, confidence: float = 1.0) -> None:
    """These neighbours can send to the stranger."""
    now_s = play.now_ms / 1000
    play.plan.add(
        [
            Contact(each.neighbour, STRANGER, "x", now_s, now_s + 3000, 10**6, 0.0, confidence=confidence)
            for each in senders
        ]
    )
    play.handle(ev.ContactsChanged())


def two_ways(confidence: float = 1.0) -> Playbook:
    """To the stranger."""
    play = Playbook(neighbours=ALL)
    onward(play, LAN, SAT, confidence=confidence)
    play.up(LAN, SAT)
    return play


def test_forwarded_anew_and_acknowledged_late_it_is_gone_once() -> None:
    play = two_ways()
    play.bundle("a", INBOX)
    assert play.take_in("a", link=FAR) == ["accept lan0>far a", "send lan0>dpop2 a"]
    assert play.handle(ev.LinkDown(LAN, "its contact is over")) == ["send sat0>home a"]
    assert play.handle(play.acknowledged(LAN, "a")) == ["store delete a"]
    assert play.handle(play.acknowledged(SAT, "a")) == []
    assert play.agent.forwarding.in_flight(SAT) == 0


def test_an_acknowledgement_from_before_it_came_back_does_not_count() -> None:
    play = two_ways()
    play.bundle("a", INBOX)
    play.take_in("a", link=FAR)
    play.handle(ev.LinkDown(SAT, "gone"))
    play.handle(ev.LinkDown(LAN, "its contact is over"))
    assert play.state("a") == "waiting"
    play.up(LinkId("lan0", HOME))
    play.handle(ev.LinkDown(LinkId("lan0", HOME), "gone"))
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")
    assert play.handle(play.acknowledged(LAN, "a")) == []
    assert play.state("a") == "waiting", "the neighbour has given its own up"
    assert play.up(SAT) == ["send sat0>home a"]
    assert play.handle(play.acknowledged(SAT, "a")) == ["store delete a"]


def test_a_copy_that_came_back_is_not_copied_again() -> None:
    play = two_ways(confidence=0.5)
    name = play.submit(destination=INBOX)
    entry = play.agent.entry(play.id(name))
    assert entry is not None
    play.handle(play.acknowledged(LAN, name))
    play.handle(play.failed(SAT, NO_ROOM, name))
    assert play.agent.forwarding.brought_again(entry, DPOP2)
    play.later(100)
    assert play.handle(ev.TimerFired()) == [f"send sat0>home {name}"], "not to dpop2, which has brought it"
    assert play.handle(play.acknowledged(LAN, name)) == [], "late"
    assert play.state(name) == "replicating"
    assert f"store delete {name}" in play.handle(play.acknowledged(SAT, name))[0]


def group(*members: Eid) -> Playbook:
    """One that relays: the node is no member unless it is named."""
    groups = (GroupSettings(GROUP, frozenset(members)),)
    return Playbook(neighbours=ALL, groups=groups)


def test_a_group_bundle_that_comes_back_goes_to_whom_others_had_taken_it_for() -> None:
    play = group(DPOP2, HOME, STRANGER)
    onward(play, LAN)
    play.up(LAN, SAT)
    play.bundle("a", GROUP, source=parse_eid("dtn://far/inbox"))
    assert play.take_in("a", link=FAR) == ["accept lan0>far a", "send lan0>dpop2 a", "send sat0>home a"]
    play.handle(play.acknowledged(SAT, "a"))
    play.handle(play.acknowledged(LAN, "a"))
    assert play.state("a") is None, "dpop2 has it for the stranger, too"
    play.expect(play.received(FAR, "a"), "accept lan0>far a")
    assert play.state("a") is None, "who brought it has not heard of it"
    play.take_in("a", link=LAN)
    assert play.state("a") == "replicating"
    assert play.up(LinkId("lan0", STRANGER)) == ["send lan0>stranger a"], "and to nobody else"
    play.handle(play.acknowledged(LinkId("lan0", STRANGER), "a"))
    assert play.state("a") is None


def test_a_member_does_not_deliver_what_comes_back_twice() -> None:
    play = group(NODE, DPOP2, STRANGER)
    onward(play, LAN)
    play.up(LAN)
    play.handle(ev.ReceiverAttached(1, GROUP))
    play.bundle("a", GROUP, source=parse_eid("dtn://far/inbox"))
    play.take_in("a", link=FAR)
    assert any(isinstance(each, cmd.DeliverMessage) for each in play.commands)
    play.handle(play.confirmed(1, "a"))
    play.handle(play.acknowledged(LAN, "a"))
    assert play.state("a") is None
    play.take_in("a", link=LAN3)
    assert not any(isinstance(each, cmd.DeliverMessage) for each in play.commands)
    assert play.state("a") == "replicating"


def test_without_a_hop_limit_it_is_not_taken_again() -> None:
    play = group(DPOP2, STRANGER)
    onward(play, LAN)
    play.up(LAN)
    play.bundle("a", GROUP, source=parse_eid("dtn://far/inbox"), hop_limit=None)
    play.take_in("a", link=FAR)
    play.handle(play.acknowledged(LAN, "a"))
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")


def test_a_member_that_was_entrusted_to_this_node_waits_when_its_way_leads_back() -> None:
    play = group(DPOP2, STRANGER)
    onward(play, LAN3)
    play.bundle("a", GROUP, source=parse_eid("dtn://far/inbox"))
    play.up(LAN3)
    play.take_in("a", link=FAR)
    play.handle(ev.LinkDown(LAN3, "gone"))
    play.up(FAR)
    play.plan.remove_between(None, None)
    onward(play, FAR)
    assert play.state("a") == "replicating"
    assert play.up(LinkId("lan0", STRANGER)) == ["send lan0>stranger a"]


def test_of_bundles_to_groups_that_are_gone_the_oldest_are_forgotten() -> None:
    play = group(DPOP2, STRANGER)
    state = play.agent._state
    play.bundle("a", GROUP)
    play.handle(play.received(LAN, "a"))
    record = play.records[play.id("a")]
    for sequence in range(ENTRUSTED_MAX + 1):
        state.entrust(structs.replace(record, id=record.id._replace(sequence=sequence)), {STRANGER})
    returned = [state.is_returned(record.id._replace(sequence=each), HOME) for each in (0, 1, ENTRUSTED_MAX)]
    assert returned == [False, True, True]
