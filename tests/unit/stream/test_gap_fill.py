# SPDX-License-Identifier: Apache-2.0
"""What is missing, asking for it, answering; and the index of an archive."""

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.stream.archive_index import BLOCK_CUTS, BLOCKS_MAX, ArchiveIndex, IndexFileError, decode_index_untrusted
from meshd.stream.gap_fill import (
    RANGES_MAX,
    GapFill,
    RequestError,
    decode_request_untrusted,
    encode_request,
    select_answer,
)
from meshd.stream.piece import Tier
from tests.unit.stream.stream_samples import STREAM_ID, manifests_of, sample_pieces

DATA, PIECES = sample_pieces(seconds=20)
MANIFESTS = manifests_of(PIECES)
GRACE_S, RETRY_S = 2.0, 30.0


def full_index() -> ArchiveIndex:
    """Of the publisher."""
    index = ArchiveIndex()
    for piece in PIECES:
        assert index.add(piece.sequence, piece.tier)
    return index


def fill(index: ArchiveIndex) -> GapFill:
    """Of a receiver that got all manifests at 100 s."""
    gaps = GapFill(STREAM_ID, index, GRACE_S, RETRY_S)
    for manifest in MANIFESTS:
        assert gaps.take(manifest, 100.0)
    return gaps


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30), st.floats(0, 1))
def test_any_losses_are_filled(seed: int, loss: float) -> None:
    rng = random.Random(seed)
    index = ArchiveIndex()
    for piece in PIECES:
        if rng.random() >= loss:
            index.add(piece.sequence, piece.tier)
    publisher, gaps, now = full_index(), fill(index), 100.0 + GRACE_S
    for _ in range(200):
        if request := gaps.request(now):
            again = decode_request_untrusted(encode_request(request))
            assert again == request
            for sequence, tier in select_answer(again, publisher):
                if rng.random() < 0.9:
                    index.add(sequence, tier)
        else:
            now += RETRY_S
        for manifest in gaps.open_manifests:
            if not gaps.missing(manifest):
                gaps.settle(manifest.span)
        if gaps.is_complete:
            break
    assert gaps.is_complete
    assert gaps.get_timer() is None
    assert index.pieces == len(PIECES)


def test_nothing_is_asked_before_the_live_pieces_had_their_time_nor_twice_at_once() -> None:
    gaps = fill(ArchiveIndex())
    assert gaps.get_timer() == 100.0 + GRACE_S
    assert gaps.request(100.0) is None
    request = gaps.request(100.0 + GRACE_S)
    assert request is not None
    # A stretch that is missing altogether is one range a span.
    assert len(request.pieces) == len(MANIFESTS)
    assert gaps.request(110.0) is None
    assert gaps.get_timer() == 100.0 + GRACE_S + RETRY_S
    assert gaps.request(100.0 + GRACE_S + RETRY_S) == request


def test_a_missing_manifest_is_asked_for() -> None:
    gaps = GapFill(STREAM_ID, full_index(), GRACE_S, RETRY_S)
    gaps.take(MANIFESTS[0], 100.0)
    gaps.take(MANIFESTS[3], 100.0)
    request = gaps.request(100.0)
    assert request is not None
    assert request.pieces == []
    assert [(row.span, row.count) for row in request.spans] == [(1, 2)]
    gaps.expect_spans(len(MANIFESTS))
    later = gaps.request(100.0 + RETRY_S)
    assert later is not None
    assert [(row.span, row.count) for row in later.spans] == [(1, 2), (4, len(MANIFESTS) - 4)]


def test_manifests_are_taken_once_and_of_this_stream() -> None:
    gaps = fill(full_index())
    assert not gaps.take(MANIFESTS[1], 101.0)
    for manifest in MANIFESTS[:3]:
        gaps.settle(manifest.span)
    assert gaps.next_span == 3
    assert not gaps.take(MANIFESTS[1], 101.0)
    assert not GapFill(b"stream-2", ArchiveIndex(), 0, 1).take(MANIFESTS[0], 0.0)


def test_answers_are_bounded_and_begin_with_what_matters() -> None:
    request = fill(ArchiveIndex()).request(200.0)
    assert request is not None
    answer = select_answer(request, full_index(), room=50)
    assert len(answer) == 50
    assert [tier for _, tier in answer] == sorted(tier for _, tier in answer)
    assert answer[0] == (0, Tier.METADATA)
    assert select_answer(request, ArchiveIndex()) == []


@pytest.mark.parametrize(
    "data", [b"", b"\x94\x01", bytes(5000), b"\x94\x01\xc4\x08stream-1\x91\x93\x00\xcd\x10\x00\x07\x90"]
)
def test_requests_that_can_not_be(data: bytes) -> None:
    with pytest.raises(RequestError):
        decode_request_untrusted(data)


def test_a_request_is_bounded() -> None:
    index = full_index()
    scattered = ArchiveIndex()
    for piece in PIECES:
        if piece.sequence % 2:
            scattered.add(piece.sequence, piece.tier)
    gaps = fill(scattered)
    asked = set()
    while request := gaps.request(200.0):
        assert len(request.pieces) <= RANGES_MAX
        asked |= set(select_answer(request, index))
    assert len(asked) == sum(1 for piece in PIECES if not piece.sequence % 2)


def test_an_index_survives_a_restart() -> None:
    index = full_index()
    again = decode_index_untrusted(index.pack())
    assert again.pieces == index.pieces
    assert all(again.has(piece.sequence, piece.tier) for piece in PIECES)
    assert not again.has(PIECES[-1].sequence + 1, 0)


@pytest.mark.parametrize("data", [b"", b"\x81\x00\x93\xa0\xa0\xa0", b"\x81\x00\x91\xc4\x00", b"\xc1", bytes(3_000_000)])
def test_a_damaged_index_is_refused(data: bytes) -> None:
    with pytest.raises(IndexFileError):
        decode_index_untrusted(data)


def test_an_index_is_bounded_and_forgets_what_is_old() -> None:
    index = ArchiveIndex()
    for number in range(BLOCKS_MAX):
        assert index.add(number * BLOCK_CUTS, 1)
    assert not index.add(BLOCKS_MAX * BLOCK_CUTS, 1)
    index.drop_before(10 * BLOCK_CUTS)
    assert index.pieces == BLOCKS_MAX - 10
    assert not index.has(9 * BLOCK_CUTS, 1)
    assert index.has(10 * BLOCK_CUTS, 1)
    assert index.add(BLOCKS_MAX * BLOCK_CUTS, 1)
    assert index.tiers(10 * BLOCK_CUTS) == 2


def test_open_spans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshd.stream.gap_fill.OPEN_SPANS_MAX", 2)
    gaps = GapFill(STREAM_ID, full_index(), GRACE_S, RETRY_S)
    assert gaps.take(MANIFESTS[0], 0.0)
    assert gaps.take(MANIFESTS[1], 0.0)
    assert not gaps.take(MANIFESTS[2], 0.0)
    gaps.settle(1)
    assert not gaps.take(MANIFESTS[2], 0.0)
    gaps.settle(0)
    assert gaps.next_span == 2
    assert gaps.take(MANIFESTS[2], 0.0)


def test_a_span_that_nobody_has_is_asked_for_less_and_less() -> None:
    gaps = GapFill(STREAM_ID, ArchiveIndex(), GRACE_S, RETRY_S)
    gaps.take(MANIFESTS[0], 100.0)
    asked: list[float] = []
    now = 100.0
    while len(asked) < 8:
        if gaps.request(now) is not None:
            asked.append(now)
        else:
            timer = gaps.get_timer()
            assert timer is not None
            now = timer
    waits = [after - before for before, after in pairwise(asked)]
    assert waits == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S, 16 * RETRY_S, 16 * RETRY_S, 16 * RETRY_S]


def test_no_more_is_asked_for_than_one_answer_holds() -> None:
    first = MANIFESTS[0]
    manifests = [
        msgspec.structs.replace(first, span=span, sequence=span * len(first.cuts)) for span in range(RANGES_MAX)
    ]
    gaps = GapFill(STREAM_ID, ArchiveIndex(), GRACE_S, RETRY_S)
    for manifest in manifests:
        gaps.take(manifest, 0.0)
    request = gaps.request(GRACE_S)
    assert request is not None
    asked = sum(row.count for row in request.pieces)
    assert asked < manifests[-1].end
    # As long as none of it came there is no room for more.
    assert gaps.request(GRACE_S) is None


def test_the_end_may_be_announced_without_a_last_manifest() -> None:
    gaps = GapFill(STREAM_ID, full_index(), GRACE_S, RETRY_S)
    for manifest in MANIFESTS[:3]:
        gaps.take(manifest, 0.0)
        gaps.settle(manifest.span)
    before = gaps.is_complete
    gaps.end(3)
    assert (before, gaps.is_complete) == (False, True)
    assert gaps.get_timer() is None


def test_what_nobody_has_any_more_is_passed_over() -> None:
    gaps = fill(full_index())
    gaps.settle(1)
    assert gaps.pass_over(3) == 2
    assert gaps.next_span == 3
    assert [manifest.span for manifest in gaps.open_manifests] == [each.span for each in MANIFESTS[3:]]
    assert gaps.pass_over(2) == 0


def test_spans_that_were_settled_before_a_restart_are_not_asked_for() -> None:
    gaps = GapFill(STREAM_ID, ArchiveIndex(), GRACE_S, RETRY_S)
    gaps.settled_before([0, 1, 3])
    assert (gaps.next_span, gaps.whole_count) == (2, 3)
    assert gaps.is_whole(3)
    assert not gaps.is_whole(2)
    request = gaps.request(0.0)
    assert request is not None
    assert [(row.span, row.count) for row in request.spans] == [(2, 1)]
