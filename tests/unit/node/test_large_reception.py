# SPDX-License-Identifier: Apache-2.0
"""Bundles that arrive piece by piece: decided on the first piece, there with the last, nothing left in between."""

from typing import Any

import pytest

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.record import PayloadRef
from meshd.node import events as ev
from meshd.node.large_reception import STREAMS_MAX, STREAMS_PER_LINK_MAX
from tests.unit.node.playbook import DPOP2, HOME, LAN, LAN_HOME, NODE, SAT, Playbook
from tests.unit.node.test_reception import with_hop_count


def whole(name: str, link: Any = LAN) -> ev.TransferEnded:
    return ev.TransferEnded(link, name, is_whole=True)


def broken_off(name: str, link: Any = LAN) -> ev.TransferEnded:
    return ev.TransferEnded(link, name, is_whole=False)


def begin(play: Playbook, name: str = "a", stream: int = 1) -> None:
    """Its first piece is taken."""
    begun, first, _ = play.arriving(name)
    play.expect(begun)
    lines = [f"begin {stream} lan0>dpop2 {begun.size_bytes}", f"write {stream} {len(first.data)}"]
    play.expect(first, *lines)


def test_acknowledged_when_the_record_is_durable_and_sent_on() -> None:
    play = Playbook()
    play.up(SAT)
    begin(play)
    play.expect(play.arriving("a")[2], f"write 1 {len(b'a') + 6}")
    play.expect(whole("a"), "finish 1 a")
    assert play.state("a") == "storing"
    record = play.records[play.id("a")]
    assert (record.size_bytes, record.previous_node, record.payload.inline) == (len(play.data["a"]), DPOP2, None)
    assert [report.kind for report in play.reports] == ["bundle.received"]
    play.expect(play.stored("a"), "accept lan0>dpop2 a", "send sat0>home a")
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert entry.record.payload == PayloadRef(3, 70, record.size_bytes)


def test_a_broken_transfer_leaves_nothing() -> None:
    play = Playbook()
    begin(play)
    play.expect(broken_off("a"), "abort 1")
    assert play.state("a") is None
    begin(play, stream=2)


def test_what_the_store_can_t_take_is_refused_and_its_rest_passed_over() -> None:
    play = Playbook()
    begin(play)
    play.expect(ev.StreamFailed(1, "disk full"), "abort 1", "refuse lan0>dpop2 a retriable")
    play.expect(play.arriving("a")[2])
    play.expect(broken_off("a"))
    play.expect(ev.StreamFailed(1, "disk full"))


def test_a_record_that_can_t_be_committed_is_refused() -> None:
    play = Playbook()
    begin(play)
    play.handle(play.arriving("a")[2])
    play.handle(whole("a"))
    play.expect(play.not_stored("a"), "refuse lan0>dpop2 a retriable")
    assert play.state("a") is None


@pytest.mark.parametrize("change", ["crc", "short", "long", "front"])
def test_a_malformed_one_is_refused_for_good(change: str) -> None:
    play = Playbook()
    begun, first, rest = play.arriving("a")
    play.handle(begun)
    if change == "front":
        play.expect(ev.TransferPiece(LAN, "a", b"\x00" + first.data), "refuse lan0>dpop2 a final")
    else:
        play.handle(first)
        data = {"crc": rest.data[:-2] + b"x\xff", "short": rest.data[:-1], "long": rest.data + b"x"}[change]
        play.handle(ev.TransferPiece(LAN, "a", data))
        play.expect(whole("a"), "abort 1", "refuse lan0>dpop2 a final")
    assert [report.kind for report in play.reports] == ["bundle.malformed"]
    assert play.state("a") is None


def test_one_that_was_here_before_need_not_come() -> None:
    play = Playbook()
    play.take_in("a")
    begun, first, _ = play.arriving("a")
    play.handle(begun)
    play.expect(first, "refuse lan0>dpop2 a completed")


def test_one_that_is_arriving_already_is_refused_for_now() -> None:
    play = Playbook()
    begin(play)
    _, first, _ = play.arriving("a")
    play.handle(ev.TransferBegun(LAN_HOME, "again", None))
    play.expect(ev.TransferPiece(LAN_HOME, "again", first.data), "refuse lan0>home again retriable")
    play.handle(play.arriving("a")[2])
    play.handle(whole("a"))
    play.handle(ev.TransferBegun(LAN_HOME, "again", None))
    play.expect(ev.TransferPiece(LAN_HOME, "again", first.data), "refuse lan0>home again retriable")


def test_an_expired_one_is_refused_like_one_that_was_here() -> None:
    play = Playbook()
    play.bundle("a", lifetime_ms=1000)
    play.later(2)
    begun, first, _ = play.arriving("a")
    play.handle(begun)
    play.expect(first, "refuse lan0>dpop2 a completed")
    assert [report.kind for report in play.reports] == ["bundle.dropped"]


def test_its_hop_limit_counts() -> None:
    play = Playbook()
    play.data["a"] = with_hop_count(play.bundle("a"), 32)
    begun, first, _ = play.arriving("a")
    play.handle(begun)
    play.expect(first, "refuse lan0>dpop2 a completed")


def test_what_has_to_be_read_here_is_not_taken() -> None:
    play = Playbook()
    play.bundle("a", NODE, source=HOME, flags=BundleFlag.IS_ADMIN_RECORD)
    begun, first, _ = play.arriving("a")
    play.handle(begun)
    play.expect(first, "refuse lan0>dpop2 a completed")


def test_room_is_reserved_while_it_arrives() -> None:
    play = Playbook(quota_bytes=1000)
    play.bundle("a", payload=bytes(500))
    play.bundle("b", payload=bytes(500))
    for name in "ab":
        begun, first, _ = play.arriving(name)
        play.handle(begun)
        lines = play.handle(first)
    assert lines == ["refuse lan0>dpop2 b retriable"]
    assert play.handle(play.received(LAN, "c")) == ["store put c"]
    play.handle(broken_off("a"))
    begun, first, _ = play.arriving("b")
    play.handle(begun)
    assert play.handle(first)[0].startswith("begin 2 ")


def test_how_many_arrive_at_a_time_is_limited() -> None:
    play = Playbook()
    for number in range(STREAMS_PER_LINK_MAX):
        play.expect(ev.TransferBegun(LAN, f"t{number}", 10**6))
    play.expect(ev.TransferBegun(LAN, "one more", 10**6), "refuse lan0>dpop2 one more retriable")
    play.expect(ev.TransferBegun(SAT, "other link", 10**6))
    play.expect(broken_off("t0"))
    play.expect(ev.TransferBegun(LAN, "another", 10**6))
    assert STREAMS_MAX > STREAMS_PER_LINK_MAX
