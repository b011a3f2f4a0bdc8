# SPDX-License-Identifier: Apache-2.0
"""Copies of a bundle to a node to which no way is known: two go out, the last one stays until there is a way."""

from meshd.bundle.eid import parse_eid
from meshd.link.identity import LinkId
from meshd.node import events as ev
from meshd.routing.contact import Contact
from meshd.routing.spray_and_wait import SPRAY_AFTER_S, SPRAY_MAX_BYTES
from tests.unit.node.playbook import DPOP2, ENDED, HOME, LAN, LAN_HOME, SAT, Playbook

NOBODY = parse_eid("dtn://nobody/")
INBOX = parse_eid("dtn://nobody/inbox")
FAR = LinkId("lan0", parse_eid("dtn://far/"))
MEETING = LinkId("lan0", NOBODY)


def sprayed(*links: LinkId) -> tuple[Playbook, str, list[str]]:
    """A message to a node that nobody knows, and what happens when it has waited long enough."""
    play = Playbook()
    play.up(*links)
    name = play.submit(destination=INBOX)
    assert play.state(name) == "waiting"
    play.later(SPRAY_AFTER_S)
    return play, name, play.handle(ev.TimerFired())


def test_two_neighbours_get_a_copy_and_the_last_one_waits() -> None:
    play, name, lines = sprayed(LAN, SAT, FAR)
    assert lines == [f"send lan0>dpop2 {name}", f"send lan0>far {name}"], "all are as likely: by their names"
    play.handle(play.acknowledged(LAN, name))
    play.handle(play.acknowledged(FAR, name))
    assert play.state(name) == "replicating"
    assert play.up(LinkId("lan0", parse_eid("dtn://more/"))) == [], "there are no more copies"
    assert play.up(MEETING) == [f"send lan0>nobody {name}"]
    assert "store delete" in play.handle(play.acknowledged(MEETING, name))[0]
    assert play.state(name) is None


def test_a_copy_that_nobody_took_is_given_to_another() -> None:
    play, name, _ = sprayed(LAN, SAT)
    play.handle(play.acknowledged(LAN, name))
    play.handle(play.failed(SAT, ENDED, name))
    play.handle(ev.LinkDown(SAT, "gone"))
    assert play.state(name) == "replicating"
    assert play.up(FAR) == [f"send lan0>far {name}"]


def test_the_last_copy_is_not_lost_with_its_link() -> None:
    play, name, _ = sprayed(LAN, FAR)
    play.handle(play.acknowledged(LAN, name))
    play.handle(play.acknowledged(FAR, name))
    assert play.up(MEETING) == [f"send lan0>nobody {name}"]
    play.handle(ev.LinkDown(MEETING, "gone"))
    assert play.state(name) == "replicating"
    assert play.up(MEETING) == [f"send lan0>nobody {name}"]


def test_the_last_copy_goes_by_way_of_a_relay_when_that_is_known_to_meet_it() -> None:
    play, name, _ = sprayed(LAN, FAR)
    play.handle(play.acknowledged(LAN, name))
    play.handle(play.acknowledged(FAR, name))
    now_s = play.now_ms / 1000
    play.plan.add([Contact(HOME, NOBODY, "x", now_s, now_s + 3000, 10**6, 0.0)])
    play.handle(ev.ContactsChanged())
    assert play.up(SAT) == [f"send sat0>home {name}"]
    play.handle(play.acknowledged(SAT, name))
    assert play.state(name) is None


def test_it_goes_nowhere_else_when_who_has_a_copy_turns_out_to_be_the_way() -> None:
    play, name, _ = sprayed(LAN, FAR)
    play.handle(play.acknowledged(LAN, name))
    play.handle(play.acknowledged(FAR, name))
    now_s = play.now_ms / 1000
    play.plan.add([Contact(DPOP2, NOBODY, "x", now_s, now_s + 3000, 10**6, 0.0)])
    play.handle(ev.ContactsChanged())
    assert play.state(name) is None


def test_what_a_neighbour_brought_waits_here_alone() -> None:
    play = Playbook()
    play.up(LAN, LAN_HOME)
    play.bundle("a", INBOX)
    play.take_in("a")
    play.later(2 * SPRAY_AFTER_S)
    assert play.handle(ev.TimerFired()) == []
    assert play.state("a") == "waiting"
    assert play.up(MEETING) == ["send lan0>nobody a"]


def test_a_large_one_waits() -> None:
    play = Playbook(part_bytes=2 * SPRAY_MAX_BYTES)
    play.up(LAN)
    name = play.submit(destination=INBOX, data=bytes(SPRAY_MAX_BYTES))
    play.later(2 * SPRAY_AFTER_S)
    assert play.handle(ev.TimerFired()) == []
    assert play.state(name) == "waiting"


def test_no_link_takes_it_whole_then_it_waits() -> None:
    play = Playbook(part_bytes=4000)
    play.handle(ev.LinkUp(LAN, transfer_mtu_bytes=1000))
    play.handle(ev.LinkWritable(LAN, 10**6))
    name = play.submit(destination=INBOX, data=bytes(3000))
    play.later(2 * SPRAY_AFTER_S)
    assert play.handle(ev.TimerFired()) == []
    assert play.state(name) == "waiting"
