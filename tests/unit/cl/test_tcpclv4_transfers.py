# SPDX-License-Identifier: Apache-2.0
"""Transfers between two TCPCLv4 sessions: segmentation, acknowledgement, refusal (RFC 9174 section 5.2)."""

import random
from typing import cast

import pytest

from meshd.base.errors import LocalProtocolError
from meshd.cl.tcpclv4 import incoming
from meshd.cl.tcpclv4.events import TransferRefused, TransferRow, TransfersAcknowledged, TransfersReceived
from meshd.cl.tcpclv4.extensions import CRITICAL, pack_transfer_length
from meshd.cl.tcpclv4.messages import ACK, END, SEGMENT_NEXT, SEGMENT_START, SEGMENT_WHOLE, START, WHOLE, RefuseReason
from meshd.cl.tcpclv4.session import Session
from tests.unit.cl.tcpclv4_pair import ALPHA, BRAVO, Pair, drain, feed, make_established, make_settings, written


def rows_of(events: list[object]) -> list[TransferRow]:
    return [row for event in events if isinstance(event, TransfersReceived) for row in event.rows]


def segment(flags: int, transfer_id: int, data: bytes, items: bytes = b"", size: int | None = None) -> bytes:
    size = len(data) if size is None else size
    if flags & START:
        return SEGMENT_START.pack(1, flags, transfer_id, len(items)) + items + size.to_bytes(8, "big") + data
    return SEGMENT_NEXT.pack(1, flags, transfer_id, size) + data


def received(session: Session) -> list[TransferRow]:
    return rows_of(cast("list[object]", drain(session)))


def test_transfer_is_acknowledged_only_when_the_owner_says_so() -> None:
    pair = Pair().establish()
    first = pair.active.send_transfer([b"one"], 3)
    second = pair.active.send_transfer([b"t", memoryview(b"wo")], 3)
    active, passive = pair.take()
    assert active == []
    assert passive == [TransfersReceived([TransferRow(first, b"one"), TransferRow(second, b"two")])]
    assert pair.active.in_flight == 2
    pair.passive.acknowledge([second, first])
    active, passive = pair.take()
    assert active == [TransfersAcknowledged([second, first])]
    assert passive == []
    assert pair.active.in_flight == 0


def test_acknowledging_twice_or_the_unknown_sends_nothing() -> None:
    session = make_established()
    session.receive_data(segment(WHOLE, 5, b"x"), 0.0)
    session.acknowledge([5, 5, 6])
    assert written(session) == ACK.pack(2, WHOLE, 5, 1)


def test_payload_is_handed_out_without_a_copy() -> None:
    pair = Pair().establish()
    payload = bytes(1000)
    pair.active.send_transfer([payload], 1000)
    assert any(buffer is payload for buffer in pair.active.data_to_send(0.0))


@pytest.mark.parametrize("seed", range(40))
def test_any_cut_of_the_stream_gives_the_same_transfers(seed: int) -> None:
    rng = random.Random(seed)
    settings = make_settings(ALPHA, BRAVO, segment_bytes=rng.choice((64, 5_000, 100_000, 1 << 20)))
    peer = make_settings(BRAVO, ALPHA, segment_mru_bytes=rng.choice((70_000, 1 << 20)))
    pair = Pair(settings, peer, seed).establish()
    sizes = [rng.choice((0, 1, 100, 1024, 3000, 66_000, 300_000)) for _ in range(12)]
    payloads = [rng.randbytes(size) for size in sizes]
    ids = []
    for payload in payloads:
        cut = rng.randrange(len(payload) + 1)
        ids.append(pair.active.send_transfer([payload[:cut], memoryview(payload)[cut:]], len(payload)))
    _, passive = pair.take()
    rows = rows_of(cast("list[object]", passive))
    assert [(row.transfer_id, row.data) for row in rows] == list(zip(ids, payloads, strict=True))
    assert all(type(row.data) is bytes for row in rows)
    pair.passive.acknowledge(ids)
    active, _ = pair.take()
    acknowledged = [i for event in active if isinstance(event, TransfersAcknowledged) for i in event.transfer_ids]
    assert acknowledged == ids


def test_transfers_in_both_directions_pass_each_other() -> None:
    pair = Pair(seed=3).establish()
    for _ in range(5):
        pair.active.send_transfer([b"a" * 2000], 2000)
        pair.passive.send_transfer([b"p" * 2000], 2000)
    active, passive = pair.take()
    assert [row.data for row in rows_of(cast("list[object]", active))] == [b"p" * 2000] * 5
    assert [row.data for row in rows_of(cast("list[object]", passive))] == [b"a" * 2000] * 5


def test_large_transfer_announces_its_length_and_heeds_the_segment_mru() -> None:
    session = make_established(mru=100_000)
    session.send_transfer([b"x" * 100_000], 100_000)
    assert written(session)[:2] == bytes((1, WHOLE))
    small = make_established(make_settings(BRAVO, None, segment_bytes=60_000))
    small.send_transfer([b"y" * 100_000], 100_000)
    out = written(small)
    items = pack_transfer_length(100_000)
    assert out == segment(START, 0, b"y" * 60_000, items) + segment(END, 0, b"y" * 40_000)


def test_every_segment_but_the_last_is_acknowledged_at_once() -> None:
    session = make_established()
    session.receive_data(segment(START, 9, b"a" * 10) + segment(0, 9, b"b" * 20), 0.0)
    assert written(session) == ACK.pack(2, START, 9, 10) + ACK.pack(2, 0, 9, 30)
    session.receive_data(segment(END | 0x80, 9, b"c"), 0.0)
    assert written(session) == b""
    assert received(session) == [TransferRow(9, b"a" * 10 + b"b" * 20 + b"c")]
    session.acknowledge([9])
    assert written(session) == ACK.pack(2, END | 0x80, 9, 31)


def test_the_whole_length_is_acknowledged_even_without_the_end_flag() -> None:
    session = make_established(make_settings(BRAVO, None, segment_bytes=2))
    session.send_transfer([b"abc"], 3)
    written(session)
    session.receive_data(ACK.pack(2, 0, 0, 2), 0.0)
    assert drain(session) == []
    session.receive_data(ACK.pack(2, 0, 0, 3), 0.0)
    assert drain(session) == [TransfersAcknowledged([0])]


def test_a_large_segment_is_asked_for_in_pieces_of_its_own() -> None:
    session = make_established()
    body = random.Random(1).randbytes(200_000)
    wire = segment(WHOLE, 1, body)
    session.receive_data(wire[:50_000], 0.0)
    assert session.receive_max_bytes == len(wire) - 50_000
    feed(session, wire[50_000:])
    assert received(session) == [TransferRow(1, body)]
    assert session.receive_max_bytes == SEGMENT_WHOLE.size  # another large one is expected
    feed(session, segment(WHOLE, 2, b"next"))
    assert received(session) == [TransferRow(2, b"next")]
    assert session.receive_max_bytes is None


def test_a_large_segment_that_comes_in_one_piece_is_not_copied() -> None:
    session = make_established()
    wire = segment(WHOLE, 1, random.Random(1).randbytes(200_000))
    body = wire[SEGMENT_WHOLE.size :]
    session.receive_data(wire[: SEGMENT_WHOLE.size], 0.0)
    session.receive_data(body, 0.0)
    assert received(session)[0].data is body


def test_small_pieces_of_a_large_segment_are_gathered_in_their_order() -> None:
    session = make_established()
    body = random.Random(1).randbytes(200_000)
    wire, pos = segment(WHOLE, 1, body), 0
    for size in (100, 7, 20_000, 1, 70_000, 30, len(wire)):
        session.receive_data(wire[pos : pos + size], 0.0)
        pos += size
    assert received(session) == [TransferRow(1, body)]


def test_transfer_above_the_peers_mru_is_refused_before_a_byte_is_sent() -> None:
    session = make_established(mru=2000)
    session.send_transfer([b"x" * 2001], 2001)
    assert written(session) == b""
    assert drain(session) == [TransferRefused(0, None)]
    assert session.in_flight == 0


def test_announced_length_above_our_mru_is_refused_at_once_and_discarded() -> None:
    session = make_established(make_settings(BRAVO, None, transfer_mru_bytes=1000))
    session.receive_data(segment(START, 3, b"x" * 500, pack_transfer_length(1001)), 0.0)
    assert written(session) == bytes((3, RefuseReason.NOT_ACCEPTABLE)) + (3).to_bytes(8, "big")
    session.receive_data(segment(END, 3, b"x" * 501) + segment(WHOLE, 4, b"fine"), 0.0)
    assert received(session) == [TransferRow(4, b"fine")]


def test_transfer_that_grows_above_our_mru_is_refused_and_each_later_segment_too() -> None:
    session = make_established(make_settings(BRAVO, None, transfer_mru_bytes=1000))
    session.receive_data(segment(START, 3, b"x" * 600), 0.0)
    written(session)
    session.receive_data(segment(0, 3, b"x" * 600), 0.0)
    refusal = bytes((3, RefuseReason.NOT_ACCEPTABLE)) + (3).to_bytes(8, "big")
    assert written(session) == refusal
    session.receive_data(segment(0, 3, b"x" * 600), 0.0)
    assert written(session) == refusal
    session.receive_data(segment(WHOLE, 4, b"fine"), 0.0)
    assert received(session) == [TransferRow(4, b"fine")]


@pytest.mark.parametrize(("announced", "reason"), [(11, RefuseReason.NOT_ACCEPTABLE), (9, RefuseReason.NOT_ACCEPTABLE)])
def test_wrong_announced_length_is_refused(announced: int, reason: RefuseReason) -> None:
    session = make_established()
    session.receive_data(segment(START, 3, b"x" * 5, pack_transfer_length(announced)) + segment(END, 3, b"y" * 5), 0.0)
    assert received(session) == []
    assert written(session)[-10:] == bytes((3, reason)) + (3).to_bytes(8, "big")


def item(flags: int, kind: int, value: bytes, claimed: int | None = None) -> bytes:
    size = len(value) if claimed is None else claimed
    return bytes((flags,)) + kind.to_bytes(2, "big") + size.to_bytes(2, "big") + value


@pytest.mark.parametrize(
    "items",
    [item(CRITICAL, 0x7777, b""), item(0, 1, b"1234"), pack_transfer_length(1) * 2, item(0, 9, b"", claimed=4), b"\0"],
)
def test_bad_or_unknown_critical_transfer_extension_is_refused(items: bytes) -> None:
    session = make_established()
    session.receive_data(segment(WHOLE, 3, b"x", items) + segment(WHOLE, 4, b"fine"), 0.0)
    assert received(session) == [TransferRow(4, b"fine")]
    assert written(session) == bytes((3, RefuseReason.EXTENSION_FAILURE)) + (3).to_bytes(8, "big")


def test_unknown_extension_that_is_not_critical_is_skipped() -> None:
    session = make_established()
    session.receive_data(segment(WHOLE, 3, b"x", item(0, 0x7777, b"abc") + pack_transfer_length(1)), 0.0)
    assert received(session) == [TransferRow(3, b"x")]


def test_refusal_waits_for_the_answers_of_earlier_transfers() -> None:
    session = make_established()
    session.receive_data(segment(WHOLE, 0, b"a") + segment(WHOLE, 1, b"b") + segment(WHOLE, 2, b"c"), 0.0)
    session.refuse(1, RefuseReason.COMPLETED)
    assert written(session) == b""
    session.acknowledge([1])  # too late: it was refused
    session.acknowledge([0])
    refusal = bytes((3, RefuseReason.COMPLETED)) + (1).to_bytes(8, "big")
    assert written(session) == ACK.pack(2, WHOLE, 0, 1) + refusal


def test_refused_transfer_stops_at_the_next_segment() -> None:
    session = make_established(make_settings(BRAVO, None, segment_bytes=400_000))
    session.send_transfer([b"x" * 1_000_000], 1_000_000)
    session.send_transfer([b"next"], 4)
    first = b"".join(session.data_to_send(0.0))
    assert len(first) > 400_000
    session.receive_data(bytes((3, RefuseReason.NO_RESOURCES)) + (0).to_bytes(8, "big"), 0.0)
    assert drain(session) == [TransferRefused(0, RefuseReason.NO_RESOURCES)]
    assert session.pending_bytes == 4
    assert written(session) == segment(WHOLE, 1, b"next")


def test_unknown_refusal_reason_means_unknown() -> None:
    session = make_established()
    session.send_transfer([b"x"], 1)
    written(session)
    session.receive_data(bytes((3, 0x99)) + (0).to_bytes(8, "big"), 0.0)
    assert drain(session) == [TransferRefused(0, RefuseReason.UNKNOWN)]


def is_open(session: Session) -> bool:
    return session.can_receive


def test_what_waits_for_answers_is_bounded() -> None:
    session = make_established()
    piece = SEGMENT_WHOLE.size + 1
    wire = b"".join(segment(WHOLE, i, b"x") for i in range(incoming.UNANSWERED_MAX))
    session.receive_data(wire[: -2 * piece], 0.0)
    assert is_open(session)
    session.receive_data(wire[-2 * piece :], 0.0)
    assert not is_open(session)
    session.acknowledge(range(10))
    assert is_open(session)


def test_bytes_that_wait_for_answers_are_bounded() -> None:
    session = make_established()
    count = incoming.UNANSWERED_MAX_BYTES >> 20
    for transfer_id in range(count):
        assert is_open(session)
        feed(session, segment(WHOLE, transfer_id, bytes(1 << 20)))
    assert not is_open(session)
    session.refuse(0, RefuseReason.NO_RESOURCES)
    written(session)
    assert is_open(session)


def test_no_transfer_before_the_session_is_established() -> None:
    pair = Pair()
    with pytest.raises(LocalProtocolError, match="state contact"):
        pair.active.send_transfer([b"x"], 1)
