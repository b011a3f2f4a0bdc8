# SPDX-License-Identifier: Apache-2.0
"""Topology advertisements at one node: its own, those that it takes and passes on, and all that it drops."""

from typing import Any

import pytest

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.blocks import BundleFlag
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.record import BundleRecord
from meshd.bundle.scan import scan_untrusted
from meshd.link.settings import BearerKind, NeighbourSettings, Posture
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.advertising import BOOT_NOTE, CHECKS_BURST, NOTE_PREFIX, TELLS_BURST
from meshd.routing.advertisement import TOPOLOGY_ENDPOINT, decode_body_untrusted
from meshd.routing.announcer import HOLD_DOWN_MIN_S, LOOK_S, REFRESH_S, SETTLE_S, VALID_S
from meshd.routing.contact import Contact
from meshd.routing.topology import Verdict
from meshd.security.advertisement import decode_envelope_untrusted, verify_advertisement
from tests.unit.node.playbook import DPOP2, HOME, HOUR_MS, LAN, NODE, SAT, UTC_OFFSET_MS, Playbook
from tests.unit.node.topology_mission import BOOT, Mission

DPOP4 = parse_eid("dtn://dpop4/")
MISSION = Mission(NODE, DPOP2, HOME, DPOP4)
NEIGHBOURS = (
    NeighbourSettings(DPOP2, "lan0", None),
    NeighbourSettings(HOME, "sat0", None),
    NeighbourSettings(HOME, "lan0", None),
)


YEAR_MS = 366 * 24 * HOUR_MS


class Ear:
    """Stands for a router that heeds advertisements."""

    def __init__(self, router: Any) -> None:
        self.router = router
        self.learned: dict[Eid, list[Contact]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.router, name)

    def learn(self, node: Eid, contacts: list[Contact], now: float) -> None:
        self.learned[node] = contacts

    def forget(self, node: Eid) -> None:
        del self.learned[node]


def make_play(notes: dict[str, bytes] | None = None, *, has_keys: bool = True, **changes: Any) -> tuple[Playbook, Ear]:
    play = Playbook(neighbours=NEIGHBOURS, **changes)
    play.agent.forwarding.router = ear = Ear(play.agent.forwarding.router)
    play.agent.advertising.configure(MISSION.files(NODE) if has_keys else None, "no keys", play.now)
    if play.settings.clock_trusted:
        play.handle(ev.ClockStepped(UTC_OFFSET_MS + YEAR_MS, 1000))
    play.handle(ev.StoreRecovered([], [], notes or {}))
    return play, ear


def advertise(play: Playbook, name: str, payload: bytes, source: Eid = DPOP2, **changes: Any) -> None:
    play.bundle(name, TOPOLOGY_ENDPOINT, source=source, payload=payload, **changes)


def own_put(play: Playbook) -> BundleRecord | None:
    puts = [put for each in play.commands if isinstance(each, cmd.WriteStore) for put in each.puts]
    return next((put for put in puts if put.destination == TOPOLOGY_ENDPOINT), None)


def noted(play: Playbook) -> dict[str, bytes]:
    return {
        key: value for each in play.commands if isinstance(each, cmd.WriteStore) for key, value in each.notes.items()
    }


def advertised_by(play: Playbook) -> BundleRecord:
    """Let time go by until it advertises."""
    for _ in range(100):
        assert play.wake_at is not None
        play.now = max(play.now, play.wake_at)
        play.handle(ev.TimerFired())
        record = own_put(play)
        if record is not None:
            return record
    raise AssertionError("it does not advertise")


def said_in(play: Playbook, record: BundleRecord) -> list[tuple[Eid, float]]:
    """The links in an advertisement of this node, whose signature is right."""
    data = play.data[play.name_of(record.id)]
    header = scan_untrusted(data)
    envelope = decode_envelope_untrusted(data[header.payload_offset : header.payload_offset + header.payload_size])
    verify_advertisement(MISSION.peers[NODE], NODE, envelope)
    return [(link.neighbour, link.begins_s) for link in decode_body_untrusted(envelope.body, NODE).links]


def test_links_are_advertised_once_they_have_settled_and_seldom_after() -> None:
    play, _ = make_play()
    play.up(LAN, SAT)
    assert own_put(play) is None
    record = advertised_by(play)
    assert play.now == pytest.approx(1000.0 + SETTLE_S)
    assert {node for node, _ in said_in(play, record)} == {DPOP2, HOME}
    assert (record.precedence, record.flags & BundleFlag.MUST_NOT_FRAGMENT != 0) == (2, True)
    assert BOOT_NOTE in noted(play), "no later start may use this boot number again"
    assert play.handle(play.stored(play.name_of(record.id))) == ["send lan0>dpop2 own0", "send sat0>home own0"]
    assert record.size_bytes < 400
    again = advertised_by(play)
    assert 0.89 * REFRESH_S < play.now - 1000.0 <= REFRESH_S + LOOK_S
    assert play.state("own0") is None, "the newer one takes its place"
    assert again.id != record.id


def test_a_change_is_told_after_a_hold_down_that_grows() -> None:
    play, _ = make_play()
    play.up(LAN, SAT)
    advertised_by(play)
    gaps = []
    for _ in range(3):
        began = play.now
        play.handle(ev.LinkDown(LAN, "gone"))
        record = advertised_by(play)
        assert [node for node, _ in said_in(play, record)] == [HOME]
        gaps.append(play.now - began)
        play.up(LAN)
        advertised_by(play)
    assert gaps[0] == pytest.approx(HOLD_DOWN_MIN_S)
    assert gaps[1] == pytest.approx(4 * HOLD_DOWN_MIN_S)
    assert gaps[2] == pytest.approx(16 * HOLD_DOWN_MIN_S)


def test_nothing_is_made_while_nobody_can_be_told() -> None:
    play, _ = make_play()
    for _ in range(3):
        play.later(REFRESH_S)
        play.handle(ev.TimerFired())
        assert own_put(play) is None


def test_the_end_of_silence_is_announced_over_other_bearers_and_outlives_a_refresh() -> None:
    play, _ = make_play()
    play.up(LAN, SAT)
    advertised_by(play)
    until_ms = play.now_ms + 6 * HOUR_MS
    play.handle(ev.PosturesChanged({"sat0": Posture.RX_ONLY}, until_ms))
    record = advertised_by(play)
    said = dict(said_in(play, record))
    assert said[DPOP2] == 0
    assert said[HOME] == pytest.approx((until_ms - play.now_ms) / 1000, abs=1)
    assert record.expiry_ms >= until_ms + VALID_S * 1000 - 2000


def test_a_good_one_is_learned_kept_and_passed_on_to_neighbours_alone() -> None:
    play, ear = make_play()
    play.up(LAN, SAT)
    advertise(play, "a", MISSION.say(DPOP2, HOME, DPOP4))
    play.handle(play.received(LAN, "a"))
    assert [(each.sender, each.receiver) for each in ear.learned[DPOP2]] == [(DPOP2, HOME), (DPOP2, DPOP4)]
    assert f"{NOTE_PREFIX}{DPOP2.uri}" in noted(play)
    assert play.handle(play.stored("a")) == ["accept lan0>dpop2 a", "send sat0>home a"]
    play.handle(play.acknowledged(SAT, "a"))
    assert play.state("a") == "replicating", "dpop4 may become a neighbour yet"


def test_members_whom_the_sender_reaches_by_radio_are_left_to_it() -> None:
    play, _ = make_play()
    play.up(LAN, SAT)
    advertise(play, "a", MISSION.say(DPOP2, HOME, kind=BearerKind.LOS))
    play.handle(play.received(LAN, "a"))
    assert play.handle(play.stored("a")) == ["accept lan0>dpop2 a"]
    assert play.state("a") == "replicating", "dpop4 may become a neighbour yet"


def test_who_comes_later_gets_the_newest_of_each_node() -> None:
    play, _ = make_play()
    play.up(LAN)
    advertise(play, "old", MISSION.say(DPOP2, HOME))
    advertise(play, "new", MISSION.say(DPOP2, HOME, sequence=2))
    advertise(play, "other", MISSION.say(DPOP4, DPOP2), DPOP4)
    play.take_in("old")
    play.take_in("other")
    play.take_in("new")
    assert play.state("old") is None
    assert play.up(SAT) == ["send sat0>home other new"]


def test_newest_wins_and_the_rest_is_dropped_and_counted() -> None:
    play, ear = make_play()
    play.up(LAN)
    stranger = Mission(parse_eid("dtn://stranger/"), DPOP2)
    future = BOOT + 10 * 365 * 86400
    advertise(play, "good", MISSION.say(DPOP2, HOME, boot=BOOT, sequence=5))
    advertise(play, "old", MISSION.say(DPOP2, boot=BOOT, sequence=4))
    advertise(play, "older start", MISSION.say(DPOP2, boot=BOOT - 1, sequence=9))
    advertise(play, "replayed", MISSION.say(DPOP2, HOME, boot=BOOT, sequence=5))
    advertise(play, "forged", stranger.say(DPOP2, boot=BOOT, sequence=6))
    advertise(play, "in the name of another", MISSION.say(HOME, boot=BOOT, sequence=6), DPOP2)
    advertise(play, "stranger", stranger.say(parse_eid("dtn://stranger/")), parse_eid("dtn://stranger/"))
    advertise(play, "future", MISSION.say(DPOP2, boot=future))
    advertise(play, "issued in future", MISSION.say(HOME, boot=BOOT, issued_s=play.now_ms // 1000 + 86400), HOME)
    advertise(play, "junk", b"junk")
    advertise(play, "huge", b"x" * 20_000)
    names = [name for name in play.data if name != "good"]
    play.take_in("good")
    for name in names:
        assert play.handle(play.received(LAN, name)) == [f"accept lan0>dpop2 {name}"]
        assert play.kinds == ["topology.dropped"]
    assert [each.receiver for each in ear.learned[DPOP2]] == [HOME]
    counts = play.agent.advertising.topology.counts
    assert {verdict: count for verdict, count in counts.items() if count} == {
        Verdict.TAKEN: 1,
        Verdict.OLD: 2,
        Verdict.REPLAYED: 1,
        Verdict.FORGED: 2,
        Verdict.STRANGER: 1,
        Verdict.FUTURE: 2,
        Verdict.MALFORMED: 2,
    }


def test_a_flood_costs_a_bounded_number_of_checks_and_lines() -> None:
    play, _ = make_play(known_max=100_000)
    play.up(LAN)
    forged = Mission(DPOP2).say(DPOP2)
    names = [f"f{number}" for number in range(10_000)]
    for name in names:
        advertise(play, name, forged)
    lines = play.handle(play.received(LAN, *names))
    assert sum(play.agent.advertising.topology.counts.values()) == CHECKS_BURST
    assert sum(line.startswith("refuse lan0>dpop2") for line in lines) == 10_000 - CHECKS_BURST
    assert len([kind for kind in play.kinds if kind == "topology.dropped"]) <= TELLS_BURST
    assert play.agent.bundle_count == 0


def test_what_a_node_said_ends_with_its_validity() -> None:
    play, ear = make_play()
    play.up(LAN)
    advertise(play, "a", MISSION.say(DPOP2, HOME, valid_s=600), lifetime_ms=600_000)
    play.take_in("a")
    play.later(601)
    play.handle(ev.TimerFired())
    assert ear.learned == {}
    assert "topology.forgotten" in play.kinds
    advertise(play, "again", MISSION.say(DPOP2, HOME))
    play.handle(play.received(LAN, "again"))
    assert play.kinds == ["topology.dropped"], "its number is remembered"


def test_a_restart_forgets_nothing_and_uses_no_number_twice() -> None:
    play, _ = make_play()
    play.up(LAN)
    advertise(play, "a", MISSION.say(DPOP2, HOME))
    play.handle(play.received(LAN, "a"))
    notes = noted(play)
    play.handle(play.stored("a"))
    advertised_by(play)
    notes |= noted(play)
    again, ear = make_play(notes)
    assert [each.receiver for each in ear.learned[DPOP2]] == [HOME]
    again.up(LAN)
    record = advertised_by(again)
    assert noted(again)[BOOT_NOTE] > notes[BOOT_NOTE]
    assert record is not None


def test_what_is_stored_is_passed_on_after_a_restart_unless_a_newer_one_came() -> None:
    play, _ = make_play()
    play.up(LAN)
    advertise(play, "old", MISSION.say(DPOP2, HOME))
    advertise(play, "new", MISSION.say(DPOP2, HOME, sequence=2))
    play.take_in("old")
    play.handle(play.received(LAN, "new"))
    notes = noted(play)
    records = [play.records[play.id(name)] for name in ("old", "new")]
    again = Playbook(neighbours=NEIGHBOURS)
    again.data, again._names, again._ids = play.data, play._names, play._ids
    again.agent.advertising.configure(MISSION.files(NODE), "", again.now)
    again.handle(ev.StoreRecovered(records, [(each.id, each.expiry_ms) for each in records], notes))
    assert (again.state("old"), again.state("new")) == (None, "replicating")
    assert again.up(SAT) == ["send sat0>home new"]


def test_without_keys_there_are_none_and_it_is_said() -> None:
    play = Playbook(neighbours=NEIGHBOURS)
    play.agent.advertising.configure(None, "no keys", play.now)
    play.handle(ev.StoreRecovered([], [], {}))
    assert [(each.kind, each.fields) for each in play.reports] == [("topology.off", {"reason": "no keys"})]
    play.up(LAN)
    play.later(REFRESH_S)
    play.handle(ev.TimerFired())
    assert own_put(play) is None
    advertise(play, "a", MISSION.say(DPOP2, HOME))
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")


def test_without_clock_and_state_a_node_is_mute_and_still_listens() -> None:
    play, ear = make_play(clock_trusted=False)
    assert "topology.mute" in play.kinds
    play.up(LAN)
    play.later(10)
    play.handle(ev.TimerFired())
    assert own_put(play) is None
    advertise(play, "a", MISSION.say(DPOP2, HOME))
    play.handle(play.received(LAN, "a"))
    assert DPOP2 in ear.learned


def test_applications_can_not_send_in_the_name_of_the_node() -> None:
    play, _ = make_play()
    play.expect(play.submitted(destination=TOPOLOGY_ENDPOINT), "refused 1 bad_params")


def test_one_that_the_store_could_not_take_may_come_again() -> None:
    play, _ = make_play()
    play.up(LAN)
    advertise(play, "a", MISSION.say(DPOP2, HOME))
    play.handle(play.received(LAN, "a"))
    play.handle(play.not_stored("a"))
    play.handle(play.received(LAN, "a"))
    assert "accept lan0>dpop2 a" in play.handle(play.stored("a"))
    assert play.state("a") == "replicating"


def test_its_own_of_a_lost_state_is_dropped() -> None:
    play, _ = make_play()
    play.up(LAN)
    advertise(play, "a", MISSION.say(NODE, HOME), NODE)
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")


def test_a_bundle_that_is_too_large_to_be_one_is_refused_as_it_comes() -> None:
    play, _ = make_play()
    play.up(LAN)
    advertise(play, "a", b"x" * 1000)
    begin, piece, _ = play.arriving("a")
    play.handle(ev.TransferBegun(begin.link, begin.transfer, INLINE_SIZE_MAX_BYTES + 1))
    play.expect(piece, "refuse lan0>dpop2 a completed")
