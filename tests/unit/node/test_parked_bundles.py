# SPDX-License-Identifier: Apache-2.0
"""Bundles that have only waited since the start: they behave as any other, and have no entry before that matters."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.node import events as ev
from meshd.node.bundle_table import BundleState, BundleTable
from meshd.node.parked_bundles import Kind
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.routing.settings import RouteSettings
from tests.unit.node.playbook import (
    DPOP2,
    HOME,
    HOME_INBOX,
    HOUR_MS,
    LAN,
    NEIGHBOURS,
    NODE,
    SAT,
    START_S,
    STRANGER,
    UTC_OFFSET_MS,
    Playbook,
    node_settings,
)

SOURCE = parse_eid("dtn://dpop2/inbox")
NOW_MS = UTC_OFFSET_MS + int(START_S * 1000)
STRANGER_INBOX = parse_eid("dtn://stranger/inbox")


def record(
    sequence: int,
    destination: Eid = HOME_INBOX,
    precedence: int = 1,
    expiry_ms: int = NOW_MS + HOUR_MS,
    back: Eid | None = DPOP2,
    **changes: Any,
) -> BundleRecord:
    """A bundle as the store brings it."""
    bundle, by_age, payload = BundleId(SOURCE, NOW_MS, sequence), changes.get("by_age", False), PayloadRef(3, 70, 10)
    return BundleRecord(bundle, destination, precedence, expiry_ms, NOW_MS, 10, 0, by_age, back, None, False, payload)


def recovered(*records: BundleRecord, **changes: Any) -> Playbook:
    """A node that starts with these; their names are their sequence numbers."""
    play = Playbook(**changes)
    for each in records:
        play.name(str(each.id.sequence), each.id)
    play.handle(ev.StoreRecovered(records, (), {}))
    return play


def parked(play: Playbook) -> list[int]:
    """Who is parked."""
    return [bundle.sequence for bundle in play.agent._state.table.parked.records]


def test_what_can_only_wait_is_parked_and_can_be_looked_at() -> None:
    play = recovered(record(1), record(2, parse_eid("dtn://dpop1/inbox")), record(3, back=None))
    assert parked(play) == [1, 3]
    entry, own = play.agent.entry(play.id("1")), play.agent.entry(play.id("3"))
    assert entry is not None
    assert own is not None
    assert (entry.state, entry.reason) == (BundleState.WAITING, "the links to neighbour dtn://home/ are down or silent")
    assert (entry.is_own, own.is_own) == (False, True)
    assert [each.record.id.sequence for each in play.agent.entries()] == [1, 3, 2]
    assert (play.agent.bundle_count, play.agent.stored_bytes, play.agent.onward()) == (3, 30, (2, 20))
    assert parked(play) == [1, 3], "looking changes nothing"


def test_what_a_link_that_is_up_takes_is_not_parked() -> None:
    play = Playbook()
    play.up(SAT)
    play.name("1", record(1).id)
    play.expect(ev.StoreRecovered([record(1), record(2, STRANGER_INBOX)], (), {}), "send sat0>home 1")
    assert parked(play) == [2]


def test_a_link_takes_its_own_by_precedence_and_leaves_the_others_parked() -> None:
    play = recovered(record(1), record(2, STRANGER_INBOX), record(3, precedence=3), record(4, expiry_ms=NOW_MS + 9))
    assert play.up(LAN) == []
    assert parked(play) == [1, 2, 3, 4]
    assert play.up(SAT) == ["send sat0>home 3 4 1"]
    assert parked(play) == [2]
    play.expect(play.acknowledged(SAT, "1"), "store delete 1")
    assert (play.agent.bundle_count, play.agent.stored_bytes, play.agent.onward()) == (3, 30, (3, 30))


def test_what_came_from_a_neighbour_does_not_go_back_to_it() -> None:
    play = recovered(record(1, back=HOME), record(2))
    assert play.up(SAT) == ["send sat0>home 2"]
    assert parked(play) == [1]


def test_new_routes_count_for_them() -> None:
    play = recovered(record(1, STRANGER_INBOX))
    play.up(LAN)
    route = RouteSettings(STRANGER, HOME, ())
    router = ContactRouter(NODE, ContactPlan(), [route])
    play.agent.reconfigure(node_settings(), NEIGHBOURS, router, frozenset(), play.now)
    play.expect(ev.PosturesChanged({}))
    entry = play.agent.entry(play.id("1"))
    assert entry is not None
    assert entry.reason == "no usable link to dtn://stranger/, nor to its next hops dtn://home/"
    assert play.up(SAT) == ["send sat0>home 1"]
    assert parked(play) == []


def test_they_expire_in_time() -> None:
    play = recovered(record(1, expiry_ms=NOW_MS + 5000), record(2, expiry_ms=NOW_MS + 3000), record(3))
    play.fire("store delete 2")
    assert play.kinds == ["bundle.deleted"]
    assert play.now_ms == pytest.approx(NOW_MS + 3000, abs=2)
    play.fire("store delete 1")
    assert parked(play) == [3]


def test_what_has_expired_before_the_start_goes_at_once() -> None:
    play = Playbook()
    play.name("1", record(1).id)
    play.expect(ev.StoreRecovered([record(1, expiry_ms=NOW_MS), record(2)], (), {}), "store delete 1")
    assert parked(play) == [2]


def test_one_can_be_cancelled() -> None:
    play = recovered(record(1), record(2))
    play.expect(ev.BundleCancelled(play.id("2"), "somebody"), "store delete 2")
    assert parked(play) == [1]


def test_one_that_comes_again_is_known() -> None:
    play = recovered(record(1))
    play.bundle("again", time_ms=NOW_MS, sequence=1)
    play.expect(play.received(LAN, "again"), "accept lan0>dpop2 again")
    assert play.agent.bundle_count == 1


def test_one_that_can_not_be_read_is_given_up() -> None:
    play = recovered(record(1), record(2))
    play.expect(ev.DataUnreadable([play.id("1")], "a flipped bit"), "store delete 1")
    assert parked(play) == [2]


def test_they_count_for_the_quota() -> None:
    play = recovered(record(1), record(2), quota_bytes=30)
    play.expect(play.received(LAN, "a"), "refuse lan0>dpop2 a retriable")


def test_a_step_of_the_clock_moves_what_goes_by_age() -> None:
    play = recovered(record(1, by_age=True), record(2))
    play.expect(ev.ClockStepped(UTC_OFFSET_MS + 2 * HOUR_MS, 1000), "store delete 2")
    entry = play.agent.entry(play.id("1"))
    assert entry is not None
    assert (entry.record.expiry_ms, entry.record.received_ms) == (NOW_MS + 3 * HOUR_MS, NOW_MS + 2 * HOUR_MS)
    assert parked(play) == [1]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100), st.booleans()), unique_by=lambda row: row[0]),
    st.lists(st.tuples(st.sampled_from(("get", "remove", "expire", "unpark")), st.integers(0, 100)), max_size=30),
)
def test_against_a_plain_table(rows: list[tuple[int, int, bool]], steps: list[tuple[str, int]]) -> None:
    """Whatever is done, and however few are still parked, what is here and what expires next is right."""
    records = [record(number, HOME if flag else STRANGER, expiry_ms=expiry) for number, expiry, flag in rows]
    kinds: list[Kind] = [(HOME, DPOP2), (STRANGER, DPOP2)]
    table, model = BundleTable(10**9, 10**6), {each.id: each.expiry_ms for each in records}
    table.park(records, dict.fromkeys(kinds, "no link"), {(each.destination, DPOP2): each for each in records})
    for step, number in steps:
        bundle = BundleId(SOURCE, NOW_MS, number)
        if step == "expire":
            due = table.pop_expired(number)
            assert sorted(each.record.id for each in due) == sorted(key for key, at in model.items() if at <= number)
            for each in due:
                table.remove(each)
                del model[each.record.id]
        elif step == "unpark":
            before = len(table.parked.records)
            assert len(table.unpark([kinds[number % 2]])) == before - len(table.parked.records)
        else:
            entry = table.get(bundle)
            assert (entry is not None) == (bundle in model)
            if entry is not None and step == "remove":
                table.remove(entry)
                del model[bundle]
        next_ms = table.next_expiry_ms()
        assert (next_ms is None) == (not model)
        assert next_ms is None or next_ms <= min(model.values())
        assert sorted(table.ids()) == sorted(each.id for each in table.records()) == sorted(model)
        assert (len(table), table.size_bytes) == (len(model), 10 * len(model))
        assert len(table.parked._by_expiry) <= 2 * len(table.parked.records) + 64
