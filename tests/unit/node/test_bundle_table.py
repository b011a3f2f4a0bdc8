# SPDX-License-Identifier: Apache-2.0
"""The bundle table: quota, bytes in memory, who waits, and the expiry heap."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.node import bundle_table
from meshd.node.bundle_table import BundleState, BundleTable, Entry, Room
from tests.unit.node.playbook import DPOP2, HOME

SOURCE = parse_eid("dtn://dpop2/inbox")


def entry(sequence: int, size_bytes: int = 10, expiry_ms: int = 100, destination: Eid = HOME) -> Entry:
    """A bundle with its bytes in memory."""
    data = bytes(size_bytes)
    payload = PayloadRef(-1, 0, size_bytes, data)
    bundle = BundleId(SOURCE, 1, sequence)
    record = BundleRecord(bundle, destination, 1, expiry_ms, 0, size_bytes, 0, False, DPOP2, None, False, payload)
    return Entry(record, None, data, is_own=False)


def test_room_by_bytes_and_count() -> None:
    table = BundleTable(quota_bytes=1000, bundles_max=4)
    assert table.has_room(800, 1, Room.ONWARD)
    assert not table.has_room(801, 1, Room.ONWARD)
    assert table.has_room(850, 3, Room.ONWARD)
    assert table.has_room(950, 1, Room.ARRIVED)
    assert not table.has_room(951, 1, Room.ARRIVED)
    assert table.has_room(1000, 3, Room.ARRIVED)
    assert not table.has_room(501, 1, Room.OTHER_MESSAGES)
    for sequence in range(3):
        table.add(entry(sequence))
    assert not table.has_room(1, 1, Room.ONWARD)
    assert not table.has_room(1, 1, Room.ARRIVED)
    assert table.has_room(1, 5, Room.ARRIVED)


def test_sizes() -> None:
    table = BundleTable(10**6, 100)
    one, two = entry(1, 10), entry(2, 20)
    table.add(one)
    table.add(two)
    assert (len(table), table.size_bytes, table.inline_bytes) == (2, 30, 30)
    table.drop_inline(one)
    table.drop_inline(one)
    assert (one.inline, table.inline_bytes) == (None, 20)
    table.remove(one)
    table.remove(two)
    assert (len(table), table.size_bytes, table.inline_bytes) == (0, 0, 0)


def test_bytes_in_memory_are_bounded() -> None:
    table = BundleTable(10**9, 100)
    big, small = entry(1, bundle_table.INLINE_MAX_BYTES), entry(2, 10)
    table.add(big)
    table.became_durable(big, PayloadRef(1, 2, 3))
    assert big.inline is not None
    table.add(small)
    table.became_durable(small, PayloadRef(4, 5, 6))
    assert (small.inline, small.record.payload) == (None, PayloadRef(4, 5, 6))


def test_waiting_is_told_oldest_first() -> None:
    table = BundleTable(10**6, 100)
    home, dpop2, other = entry(1), entry(2, destination=DPOP2), entry(3)
    for each in (home, dpop2, other):
        table.add(each)
        table.wait(each, "no link")
    assert table.waiting() == [home, dpop2, other]
    assert (home.state, home.reason, home.inline) == (BundleState.WAITING, "no link", None)
    home.state = BundleState.QUEUED
    table.remove(dpop2)
    assert table.waiting() == [other]


def test_nothing_is_kept_of_what_is_gone() -> None:
    table = BundleTable(10**9, 10**6)
    for sequence in range(3000):
        table.add(entry(sequence, expiry_ms=sequence * 100))
    for each in list(table.unparked()):
        table.remove(each)
    assert len(table._expiries._heap) <= 64
    assert table._expiries._spans == {}
    assert table.next_expiry_ms() is None


def test_a_bundle_that_came_again_expires_by_its_second_time() -> None:
    table = BundleTable(10**6, 100)
    first = entry(1, expiry_ms=10)
    table.add(first)
    table.remove(first)
    table.add(entry(1, expiry_ms=50))
    assert table.pop_expired(20) == []
    assert [each.record.expiry_ms for each in table.pop_expired(50)] == [50]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100)), max_size=40), st.integers(0, 100))
def test_expiry_against_a_plain_list(steps: list[tuple[int, int]], now_ms: int) -> None:
    """Bundles come and go; one that is here and comes again goes first."""
    table = BundleTable(10**9, 10**6)
    model: dict[int, int] = {}
    for sequence, expiry_ms in steps:
        here = table.get(BundleId(SOURCE, 1, sequence))
        if here is not None:
            table.remove(here)
            del model[sequence]
        else:
            table.add(entry(sequence, expiry_ms=expiry_ms))
            model[sequence] = expiry_ms
    next_ms = table.next_expiry_ms()
    assert (next_ms is None) == (not model)
    assert next_ms is None or next_ms <= min(model.values())
    expired = table.pop_expired(now_ms)
    assert sorted(each.record.id.sequence for each in expired) == sorted(
        sequence for sequence, expiry_ms in model.items() if expiry_ms <= now_ms
    )


def test_reschedule_takes_the_new_times() -> None:
    table = BundleTable(10**6, 100)
    one = entry(1, expiry_ms=10)
    table.add(one)
    one.record = msgspec.structs.replace(one.record, expiry_ms=90)
    table.reschedule()
    assert table.next_expiry_ms() == 90
    assert table.pop_expired(50) == []
