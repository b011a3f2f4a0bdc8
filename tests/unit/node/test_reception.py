# SPDX-License-Identifier: Apache-2.0
"""Reception (RFC 9171 section 5.6): what is taken in, acknowledged when, refused, or dropped with a reason."""

from typing import Any

import pytest

from meshd.base.limits import MESSAGE_SIZE_MAX_BYTES
from meshd.bundle.blocks import BlockFlag, BlockType, Bundle, BundleFlag, CanonicalBlock
from meshd.bundle.codec import decode_untrusted, encode
from meshd.bundle.eid import NULL_EID, parse_eid
from meshd.bundle.record import Part
from meshd.link.settings import NeighbourSettings
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.settings import ReportKind
from meshd.node.state import REPORTS_PER_BATCH
from meshd.routing.settings import RouteSettings
from tests.unit.node.playbook import (
    DPOP2,
    ENDED,
    HOME,
    HOUR_MS,
    INBOX,
    LAN,
    LAN_HOME,
    NO_ROOM,
    SAT,
    START_S,
    UTC_OFFSET_MS,
    Playbook,
)


def refusal(play: Playbook) -> cmd.RefuseTransfer:
    """The one refusal of the last event."""
    (command,) = [command for command in play.commands if isinstance(command, cmd.RefuseTransfer)]
    return command


def test_acknowledged_only_after_it_is_stored() -> None:
    play = Playbook()
    play.expect(play.received(LAN, "a", "b"), "store put a b")
    play.expect(play.stored("a"), "accept lan0>dpop2 a")
    play.expect(play.stored("b"), "accept lan0>dpop2 b")


def test_duplicate_of_a_bundle_being_stored_is_acknowledged_with_it() -> None:
    play = Playbook()
    play.expect(play.received(LAN, "a"), "store put a")
    play.data["copy"] = play.data["a"]
    play.expect(play.received(SAT, "copy"))
    play.expect(play.stored("a"), "accept lan0>dpop2 a", "accept sat0>home copy")


def test_duplicate_within_one_batch() -> None:
    play = Playbook()
    play.bundle("a")
    play.data["copy"] = play.data["a"]
    play.expect(play.received(LAN, "a", "copy"), "store put a")
    play.expect(play.stored("a"), "accept lan0>dpop2 a copy")


def test_duplicate_of_a_stored_bundle_is_acknowledged_at_once() -> None:
    play = Playbook()
    play.take_in("a")
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")


def test_duplicate_of_a_forwarded_bundle_is_acknowledged_at_once() -> None:
    play = Playbook()
    play.up(SAT)
    play.take_in("a")
    play.expect(play.acknowledged(SAT, "a"), "store delete a")
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")


def test_what_could_not_be_stored_may_come_again() -> None:
    play = Playbook()
    play.handle(play.received(LAN, "a"))
    play.data["copy"] = play.data["a"]
    play.handle(play.received(LAN, "copy"))
    play.expect(play.not_stored("a"), "refuse lan0>dpop2 a retriable", "refuse lan0>dpop2 copy retriable")
    assert "disk full" in next(c.text for c in play.commands if isinstance(c, cmd.RefuseTransfer))
    assert play.agent.stored_bytes == 0
    play.expect(play.received(LAN, "a"), "store put a")


def test_expired_while_being_stored_is_acknowledged_and_forgotten() -> None:
    play = Playbook()
    play.bundle("a", lifetime_ms=5)
    play.handle(play.received(LAN, "a"))
    play.fire("store delete a", "accept lan0>dpop2 a")
    play.expect(play.stored("a"))
    assert play.state("a") is None


def test_malformed_is_refused_for_good() -> None:
    play = Playbook()
    play.data["junk"] = b"\x9f\x88 no bundle"
    play.expect(play.received(LAN, "junk"), "refuse lan0>dpop2 junk final")
    assert "malformed" in refusal(play).text
    assert play.kinds == ["bundle.malformed"]


def test_malformed_in_a_batch_leaves_the_others_alone() -> None:
    play = Playbook()
    play.data["junk"] = b""
    play.expect(play.received(LAN, "a", "junk", "b"), "store put a b", "refuse lan0>dpop2 junk final")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time_ms": UTC_OFFSET_MS - HOUR_MS, "lifetime_ms": HOUR_MS}, "lifetime expired"),
        ({"time_ms": 0, "age_ms": HOUR_MS + 1}, "lifetime expired"),
        ({"destination": NULL_EID}, "destination is dtn:none"),
        ({"destination": INBOX, "part": Part(1, 1, 0, 5, False)}, "its part block is impossible"),
        ({"destination": INBOX, "part": Part(1, 1, 2, 0, False)}, "its part block is impossible"),
        ({"destination": INBOX, "part": Part(1, 1, 9, 8, False)}, "its part block is impossible"),
        (
            {"destination": INBOX, "part": Part(1, 1, 9, MESSAGE_SIZE_MAX_BYTES + 1, True)},
            "its part block is impossible",
        ),
    ],
)
def test_unacceptable_is_acknowledged_and_dropped(changes: dict[str, Any], reason: str) -> None:
    play = Playbook()
    play.bundle("a", **changes)
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")
    assert [report.fields["reason"] for report in play.reports if report.kind == "bundle.dropped"] == [reason]
    assert play.agent.known_count == 0


def with_hop_count(data: bytes, hop_count: int) -> bytes:
    """The same bundle after this many hops of its 32."""
    bundle = decode_untrusted(data)
    blocks = tuple(
        CanonicalBlock(block.type, block.number, b"\x82\x18\x20\x18" + bytes((hop_count,)), block.flags, block.crc_type)
        if block.type == 10
        else block
        for block in bundle.blocks
    )
    return encode(Bundle(bundle.primary, blocks))


def test_hop_limit_ends_forwarding_but_not_delivery() -> None:
    play = Playbook()
    play.data["far"] = with_hop_count(play.bundle("far"), 32)
    play.expect(play.received(LAN, "far"), "accept lan0>dpop2 far")
    assert play.reports[0].fields["reason"] == "hop limit exceeded"
    play.data["mine"] = with_hop_count(play.bundle("mine", INBOX), 32)
    play.expect(play.received(LAN, "mine"), "store put mine")
    play.data["near"] = with_hop_count(play.bundle("near"), 31)
    play.expect(play.received(LAN, "near"), "store put near")


def test_block_that_asks_for_deletion_where_it_is_unknown() -> None:
    play = Playbook()
    bundle = decode_untrusted(play.bundle("a"))
    unknown = CanonicalBlock(250, 9, b"?", BlockFlag.DELETE_BUNDLE_IF_UNPROCESSABLE, 0)
    play.data["a"] = encode(Bundle(bundle.primary, (unknown, *bundle.blocks)))
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")
    assert "asks for the bundle's deletion" in str(play.reports[0].fields["reason"])


def test_over_quota_is_refused_retriable() -> None:
    play = Playbook(quota_bytes=400)
    play.bundle("big", payload=bytes(400))
    play.expect(play.received(LAN, "big"), "refuse lan0>dpop2 big retriable")
    assert "the store is full (0 of 400 bytes" in refusal(play).text
    play.expect(play.received(LAN, "small"), "store put small")


def test_urgent_has_a_reserve_of_the_quota() -> None:
    play = Playbook(bundles_max=20)
    play.handle(play.received(LAN, *[f"routine{number}" for number in range(20)]))
    taken = play.agent.known_count
    assert taken < 20
    play.bundle("immediate", precedence=3)
    play.bundle("routine")
    play.expect(
        play.received(LAN, "routine", "immediate"), "store put immediate", "refuse lan0>dpop2 routine retriable"
    )


def test_beyond_half_of_the_quota_only_the_oldest_incomplete_message_grows() -> None:
    play = Playbook(bundles_max=10)
    for name, first, index in (("a0", 1, 0), ("b0", 2, 0), ("a1", 1, 1), ("b1", 2, 1), ("a2", 1, 2)):
        play.bundle(name, INBOX, part=Part(first, first, index, index, False))
        play.take_in(name)
    play.bundle("b2", INBOX, part=Part(2, 2, 2, 2, False))
    play.expect(play.received(LAN, "b2"), "refuse lan0>dpop2 b2 retriable")
    play.bundle("a3", INBOX, part=Part(1, 1, 3, 3, True))
    play.expect(play.received(LAN, "a3"), "store put a3")
    play.handle(play.stored("a3"))
    play.expect(play.received(LAN, "b2"), "store put b2")


def test_full_duplicate_memory_refuses_what_is_new_only() -> None:
    play = Playbook(known_max=1)
    play.take_in("a")
    play.expect(play.received(LAN, "b"), "refuse lan0>dpop2 b retriable")
    assert "known_max" in refusal(play).text
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")


@pytest.mark.parametrize(("claimed", "ceiling", "treated_as"), [(5, 2, 2), (1, 2, 1), (5, 5, 5), (3, 0, 0)])
def test_a_ceiling_bounds_what_a_neighbour_may_claim(claimed: int, ceiling: int, treated_as: int) -> None:
    play = Playbook(neighbours=(NeighbourSettings(DPOP2, "lan0", None, precedence_max=ceiling),))
    data = play.bundle("a", precedence=claimed)
    play.handle(play.received(LAN, "a"))
    record = play.records[play.id("a")]
    assert record.precedence == treated_as
    assert record.payload.inline == data  # the block stays as it was


def test_a_neighbour_that_nobody_configured_may_claim_routine_at_most() -> None:
    play = Playbook()
    play.bundle("a", precedence=5)
    play.handle(play.received(LAN_HOME, "a"))
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert entry.record.precedence == 1, "who it is was not proven there"


@pytest.mark.parametrize(
    ("changes", "lifetime_ms"),
    [
        ({}, HOUR_MS),
        ({"lifetime_ms": 90 * 24 * HOUR_MS}, 30 * 24 * HOUR_MS),
        ({"time_ms": UTC_OFFSET_MS + int(START_S * 1000) - 600_000}, HOUR_MS - 600_000),
        ({"time_ms": UTC_OFFSET_MS + int(START_S * 1000) + 10**9}, HOUR_MS),
        ({"time_ms": 0, "age_ms": 1000}, HOUR_MS - 1000),
    ],
    ids=["as it says", "capped", "made earlier", "made in the future", "by age"],
)
def test_expiry(changes: dict[str, Any], lifetime_ms: int) -> None:
    play = Playbook()
    play.bundle("a", **changes)
    play.take_in("a")
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert entry.record.expiry_ms - play.now_ms == lifetime_ms
    assert entry.record.by_age == (changes.get("time_ms") == 0)


def test_without_a_clock_all_expiry_is_by_age() -> None:
    play = Playbook(clock_trusted=False)
    play.bundle("a", time_ms=5)
    play.take_in("a")
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert (entry.record.by_age, entry.record.expiry_ms - play.now_ms) == (True, HOUR_MS)


def test_previous_node_is_the_neighbour_of_the_session() -> None:
    play = Playbook()
    play.take_in("a", link=SAT)
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert entry.record.previous_node == SAT.neighbour


def test_own_bundle_that_its_destination_has_is_acknowledged_when_it_comes_back() -> None:
    play = Playbook()
    play.up(SAT)
    name = play.submit()
    play.handle(play.acknowledged(SAT, name))
    play.data["back"] = play.data[name]
    play.expect(play.received(LAN, "back"), "accept lan0>dpop2 back")


def by_dpop2(**changes: Any) -> Playbook:
    """To the home station by way of dpop2, whose link is up; the link to the home station is not."""
    play = Playbook((RouteSettings(HOME, DPOP2, ()),), **changes)
    play.up(LAN)
    return play


def test_what_was_passed_on_to_a_relay_and_comes_back_is_taken_again() -> None:
    play = by_dpop2()
    play.take_in("a", link=SAT)
    play.expect(play.acknowledged(LAN, "a"), "store delete a")
    play.expect(play.received(LAN, "a"), "store put a")
    play.expect(play.stored("a"), "accept lan0>dpop2 a")
    assert play.state("a") == "waiting", "not back to where it came from"
    play.expect(ev.LinkUp(SAT))
    play.expect(ev.LinkWritable(SAT, 1_000_000), "send sat0>home a")
    play.expect(play.acknowledged(SAT, "a"), "store delete a")
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")


def test_own_bundle_that_a_relay_brings_back_is_taken_again() -> None:
    play = by_dpop2()
    name = play.submit()
    play.handle(play.acknowledged(LAN, name))
    play.data["back"] = play.data[name]
    assert play.handle(play.received(LAN, "back")) == [f"store put {name}"]


def test_what_is_under_way_to_a_relay_is_refused_for_now() -> None:
    play = by_dpop2()
    play.take_in("a", link=SAT)
    play.expect(play.received(LAN, "a"), "refuse lan0>dpop2 a retriable")
    play.handle(ev.LinkDown(LAN, "gone"))
    play.handle(play.failed(LAN, ENDED, "a"))
    assert play.state("a") == "waiting"
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")


def test_of_two_nodes_that_refuse_each_other_one_tries_again_sooner() -> None:
    pauses = []
    for name in ("dtn://dpop1/", "dtn://dpop9/"):
        play = by_dpop2(id=parse_eid(name))
        play.take_in("a", link=SAT)
        play.handle(play.received(LAN, "a"))
        play.handle(play.failed(LAN, NO_ROOM, "a"))
        assert play.wake_at is not None
        pauses.append(play.wake_at - play.now)
    assert pauses == [1.0, 2.0]


def test_one_without_a_hop_count_is_taken_again_once() -> None:
    play = by_dpop2()
    play.bundle("a", hop_limit=0)
    for _ in range(2):
        play.take_in("a", link=SAT)
        play.handle(play.acknowledged(LAN, "a"))
    play.expect(play.received(SAT, "a"), "accept sat0>home a")


def test_what_was_cancelled_does_not_come_back() -> None:
    play = by_dpop2()
    play.take_in("a", link=SAT)
    play.handle(ev.BundleCancelled(play.id("a"), "root"))
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")


def test_a_large_bundle_that_comes_back_is_taken_again() -> None:
    play = by_dpop2()
    play.take_in("a", link=SAT)
    begun, first, _ = play.arriving("a", SAT)
    play.handle(begun)
    assert play.handle(first) == ["refuse sat0>home a retriable"]
    play.handle(play.acknowledged(LAN, "a"))
    play.handle(begun)
    assert play.handle(first) not in (["refuse sat0>home a completed"], ["refuse sat0>home a retriable"])


def test_counters_and_reports() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(LAN))
    play.handle(play.received(LAN, "a", "b"))
    assert play.kinds == ["bundle.received", "bundle.received"]
    link = play.agent.links.get(LAN)
    assert link is not None
    assert (link.received_bundles, link.received_bytes) == (2, len(play.data["a"]) + len(play.data["b"]))
    names = [f"n{number}" for number in range(REPORTS_PER_BATCH + 1)]
    play.handle(play.received(LAN, *names))
    assert play.kinds == ["bundles.received"]
    assert play.reports[0].fields["count"] == len(names)


def test_an_anonymous_bundle_is_delivered_once_and_never_reported() -> None:
    play = Playbook(status_reports=frozenset(ReportKind))
    play.handle(ev.ReceiverAttached(1, INBOX))
    play.bundle("a", INBOX, source=NULL_EID, flags=BundleFlag.MUST_NOT_FRAGMENT)
    play.bundle("b", INBOX, source=NULL_EID, flags=BundleFlag.MUST_NOT_FRAGMENT, payload=b"another")
    assert play.take_in("a") == ["accept lan0>dpop2 a", "deliver 1 a"]
    play.expect(play.received(LAN, "a"), "accept lan0>dpop2 a")
    play.expect(play.confirmed(1, "a"), "store delete a")
    assert play.take_in("b") == ["accept lan0>dpop2 b", "deliver 1 b"]


@pytest.mark.parametrize(("count", "is_kept"), [(1, True), (2, False), (3, False)])
def test_the_hop_limit_ends_a_bundle_in_transit_and_not_one_that_has_arrived(count: int, is_kept: bool) -> None:
    play = Playbook(status_reports=frozenset(ReportKind))
    for name, destination in (("transit", parse_eid("dtn://home/inbox")), ("arrived", INBOX)):
        bundle = decode_untrusted(play.bundle(name, destination, hop_limit=2, flags=BundleFlag.REPORT_DELETION))
        blocks = [
            CanonicalBlock(each.type, each.number, bytes((0x82, 2, count)), each.flags, each.crc_type)
            if each.type == BlockType.HOP_COUNT
            else each
            for each in bundle.blocks
        ]
        play.data[name] = encode(Bundle(bundle.primary, tuple(blocks)))
    play.handle(play.received(LAN, "transit", "arrived"))
    assert (play.agent.entry(play.id("transit")) is not None) == is_kept
    assert play.agent.entry(play.id("arrived")) is not None


@pytest.mark.parametrize(
    ("changes", "lifetime_ms"),
    [
        ({"time_ms": 0, "age_ms": 600_000}, HOUR_MS - 600_000),
        ({"time_ms": 5, "age_ms": 600_000}, HOUR_MS - 600_000),
        ({"time_ms": 5}, HOUR_MS),
    ],
    ids=["no clock at the source", "by age where there is no clock here", "nothing to go by"],
)
def test_expiry_on_a_node_without_a_clock(changes: dict[str, Any], lifetime_ms: int) -> None:
    play = Playbook(clock_trusted=False)
    play.bundle("a", **changes)
    play.take_in("a")
    record = play.records[play.id("a")]
    assert (record.expiry_ms - play.now_ms, record.by_age) == (lifetime_ms, True)
