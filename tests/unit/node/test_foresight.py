# SPDX-License-Identifier: Apache-2.0
"""What history lets expect: noted from links, kept over a restart, told to the router and to other nodes."""

from typing import Any

import pytest

from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.scan import scan_untrusted
from meshd.link.identity import LinkId
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.foresight import NOTE, PREDICT_S, SAVE_S, TOLD_CONTACTS_MAX
from meshd.routing.advertisement import TOPOLOGY_ENDPOINT, Advertisement, decode_body_untrusted, encode_body
from meshd.routing.announcer import REFRESH_S
from meshd.routing.contact import Contact, ContactKind
from meshd.routing.contact_router import ContactRouter
from meshd.security.advertisement import decode_envelope_untrusted, sign_advertisement
from tests.unit.node.playbook import DPOP2, HOME, HOUR_MS, LAN, NODE, SAT, UTC_OFFSET_MS, Playbook
from tests.unit.node.topology_mission import BOOT, Mission

STRANGER = parse_eid("dtn://stranger/")
MISSION = Mission(NODE, DPOP2, HOME)
EACH_S = 7200.0
LENGTH_S = 600.0
YEAR_MS = 366 * 24 * HOUR_MS


def router(play: Playbook) -> ContactRouter:
    found = play.agent.forwarding.router
    assert isinstance(found, ContactRouter)
    return found


def encounters(play: Playbook, link: LinkId, times: int) -> None:
    """A link that is up for ten minutes every two hours."""
    for _ in range(times):
        play.handle(ev.LinkUp(link))
        play.later(LENGTH_S)
        play.handle(ev.LinkDown(link, "gone"))
        play.later(EACH_S - LENGTH_S)


def predicted(play: Playbook) -> list[Contact]:
    return [each for each in router(play).graph.contacts(NODE) if each.kind is ContactKind.PREDICTED]


def noted(play: Playbook) -> list[bytes]:
    writes = [each for each in play.commands if isinstance(each, cmd.WriteStore)]
    return [write.notes[NOTE] for write in writes if NOTE in write.notes]


def signing() -> Playbook:
    play = Playbook()
    play.agent.advertising.configure(MISSION.files(NODE), "", play.now)
    play.handle(ev.ClockStepped(UTC_OFFSET_MS + YEAR_MS, 1000))
    play.handle(ev.StoreRecovered([], [], {}))
    return play


def said(play: Playbook) -> Advertisement | None:
    """What this node has just advertised."""
    for each in play.commands:
        for put in each.puts if isinstance(each, cmd.WriteStore) else ():
            if put.destination == TOPOLOGY_ENDPOINT and put.id.source == NODE:
                data = put.payload.inline
                assert data is not None
                header = scan_untrusted(data)
                payload = data[header.payload_offset : header.payload_offset + header.payload_size]
                return decode_body_untrusted(decode_envelope_untrusted(payload).body, NODE)
    return None


def advertised(play: Playbook) -> Advertisement:
    """Let time go by until it advertises."""
    for _ in range(100):
        if (found := said(play)) is not None:
            play.commands = []
            return found
        assert play.wake_at is not None
        play.now = max(play.now, play.wake_at)
        play.handle(ev.TimerFired())
    raise AssertionError("it says nothing")


def test_a_bundle_waits_for_the_encounter_that_history_lets_expect() -> None:
    play = Playbook()
    encounters(play, SAT, 4)
    play.take_in("a")
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert "waits for a contact with dtn://home/ on sat0" in entry.reason
    assert len(predicted(play)) == 3


@pytest.mark.parametrize("is_trusted", [True, False])
def test_it_outlives_a_restart_of_a_node_that_has_a_clock(is_trusted: bool) -> None:
    play = Playbook(clock_trusted=is_trusted)
    encounters(play, SAT, 4)
    play.handle(ev.LinkUp(SAT))
    notes = noted(play)
    assert bool(notes) is is_trusted
    again = Playbook(clock_trusted=True)
    again.now = play.now
    again.handle(ev.StoreRecovered([], [], {NOTE: notes[0]} if notes else {}))
    again.handle(ev.LinkUp(LAN))
    again.handle(ev.LinkDown(LAN, "gone"))
    again.take_in("a")
    assert bool(predicted(again)) is is_trusted


def test_a_note_that_is_damaged_is_reported_and_nothing_is_remembered() -> None:
    play = Playbook()
    play.handle(ev.StoreRecovered([], [], {NOTE: b"\xc1"}))
    assert play.kinds == ["history.damaged"]


def test_it_is_written_no_oftener_than_need_be() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(SAT))
    assert noted(play) == []
    play.later(SAVE_S)
    play.handle(ev.LinkUp(LAN))
    assert len(noted(play)) == 1
    play.later(SAVE_S / 2)
    play.handle(ev.LinkDown(LAN, "gone"))
    assert noted(play) == []


def test_a_step_of_the_clock_ends_it() -> None:
    play = Playbook()
    encounters(play, SAT, 4)
    play.handle(ev.ClockStepped(UTC_OFFSET_MS + 3_600_000, 1000))
    play.handle(ev.LinkUp(LAN))
    play.take_in("a")
    assert predicted(play) == []


def test_others_are_told_of_the_next_encounters_and_of_whom_it_is_likely_to_meet() -> None:
    play = signing()
    encounters(play, SAT, 4)
    play.up(LAN)
    told = advertised(play)
    assert [(each.receiver, each.kind, each.radiates) for each in told.planned] == [
        (HOME, ContactKind.PREDICTED, True)
    ] * len(told.planned)
    assert 0 < len(told.planned) <= TOLD_CONTACTS_MAX
    assert {node for node, _ in told.likely} == {HOME, DPOP2}


def test_what_is_guessed_is_no_news_of_its_own() -> None:
    play = signing()
    encounters(play, SAT, 4)
    play.up(LAN)
    advertised(play)
    began = play.now
    advertised(play)
    assert play.now - began > REFRESH_S * 0.85 > PREDICT_S, "the refresh, though other contacts are expected by now"


def test_what_others_say_ranks_them() -> None:
    play = signing()
    body = encode_body(Advertisement(play.now_ms // 1000, 3600, (), (), ((STRANGER, 0.75),)))
    payload = sign_advertisement(MISSION.keys[DPOP2], DPOP2, BOOT, 1, body)
    play.bundle("t", TOPOLOGY_ENDPOINT, source=DPOP2, payload=payload)
    play.handle(play.received(LAN, "t"))
    table: Any = router(play).history.predictabilities
    assert table.of_neighbour(DPOP2, STRANGER, play.now_ms / 1000) == 0.75
    assert table.of_neighbour(HOME, Eid("dtn://stranger/"), play.now_ms / 1000) == 0.0
