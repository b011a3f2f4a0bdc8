# SPDX-License-Identifier: Apache-2.0
"""Transfers that are passed on in pieces, and those that are read from a store as they go out."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from meshd.base.errors import StoreError
from meshd.base.limits import PIECE_SIZE_BYTES
from meshd.bundle.stored_chunk import Chunks, StoredChunk, in_memory
from meshd.cl.tcpclv4.events import (
    EndReason,
    Event,
    SessionEnded,
    TransferBegun,
    TransferEnded,
    TransferPiece,
    TransferRefused,
    TransferRow,
    TransfersAcknowledged,
    TransfersReceived,
    TransferUnreadable,
)
from meshd.cl.tcpclv4.extensions import pack_transfer_length
from meshd.cl.tcpclv4.messages import RefuseReason
from meshd.cl.tcpclv4.session import Session
from tests.unit.cl.tcpclv4_pair import ALPHA, BRAVO, Pair, drain, feed, make_established, make_settings, written
from tests.unit.cl.test_tcpclv4_transfers import segment

INLINE_BYTES = 1000
START, END = 2, 1
CONTENT = bytes(range(256)) * 40


def streaming(transfer_mru_bytes: int = 1 << 30) -> Pair:
    """The passive side holds no more than INLINE_BYTES of a transfer."""
    passive = make_settings(BRAVO, ALPHA, transfer_mru_bytes=transfer_mru_bytes)
    return Pair(passive=replace(passive, inline_max_bytes=INLINE_BYTES)).establish()


def receiving() -> Session:
    """The same without a sending session."""
    settings = make_settings(BRAVO, None, transfer_mru_bytes=1 << 30)
    return make_established(replace(settings, inline_max_bytes=INLINE_BYTES))


def reads_on(session: Session) -> bool:
    """The owner may read."""
    return session.can_receive


def pieces(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, TransferPiece))


def test_an_announced_one_comes_in_pieces_and_waits_for_its_answer() -> None:
    pair = streaming()
    content = bytes(range(256)) * 4096 * 3
    number = pair.active.send_transfer([content], len(content))
    active, passive = pair.take()
    assert passive[0] == TransferBegun(number, len(content))
    assert passive[-1] == TransferEnded(number, is_whole=True)
    assert pieces(passive) == content
    assert max(len(each.data) for each in passive if isinstance(each, TransferPiece)) <= 2 * PIECE_SIZE_BYTES
    assert active == []
    pair.passive.release(number, len(content))
    pair.passive.acknowledge([number])
    assert pair.take() == ([TransfersAcknowledged([number])], [])


def test_one_that_grows_is_passed_on_from_the_limit_on() -> None:
    session = receiving()
    session.receive_data(segment(START, 1, bytes(900)), 0.0)
    assert drain(session) == []
    session.receive_data(segment(0, 1, bytes(900)), 0.0)
    assert drain(session) == [TransferBegun(1, None)]
    session.receive_data(segment(END, 1, b"end"), 0.0)
    assert drain(session) == [TransferPiece(1, bytes(1800) + b"end"), TransferEnded(1, is_whole=True)]


def test_one_of_the_limit_stays_whole() -> None:
    pair = streaming()
    number = pair.active.send_transfer([bytes(INLINE_BYTES)], INLINE_BYTES)
    assert pair.take()[1] == [TransfersReceived([TransferRow(number, bytes(INLINE_BYTES))])]


def test_reading_pauses_while_pieces_are_not_written(set_limit: Callable[[str, int], None]) -> None:
    set_limit("meshd.cl.tcpclv4.incoming.UNWRITTEN_MAX_BYTES", 2 * PIECE_SIZE_BYTES)
    session = receiving()
    for flags in (START, 0):
        assert reads_on(session)
        session.receive_data(segment(flags, 1, bytes(PIECE_SIZE_BYTES)), 0.0)
    assert not reads_on(session)
    session.release(1, PIECE_SIZE_BYTES)
    assert reads_on(session)


@pytest.mark.parametrize("answer", ["acknowledge", "refuse"])
def test_the_answer_frees_what_was_not_released(answer: str, set_limit: Callable[[str, int], None]) -> None:
    set_limit("meshd.cl.tcpclv4.incoming.UNWRITTEN_MAX_BYTES", 1500)
    set_limit("meshd.cl.tcpclv4.incoming.UNANSWERED_MAX_BYTES", 1500)
    session = receiving()
    for number in (1, 2):
        session.receive_data(segment(START | END, number, bytes(1600)), 0.0)
        assert not reads_on(session)
        if answer == "refuse":
            session.refuse(number, RefuseReason.NO_RESOURCES)
            written(session)
        else:
            session.acknowledge([number])
        assert reads_on(session)
        session.release(number, 1600)
    assert reads_on(session)


def test_it_can_be_refused_in_the_middle_and_the_next_one_comes() -> None:
    session = receiving()
    session.receive_data(segment(START, 1, bytes(2000)), 0.0)
    assert drain(session)[0] == TransferBegun(1, None)
    session.refuse(1, RefuseReason.NO_RESOURCES)
    assert b"\x03\x02" + (1).to_bytes(8, "big") in written(session)
    session.receive_data(segment(0, 1, bytes(2000)) + segment(START | END, 2, b"next"), 0.0)
    assert drain(session) == [TransfersReceived([TransferRow(2, b"next")])]
    assert reads_on(session)


def test_the_sender_stops_at_the_refusal() -> None:
    pair = Pair(
        active=make_settings(ALPHA, BRAVO, segment_bytes=600_000),
        passive=replace(make_settings(BRAVO, ALPHA, transfer_mru_bytes=1 << 30), inline_max_bytes=INLINE_BYTES),
    ).establish()
    number = pair.active.send_transfer([bytes(5_000_000)], 5_000_000)
    feed(pair.passive, b"".join(pair.active.data_to_send(0.0)))
    pair.passive.refuse(number, RefuseReason.NOT_ACCEPTABLE)
    active, _ = pair.take()
    assert active == [TransferRefused(number, RefuseReason.NOT_ACCEPTABLE)]
    assert pair.active.pending_bytes == 0


def test_one_that_is_not_what_was_announced_is_broken_off() -> None:
    session = receiving()
    session.receive_data(segment(START, 1, bytes(1500), pack_transfer_length(2000)), 0.0)
    session.receive_data(segment(END, 1, bytes(10)), 0.0)
    assert drain(session) == [TransferBegun(1, 2000), TransferEnded(1, is_whole=False)]
    assert b"\x03" in written(session)
    assert reads_on(session)


def stored(content: bytes, reads: list[int]) -> StoredChunk:
    def read(offset: int, size: int) -> bytes:
        reads.append(size)
        return content[offset : offset + size]

    return StoredChunk(read, 100, len(content))


def test_a_stored_chunk_is_read_segment_by_segment() -> None:
    pair = Pair(active=make_settings(ALPHA, BRAVO, segment_bytes=3000)).establish()
    reads: list[int] = []
    chunks: Chunks = [b"front", stored(CONTENT, reads)]
    size = 5 + len(CONTENT) - 100
    number = pair.active.send_transfer(chunks, size)
    assert reads == []
    _, passive = pair.take()
    assert passive == [TransfersReceived([TransferRow(number, b"front" + CONTENT[100:])])]
    assert max(reads) == 3000
    assert sum(reads) == size - 5


def test_a_small_stored_chunk_goes_in_one_segment() -> None:
    pair = Pair().establish()
    number = pair.active.send_transfer([b"front", stored(CONTENT, [])], 5 + len(CONTENT) - 100)
    assert pair.take()[1] == [TransfersReceived([TransferRow(number, b"front" + CONTENT[100:])])]


def test_an_unreadable_chunk_ends_the_session_between_two_segments() -> None:
    pair = Pair(active=make_settings(ALPHA, BRAVO, segment_bytes=600_000)).establish()

    def read(offset: int, size: int) -> bytes:
        if offset:
            raise StoreError("the block is damaged")
        return bytes(size)

    number = pair.active.send_transfer([StoredChunk(read, 0, 900_000)], 900_000)
    feed(pair.passive, b"".join(pair.active.data_to_send(0.0)))
    feed(pair.passive, b"".join(pair.active.data_to_send(0.0)))
    assert drain(pair.active) == [
        TransferUnreadable(number, "the block is damaged"),
        SessionEnded(EndReason.UNREADABLE, "the block is damaged", is_peer_fault=False),
    ]
    pair.active_events.clear()
    assert not [event for event in drain(pair.passive) if isinstance(event, SessionEnded) and event.is_peer_fault]


def test_what_is_in_memory_is_passed_through() -> None:
    assert in_memory([b"a", memoryview(b"b")]) == [b"a", b"b"]
    with pytest.raises(AssertionError):
        in_memory([StoredChunk(lambda offset, size: b"", 0, 1)])
