# SPDX-License-Identifier: Apache-2.0
"""Plans of emission control among nodes: told with advertisements, turned into silences, and told to bearers."""

import pytest

from meshd.bundle.dtn_time import DTN_EPOCH_UNIX_S
from meshd.bundle.eid import Eid
from meshd.bundle.scan import scan_untrusted
from meshd.emcon.schedule import Schedule, ScheduleRow
from meshd.emcon.silence_plan import OPEN, SILENT
from meshd.link.settings import BearerKind
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.routing.advertisement import Advertisement, LinkNews, decode_body_untrusted, encode_body
from meshd.routing.announcer import VALID_S
from meshd.routing.contact_router import ContactRouter
from meshd.routing.silence_plan import PlanRow, SilencePlan
from meshd.security.advertisement import decode_envelope_untrusted, sign_advertisement
from tests.unit.node.playbook import DPOP2, HOME, LAN, NODE, SAT, Playbook
from tests.unit.node.test_advertising import DPOP4, MISSION, Ear, advertise, advertised_by, make_play
from tests.unit.node.topology_mission import BOOT

WINDOW_S, EVERY_S, MARGIN_MS = 300, 3600, 2000


def clock_s(play: Playbook) -> int:
    return play.now_ms // 1000


def said(play: Playbook) -> SilencePlan:
    """A window of five minutes that has begun a minute ago, each hour."""
    return SilencePlan(True, MARGIN_MS, (PlanRow(False, (clock_s(play) - 60) % EVERY_S, WINDOW_S, EVERY_S),))


def hear(play: Playbook, plan: SilencePlan | None, sequence: int = 1, node: Eid = HOME) -> None:
    links = (LinkNews(DPOP4, BearerKind.SATCOM, True, 64_000, 0.02),)
    body = encode_body(Advertisement(clock_s(play), 7200, links, plan=plan))
    name = f"{node.uri} {sequence}"
    advertise(play, name, sign_advertisement(MISSION.keys[node], node, BOOT, sequence, body), node)
    play.handle(play.received(SAT, name))


def silent(play: Playbook, node: Eid, after_s: float) -> bool:
    ear = play.agent.forwarding.router
    assert isinstance(ear, Ear)
    router = ear.router
    assert isinstance(router, ContactRouter)
    return router.contacts.is_silent(node, play.now_ms / 1000 + after_s)


def until_silent(play: Playbook) -> cmd.NeighbourFallsSilent:
    for _ in range(100):
        assert play.wake_at is not None
        play.now = max(play.now, play.wake_at)
        play.handle(ev.TimerFired())
        for each in play.commands:
            if isinstance(each, cmd.NeighbourFallsSilent):
                return each
    raise AssertionError("nobody is told")


def test_a_neighbour_is_silent_between_its_windows_and_bearers_are_told_when_it_falls_silent() -> None:
    play, _ = make_play()
    play.up(LAN, SAT)
    began = play.now
    hear(play, said(play))
    assert [silent(play, HOME, after_s) for after_s in (0, 237, 239, 3540, 3543)] == [False, False, True, True, False]
    told = until_silent(play)
    assert play.now - began == pytest.approx(240, abs=0.1), "its clock may be behind ours by the margin"
    assert told.links == [SAT]
    assert told.for_s == pytest.approx(3540 + 2 - 240, abs=2)
    until_silent(play)
    assert play.now - began == pytest.approx(240 + 3600, abs=0.1), "the next one, too"


def test_who_is_reached_by_what_does_not_radiate_is_not_told_of() -> None:
    play, _ = make_play()
    play.up(LAN, SAT)
    hear(play, said(play), node=DPOP2)
    assert silent(play, DPOP2, 600)
    for _ in range(20):
        assert play.wake_at is not None
        play.now = max(play.now, play.wake_at)
        play.handle(ev.TimerFired())
        assert not any(isinstance(each, cmd.NeighbourFallsSilent) for each in play.commands)


def test_a_plan_holds_no_longer_than_the_advertisement_and_until_a_newer_one_has_none() -> None:
    play, _ = make_play()
    play.up(LAN, SAT)
    hear(play, said(play))
    hear(play, None, sequence=2)
    assert not silent(play, HOME, 600)
    hear(play, said(play), sequence=3)
    assert silent(play, HOME, 600)
    play.later(7200)
    play.handle(ev.TimerFired())
    assert not any(silent(play, HOME, after_s) for after_s in range(0, 3600, 60))


def test_the_own_plan_is_advertised_and_outlives_the_next_silence() -> None:
    play, _ = make_play()
    play.up(LAN, SAT)
    wanted = said(play)
    begins_ms = (clock_s(play) - 60 + DTN_EPOCH_UNIX_S) % EVERY_S * 1000
    plan = Schedule((ScheduleRow(OPEN, begins_ms, WINDOW_S * 1000, EVERY_S * 1000),), SILENT, MARGIN_MS)
    play.handle(ev.PosturesChanged({}, plan=plan))
    record = advertised_by(play)
    data = play.data[play.name_of(record.id)]
    header = scan_untrusted(data)
    envelope = decode_envelope_untrusted(data[header.payload_offset : header.payload_offset + header.payload_size])
    body = decode_body_untrusted(envelope.body, NODE)
    assert body.plan == wanted
    assert body.valid_s == pytest.approx(VALID_S + 3540, abs=3)
    assert silent(play, NODE, 600)


def test_without_a_clock_nothing_is_planned() -> None:
    play, _ = make_play(clock_trusted=False)
    play.up(LAN, SAT)
    plan = Schedule((ScheduleRow(OPEN, 0, 1000, 60_000),), SILENT, 0)
    play.handle(ev.PosturesChanged({}, plan=plan))
    assert not any(silent(play, NODE, after_s) for after_s in range(60))
