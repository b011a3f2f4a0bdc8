# SPDX-License-Identifier: Apache-2.0
"""The out-queue against a plainly sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.bundle.supersession import Supersession
from meshd.node.bundle_table import Entry
from meshd.node.outqueue import OutQueue

SOURCE = parse_eid("dtn://dpop2/inbox")
DESTINATION = parse_eid("dtn://home/inbox")


def queued(sequence: int, precedence: int = 1, expiry_ms: int = 100, received_ms: int = 0) -> Entry:
    """A bundle of 10 bytes and as many as its sequence number."""
    size_bytes = 10 + sequence
    payload = PayloadRef(0, 0, size_bytes)
    bundle = BundleId(SOURCE, 1, sequence)
    record = BundleRecord(
        bundle, DESTINATION, precedence, expiry_ms, received_ms, size_bytes, 0, False, None, None, False, payload
    )
    return Entry(record, None, None, is_own=False)


def drained(queue: OutQueue) -> list[int]:
    """Sequence numbers in the order in which they come out."""
    order = []
    while (entry := queue.pop()) is not None:
        order.append(entry.record.id.sequence)
    return order


def test_precedence_then_expiry_then_age_then_arrival() -> None:
    queue = OutQueue()
    for each in (
        queued(0),
        queued(1, expiry_ms=50),
        queued(2, precedence=4),
        queued(3, received_ms=-5),
        queued(4),
        queued(5, precedence=0, expiry_ms=1),
    ):
        queue.push(each)
    assert drained(queue) == [2, 1, 3, 0, 4, 5]


def test_empty() -> None:
    queue = OutQueue()
    assert queue.pop() is None
    assert (len(queue), queue.size_bytes) == (0, 0)
    queue.withdraw(queued(1))
    assert queue.drain() == []


def test_drain_leaves_nothing() -> None:
    queue = OutQueue()
    queue.push(queued(1))
    queue.push(queued(2))
    assert [entry.record.id.sequence for entry in queue.drain()] == [1, 2]
    assert (len(queue), queue.size_bytes, queue.pop()) == (0, 0, None)


def test_withdrawn_items_do_not_pile_up() -> None:
    queue = OutQueue()
    entries = [queued(sequence, expiry_ms=sequence % 7) for sequence in range(2000)]
    for entry in entries:
        queue.push(entry)
    for entry in entries[:-1]:
        queue.withdraw(entry)
    assert sum(len(lane.fifo) + len(lane.heap) for lane in queue._lanes) <= 2 * len(queue) + 65
    assert drained(queue) == [1999]


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("pop"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("withdraw"), st.integers(0, 200), st.just(0), st.just(0)),
        st.tuples(st.just("drain"), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=200,
)


@given(_STEPS)
def test_behaves_like_a_sorted_list(steps: list[tuple[str, int, int, int]]) -> None:
    queue = OutQueue()
    model: list[tuple[tuple[int, int, int, int], Entry]] = []
    everything: list[Entry] = []
    for number, (step, first, expiry_ms, received_ms) in enumerate(steps):
        if step == "push":
            pushed = queued(number, first, expiry_ms, received_ms)
            everything.append(pushed)
            queue.push(pushed)
            model.append(((-first, expiry_ms, received_ms, number), pushed))
            model.sort(key=lambda item: item[0])
        elif step == "pop":
            assert queue.pop() == (model.pop(0)[1] if model else None)
        elif step == "drain":
            assert set(queue.drain()) == {each for _, each in model}
            model.clear()
        else:
            if not everything:
                continue
            gone = everything[first % len(everything)]
            assert (gone in queue) == any(each is gone for _, each in model)
            queue.withdraw(gone)
            model = [item for item in model if item[1] is not gone]
        assert len(queue) == len(model)
        assert queue.size_bytes == sum(each.record.size_bytes for _, each in model)
    assert drained(queue) == [each.record.id.sequence for _, each in model]


def test_pop_leaves_what_is_not_so_urgent() -> None:
    queue = OutQueue()
    flash, routine = queued(1, precedence=4), queued(2)
    queue.push(routine)
    queue.push(flash)
    assert [queue.pop(4), queue.pop(4), queue.pop(), queue.pop()] == [flash, None, routine, None]
    queue.push(flash)
    assert queue.pop(4) is flash


def live(sequence: int, tier: int, precedence: int = 1) -> Entry:
    """A live bundle; the number tells when it came."""
    entry = queued(sequence, precedence)
    entry.record.supersession = Supersession(b"key", 0, tier)
    return entry


def test_live_bundles_go_first_in_their_precedence_by_tier_and_the_newest_first() -> None:
    queue = OutQueue()
    entries = [live(0, 2), live(1, 0), queued(2, expiry_ms=1), live(3, 2), live(4, 0), queued(5, precedence=3)]
    for each in entries:
        queue.push(each)
    queue.withdraw(entries[3])
    assert drained(queue) == [5, 4, 1, 0, 2]
    assert queue.size_bytes == 0
    assert len(queue) == 0
