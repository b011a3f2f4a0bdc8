# SPDX-License-Identifier: Apache-2.0
"""The out-queue against a plainly sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.node.outqueue import OutQueue

SOURCE = parse_eid("dtn://dpop2/inbox")
DESTINATION = parse_eid("dtn://home/inbox")


def record(sequence: int, precedence: int = 1, expiry_ms: int = 100, received_ms: int = 0) -> BundleRecord:
    """A bundle of 10 bytes and as many as its sequence number."""
    size_bytes = 10 + sequence
    payload = PayloadRef(0, 0, size_bytes)
    bundle = BundleId(SOURCE, 1, sequence)
    return BundleRecord(
        bundle, DESTINATION, precedence, expiry_ms, received_ms, size_bytes, 0, False, None, None, False, payload
    )


def drained(queue: OutQueue) -> list[int]:
    """Sequence numbers in the order in which they come out."""
    order = []
    while (bundle := queue.pop()) is not None:
        order.append(bundle.sequence)
    return order


def test_precedence_then_expiry_then_age_then_arrival() -> None:
    queue = OutQueue()
    for each in (
        record(0),
        record(1, expiry_ms=50),
        record(2, precedence=4),
        record(3, received_ms=-5),
        record(4),
        record(5, precedence=0, expiry_ms=1),
    ):
        queue.push(each)
    assert drained(queue) == [2, 1, 3, 0, 4, 5]


def test_empty() -> None:
    queue = OutQueue()
    assert queue.pop() is None
    assert (len(queue), queue.size_bytes) == (0, 0)
    queue.withdraw(record(1).id)
    assert queue.drain() == []


def test_drain_leaves_nothing() -> None:
    queue = OutQueue()
    queue.push(record(1))
    queue.push(record(2))
    assert {bundle.sequence for bundle in queue.drain()} == {1, 2}
    assert (len(queue), queue.size_bytes, queue.pop()) == (0, 0, None)


def test_withdrawn_items_do_not_pile_up() -> None:
    queue = OutQueue()
    for sequence in range(2000):
        queue.push(record(sequence))
    for sequence in range(1999):
        queue.withdraw(record(sequence).id)
    assert len(queue._heap) <= 2 * len(queue) + 65
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
    model: list[tuple[tuple[int, int, int, int], BundleRecord]] = []
    for number, (step, first, expiry_ms, received_ms) in enumerate(steps):
        if step == "push":
            pushed = record(number, first, expiry_ms, received_ms)
            queue.push(pushed)
            model.append(((-first, expiry_ms, received_ms, number), pushed))
            model.sort(key=lambda item: item[0])
        elif step == "pop":
            assert queue.pop() == (model.pop(0)[1].id if model else None)
        elif step == "drain":
            assert set(queue.drain()) == {each.id for _, each in model}
            model.clear()
        else:
            bundle = record(first).id
            assert (bundle in queue) == any(each.id == bundle for _, each in model)
            queue.withdraw(bundle)
            model = [item for item in model if item[1].id != bundle]
        assert len(queue) == len(model)
        assert queue.size_bytes == sum(each.size_bytes for _, each in model)
    assert drained(queue) == [each.id.sequence for _, each in model]
