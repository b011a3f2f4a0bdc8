# SPDX-License-Identifier: Apache-2.0
"""Group endpoints: a copy to each member by way of its next hop, kept until each is on its way, and no loops."""

from typing import Any

import pytest

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.fragment import fragment, reassemble
from meshd.bundle.scan import scan_untrusted
from meshd.link.identity import LinkId
from meshd.link.settings import NeighbourSettings
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.forwarding import RETRY_MAX_S
from meshd.node.settings import GroupSettings
from meshd.routing.settings import RouteSettings
from tests.unit.node.playbook import (
    DPOP2,
    ENDED,
    HOME,
    HOUR_MS,
    LAN,
    NEIGHBOURS,
    NO_ROOM,
    NODE,
    SAT,
    STRANGER,
    Playbook,
)

GROUP = parse_eid("dtn://convoy/~orders")
DPOP3 = parse_eid("dtn://dpop3/")
DPOP4 = parse_eid("dtn://dpop4/")
LAN3 = LinkId("lan0", DPOP3)
ALL_NEIGHBOURS = (NeighbourSettings(DPOP3, "lan0", None), *NEIGHBOURS)


def group_play(*members: Eid, neighbours: tuple[NeighbourSettings, ...] = ALL_NEIGHBOURS, **changes: Any) -> Playbook:
    """A node that knows the group."""
    groups = (GroupSettings(GROUP, frozenset(members or (NODE, DPOP2, DPOP3, HOME))),)
    return Playbook(neighbours=neighbours, groups=groups, **changes)


def left(play: Playbook, name: str) -> set[Eid]:
    """Members that nobody has taken a copy for."""
    entry = play.agent.entry(play.id(name))
    assert entry is not None
    assert entry.copies is not None
    return entry.copies.left


def test_a_message_of_ours_goes_to_each_member_and_is_forwarded_then() -> None:
    play = group_play(DPOP2, DPOP3, HOME)
    play.up(LAN, SAT, LAN3)
    play.handle(play.submitted(destination=GROUP))
    lines = play.handle(play.stored("own0"))
    assert sorted(lines[1:]) == ["send lan0>dpop2 own0", "send lan0>dpop3 own0", "send sat0>home own0"]
    assert play.state("own0") == "replicating"
    play.handle(play.acknowledged(LAN, "own0"))
    play.handle(play.acknowledged(SAT, "own0"))
    assert left(play, "own0") == {DPOP3}
    assert play.message("own0").state.value == "queued"
    lines = play.handle(play.acknowledged(LAN3, "own0"))
    assert lines[0].startswith("store delete own0; note")
    assert play.message("own0").state.value == "forwarded"


def test_it_is_delivered_when_every_member_has_reported() -> None:
    play = group_play(DPOP2, HOME)
    play.up(LAN, SAT)
    name = play.submit(destination=GROUP)
    play.handle(play.acknowledged(LAN, name))
    play.handle(play.acknowledged(SAT, name))
    for source, state in ((DPOP2, "forwarded"), (STRANGER, "forwarded"), (DPOP2, "forwarded"), (HOME, "delivered")):
        play.report_of(f"report{play.now}", name, source=source)
        play.take_in(f"report{play.now}")
        play.later(1)
        assert play.message(name).state.value == state


def test_members_that_heard_the_same_transmission_are_left_to_its_sender() -> None:
    """On a radio net one transmission serves all: passing it on to them would fill the air for nothing."""
    play = group_play()
    play.up(LAN, SAT, LAN3)
    play.bundle("a", GROUP)
    play.handle(ev.BundlesReceived(LAN, [ev.ReceivedRow("a", play.data["a"], (DPOP3, STRANGER))]))
    lines = play.handle(play.stored("a"))
    assert [line for line in lines if line.startswith("send")] == ["send sat0>home a"]
    assert left(play, "a") == {HOME}


def test_never_to_the_source_or_to_whoever_brought_it() -> None:
    play = group_play(DPOP2, DPOP3, HOME)
    play.up(LAN, SAT, LAN3)
    play.bundle("a", GROUP, source=parse_eid("dtn://dpop3/inbox"))
    assert play.take_in("a", link=LAN) == ["accept lan0>dpop2 a", "send sat0>home a"]
    assert play.handle(play.acknowledged(SAT, "a"))[0].startswith("store delete a")


def test_delivered_here_and_carried_on() -> None:
    play = group_play()
    play.up(SAT, LAN3)
    play.handle(ev.ReceiverAttached(1, GROUP))
    play.bundle("a", GROUP, flags=BundleFlag.REPORT_DELIVERY)
    lines = play.take_in("a")
    assert sorted(lines) == ["accept lan0>dpop2 a", "deliver 1 a", "send lan0>dpop3 a", "send sat0>home a"]
    assert play.handle(play.confirmed(1, "a"))[0].startswith("store put own0")
    assert play.state("a") == "replicating"
    play.handle(play.acknowledged(SAT, "a"))
    assert play.handle(play.acknowledged(LAN3, "a"))[0].startswith("store delete a")


def test_carried_on_and_then_delivered_here() -> None:
    play = group_play(NODE, HOME)
    play.up(SAT)
    play.bundle("a", GROUP)
    play.take_in("a")
    play.handle(play.acknowledged(SAT, "a"))
    assert play.state("a") == "for_delivery"
    assert play.handle(ev.ReceiverAttached(1, GROUP)) == ["deliver 1 a"]
    assert play.handle(play.confirmed(1, "a"))[0].startswith("store delete a")
    assert play.agent.entries() == []


def test_one_copy_serves_all_members_behind_a_next_hop() -> None:
    routes = (RouteSettings(DPOP4, HOME, ()), RouteSettings(DPOP3, HOME, ()))
    play = group_play(DPOP3, DPOP4, HOME, routes=routes, neighbours=NEIGHBOURS)
    play.up(SAT)
    play.bundle("a", GROUP)
    assert play.take_in("a") == ["accept lan0>dpop2 a", "send sat0>home a"]
    assert play.handle(play.acknowledged(SAT, "a"))[0].startswith("store delete a")


def test_members_behind_whoever_brought_it_are_its_business() -> None:
    play = group_play(DPOP4, HOME, routes=(RouteSettings(DPOP4, DPOP2, ()),), neighbours=NEIGHBOURS)
    play.up(LAN, SAT)
    play.bundle("a", GROUP)
    play.take_in("a")
    assert left(play, "a") == {HOME}


def test_a_member_whose_own_link_is_down_is_waited_for() -> None:
    play = group_play(DPOP3, HOME, routes=(RouteSettings(DPOP3, DPOP2, ()),))
    play.up(LAN, SAT)
    play.bundle("a", GROUP)
    play.take_in("a")
    play.handle(play.acknowledged(SAT, "a"))
    assert left(play, "a") == {DPOP3}
    assert play.up(LAN3) == ["send lan0>dpop3 a"]


def test_a_neighbour_that_brings_it_too_needs_no_copy() -> None:
    play = group_play(DPOP3, HOME)
    play.up(LAN)
    play.bundle("a", GROUP)
    play.take_in("a")
    play.handle(ev.LinkUp(LAN3))
    lines = play.handle(play.received(LAN3, "a"))
    assert lines[-1] == "accept lan0>dpop3 a"
    assert left(play, "a") == {HOME}
    play.expect(ev.LinkWritable(LAN3, 100_000))


def test_links_that_come_and_go() -> None:
    play = group_play(DPOP3, HOME)
    play.up(SAT)
    play.bundle("a", GROUP)
    play.take_in("a")
    play.handle(play.failed(SAT, ENDED, "a"))
    play.handle(ev.LinkDown(SAT, "gone"))
    assert left(play, "a") == {DPOP3, HOME}
    assert play.up(LAN3, SAT) == ["send lan0>dpop3 a", "send sat0>home a"]
    play.handle(play.acknowledged(LAN3, "a"))
    play.handle(play.acknowledged(SAT, "a"))
    assert play.agent.entries() == []


def test_a_refusal_is_tried_again_later() -> None:
    play = group_play(DPOP3, HOME)
    play.up(SAT, LAN3)
    play.bundle("a", GROUP)
    play.take_in("a")
    play.handle(play.failed(SAT, NO_ROOM, "a"))
    play.handle(play.acknowledged(LAN3, "a"))
    play.later(RETRY_MAX_S)
    play.expect(ev.TimerFired(), "send sat0>home a")


def test_it_expires_and_leaves_nothing_behind() -> None:
    play = group_play(NODE, DPOP3, HOME)
    play.up(SAT)
    play.bundle("a", GROUP)
    play.take_in("a")
    play.later(HOUR_MS / 1000 + 1)
    assert any("delete a" in line for line in play.handle(ev.TimerFired()))
    assert play.agent.forwarding.in_flight(SAT) == 0
    play.handle(ev.LinkUp(LAN3))
    play.expect(ev.LinkWritable(LAN3, 100_000))


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_a_restart_goes_on_where_it_was(is_confirmed: bool) -> None:
    play = group_play()
    play.up(SAT)
    play.handle(ev.ReceiverAttached(1, GROUP))
    play.bundle("a", GROUP)
    play.take_in("a")
    notes: dict[str, bytes] = {}
    events: list[ev.Event] = [play.acknowledged(SAT, "a")]
    if is_confirmed:
        events.append(play.confirmed(1, "a"))
    for event in events:
        play.handle(event)
        for command in play.commands:
            notes |= getattr(command, "notes", {})
    again = group_play()
    again._names, again._ids = play._names, play._ids
    again.handle(ev.ReceiverAttached(1, GROUP))
    lines = again.handle(ev.StoreRecovered([play.records[play.id("a")]], (), notes))
    assert lines == ([] if is_confirmed else ["deliver 1 a"])
    assert left(again, "a") == {DPOP3}


def test_notes_of_what_is_gone_go_too() -> None:
    play = group_play()
    play.expect(ev.StoreRecovered((), (), {"copies/dtn://x/y@1.2": b"x"}), "store note copies/dtn://x/y@1.2")


def narrow_play(*members: Eid, **changes: Any) -> Playbook:
    """The link home takes little."""
    play = group_play(*members, **changes)
    play.handle(ev.LinkUp(SAT, 300))
    play.handle(ev.LinkWritable(SAT, 100_000))
    return play


def test_members_behind_a_narrow_link_get_fragments_and_the_others_the_whole() -> None:
    play = narrow_play(DPOP3, HOME)
    play.up(LAN3)
    play.bundle("a", GROUP, payload=bytes(500))
    _, wish, send = play.take_in("a")
    assert wish.startswith("fragment a ")
    assert send == "send lan0>dpop3 a"
    event = play.cut()
    names = [f"a+{index}" for index in range(len(event.fragments))]
    assert len(names) == 4
    lines = play.handle(event)
    assert lines[0].startswith(f"store put {' '.join(names)}; note ")
    assert play.handle(play.stored(*names))[-1] == f"send sat0>home {' '.join(names)}"
    assert (left(play, "a"), left(play, names[0])) == ({DPOP3}, {HOME})
    assert play.handle(play.acknowledged(SAT, *names))[0].startswith(f"store delete {' '.join(names)}; note ")
    assert play.handle(play.acknowledged(LAN3, "a"))[0].startswith("store delete a")
    assert play.agent.entries() == []


def test_a_message_of_ours_in_fragments_is_forwarded_when_all_have_gone() -> None:
    play = narrow_play(HOME, part_bytes=2000)
    play.handle(play.submitted(destination=GROUP, data=bytes(500)))
    play.handle(play.stored("own0"))
    names = [f"own0+{index}" for index in range(len(play.cut().fragments))]
    play.handle(play.cut())
    play.handle(play.stored(*names))
    assert play.state("own0") is None
    play.handle(play.acknowledged(SAT, *names[1:]))
    assert play.message("own0").state.value == "queued"
    play.handle(play.acknowledged(SAT, names[0]))
    assert play.message("own0").state.value == "forwarded"


def test_fragments_that_can_not_be_stored_are_made_again_later() -> None:
    play = narrow_play(HOME)
    play.bundle("a", GROUP, payload=bytes(500))
    play.take_in("a")
    event = play.cut()
    play.handle(event)
    play.handle(play.not_stored(*(f"a+{index}" for index in range(len(event.fragments)))))
    assert left(play, "a") == {HOME}
    play.later(120)
    assert any(line.startswith("fragment a ") for line in play.handle(ev.TimerFired()))


def test_fragments_that_are_here_after_a_crash_are_taken_for_what_was_wished() -> None:
    play = narrow_play(HOME)
    play.bundle("a", GROUP, payload=bytes(500))
    play.take_in("a")
    event = play.cut()
    play.handle(event)
    again = group_play(HOME)
    again._names, again._ids, again.data = play._names, play._ids, play.data
    again.handle(ev.StoreRecovered(list(play.records.values()), (), {}))
    again.handle(ev.LinkUp(SAT, 300))
    names = [f"a+{index}" for index in range(len(event.fragments))]
    assert again.handle(event)[0].startswith("store delete a")
    assert again.handle(ev.LinkWritable(SAT, 100_000)) == [f"send sat0>home {' '.join(names)}"]


def fragments(play: Playbook, name: str) -> list[str]:
    """Fragments of a bundle to the group that a neighbour has cut."""
    data = play.bundle(name, GROUP, payload=bytes(500))
    names = []
    for index, piece in enumerate(fragment(data, scan_untrusted(data), 300)):
        names.append(f"{name}{index}")
        play.data[names[-1]] = piece
        play.name(names[-1], scan_untrusted(piece).id)
    return names


def test_a_member_passes_fragments_on_and_joins_them_for_itself() -> None:
    play = group_play(NODE, HOME)
    play.up(SAT)
    play.handle(ev.ReceiverAttached(1, GROUP))
    names = fragments(play, "a")
    lines = play.take_in(*names)
    assert lines[1:] == [f"reassemble {' '.join(names)}", f"send sat0>home {' '.join(names)}"]
    whole = ev.BundleReassembled(play.id("a"), reassemble([play.data[name] for name in names]))
    assert play.handle(whole)[0].startswith("store put a; note copies/")
    assert play.handle(play.stored("a"))[-1] == "deliver 1 a"
    assert left(play, "a") == set()
    assert {play.state(name) for name in names} == {"replicating"}
    assert play.handle(play.confirmed(1, "a"))[0].startswith("store delete a")
    play.handle(play.acknowledged(SAT, *names))
    assert play.agent.entries() == []
    play.expect(play.received(LAN, names[0]), f"accept lan0>dpop2 {names[0]}")
    fresh = play.data["a"]
    other = fragment(fresh, scan_untrusted(fresh), 400)[0]
    play.data["other"] = other
    play.name("other", scan_untrusted(other).id)
    play.expect(play.received(LAN, "other"), "accept lan0>dpop2 other")


def test_fragments_that_have_gone_on_wait_for_their_siblings() -> None:
    play = group_play(NODE, HOME)
    play.up(SAT)
    names = fragments(play, "a")
    play.take_in(names[0])
    play.handle(play.acknowledged(SAT, names[0]))
    assert play.state(names[0]) == "reassembling"
    play.handle(play.received(LAN, "a"))
    lines = play.handle(play.stored("a"))
    assert lines[0].startswith(f"store delete {names[0]}; note ")
    assert lines[-1] == "send sat0>home a"


def test_after_a_restart_a_joined_bundle_does_not_go_on() -> None:
    play = group_play(NODE, HOME)
    names = fragments(play, "a")
    play.take_in(*names)
    play.handle(ev.BundleReassembled(play.id("a"), reassemble([play.data[name] for name in names])))
    notes: dict[str, bytes] = {}
    for command in play.commands:
        if isinstance(command, cmd.WriteStore):
            notes |= command.notes
    again = group_play(NODE, HOME)
    again._names, again._ids, again.data = play._names, play._ids, play.data
    again.handle(ev.StoreRecovered(list(play.records.values()), (), notes))
    assert again.up(SAT) == [f"send sat0>home {' '.join(names)}"]
    assert left(again, "a") == set()


def test_too_large_for_a_link_waits_for_another() -> None:
    play = narrow_play(DPOP3, HOME)
    play.bundle("a", GROUP, payload=bytes(500), flags=BundleFlag.MUST_NOT_FRAGMENT)
    play.take_in("a")
    assert left(play, "a") == {DPOP3, HOME}
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert entry.reason
    play.handle(ev.LinkDown(SAT, "gone"))
    assert play.up(SAT) == ["send sat0>home a"]


def test_a_group_that_nobody_knows_is_refused_to_applications() -> None:
    play = Playbook()
    play.expect(play.submitted(destination=GROUP), "refused 1 bad_params")


def test_a_file_in_parts() -> None:
    play = group_play(NODE, HOME)
    play.up(SAT)
    play.handle(ev.ReceiverAttached(1, GROUP))
    play.handle(play.submitted(data=bytes(10), destination=GROUP, last=False))
    play.handle(play.stored("own0"))
    play.handle(play.submitted(data=b"end", destination=GROUP))
    lines = play.handle(play.stored("own1"))
    assert lines[-2:] == ["deliver 1 own0 own1", "send sat0>home own0 own1"]
