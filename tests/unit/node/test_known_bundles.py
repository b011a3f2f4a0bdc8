# SPDX-License-Identifier: Apache-2.0
"""The duplicate memory against a plain dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId
from meshd.node.known_bundles import BUCKET_MS, KnownBundles

SOURCE = parse_eid("dtn://dpop2/inbox")


def bundle(sequence: int, time_ms: int = 1) -> BundleId:
    """An ID."""
    return BundleId(SOURCE, time_ms, sequence)


def test_remembered_until_the_time_given() -> None:
    known = KnownBundles()
    known.add(bundle(1), 5 * BUCKET_MS)
    known.expire(5 * BUCKET_MS)
    assert bundle(1) in known
    known.expire(6 * BUCKET_MS)
    assert bundle(1) not in known


def test_fragments_and_anonymous_bundles_are_told_apart() -> None:
    known = KnownBundles()
    whole = bundle(1)
    others = [whole._replace(fragment_offset=0, fragment_bytes=9), whole._replace(digest=b"a")]
    others += [whole._replace(fragment_offset=0, fragment_bytes=8), bundle(0, time_ms=2), bundle(1 << 63)]
    for count, each in enumerate(others):
        assert each not in known
        known.add(each, 10)
        assert len(known) == count + 1
    assert whole not in known
    known.expire(BUCKET_MS)
    assert (len(known), known._by_source, known._minutes) == (0, {}, {})


def test_discarded_and_added_again_lives_as_long_as_the_second_time_says() -> None:
    known = KnownBundles()
    known.add(bundle(1), 10)
    known.discard(bundle(1))
    known.add(bundle(1), 10 * BUCKET_MS)
    known.expire(2 * BUCKET_MS)
    assert bundle(1) in known


def test_clock_step_moves_what_lives_by_age() -> None:
    known = KnownBundles()
    known.add(bundle(1, time_ms=7), 10)
    known.add(bundle(2, time_ms=0), 10)
    known.clock_stepped(100 * BUCKET_MS, all_by_age=False)
    known.expire(50 * BUCKET_MS)
    assert (bundle(1, time_ms=7) in known, bundle(2, time_ms=0) in known) == (False, True)
    known.add(bundle(3, time_ms=7), 60 * BUCKET_MS)
    known.clock_stepped(100 * BUCKET_MS, all_by_age=True)
    known.expire(150 * BUCKET_MS)
    assert bundle(3, time_ms=7) in known
    known.expire(300 * BUCKET_MS)
    assert len(known) == 0


_STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "discard", "expire"]), st.integers(0, 8), st.integers(0, 20 * BUCKET_MS)),
    max_size=120,
)


@given(_STEPS)
def test_behaves_like_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    """It may remember up to one bucket longer than the model, never shorter."""
    known = KnownBundles()
    model: dict[BundleId, int] = {}
    now_ms = 0
    for step, sequence, time_ms in steps:
        if step == "add":
            if bundle(sequence) not in known:
                model[bundle(sequence)] = time_ms
            known.add(bundle(sequence), time_ms)
        elif step == "discard":
            known.discard(bundle(sequence))
            model.pop(bundle(sequence), None)
        else:
            now_ms = max(now_ms, time_ms)
            known.expire(now_ms)
            model = {each: until for each, until in model.items() if each in known or until >= now_ms}
            # Forgotten by the bucket: never too early, never a whole bucket late.
            assert all(until // BUCKET_MS >= now_ms // BUCKET_MS for until in model.values())
        assert len(known) == len(model)
        assert all(each in known for each in model)


def test_what_may_return_is_settled_for_good_by_a_second_call() -> None:
    known = KnownBundles()
    known.add(bundle(1), 5 * BUCKET_MS, may_return=True)
    assert known.may_return(bundle(1))
    known.add(bundle(1), 5 * BUCKET_MS)
    assert (bundle(1) in known, known.may_return(bundle(1)), len(known)) == (True, False, 1)
    known.add(bundle(1), 5 * BUCKET_MS, may_return=True)
    assert not known.may_return(bundle(1))
    assert not known.may_return(bundle(2))
    known.expire(6 * BUCKET_MS)
    assert len(known) == 0
