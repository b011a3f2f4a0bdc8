# SPDX-License-Identifier: Apache-2.0
"""MTCP sessions: framing cut anywhere, bundles in their order, carried when acknowledged, malformed input, stalls."""

import itertools
import random

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base.errors import LocalProtocolError
from meshd.cl.mtcp.events import BundlesArrived, BundlesCarried, EndReason, Event, SessionEnded
from meshd.cl.mtcp.framing import Deframer, MtcpError, encode_head
from meshd.cl.mtcp.receiver import HELD_MAX_BYTES, ReceivingSession
from meshd.cl.mtcp.receiver import STALL_TIMEOUT_S as RECEIVE_STALL_S
from meshd.cl.mtcp.sender import IN_FLIGHT_MAX, POLL_MAX_S, SendingSession
from meshd.cl.mtcp.sender import STALL_TIMEOUT_S as SEND_STALL_S

MOST = 1 << 20

LONG_HEADS = [b"\x58\x03", b"\x59\x00\x03", b"\x5a\x00\x00\x00\x03", b"\x5b" + bytes(7) + b"\x03"]


def events_of(session: SendingSession | ReceivingSession) -> list[Event]:
    found = []
    while (event := session.next_event()) is not None:
        found.append(event)
    return found


def end_of(session: SendingSession | ReceivingSession) -> SessionEnded:
    (end,) = [event for event in events_of(session) if isinstance(event, SessionEnded)]
    return end


def bodies(events: list[Event]) -> list[bytes]:
    return [row.data for event in events if isinstance(event, BundlesArrived) for row in event.rows]


# --- framing ---


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65535, 65536, 1 << 24])
def test_heads_are_those_of_cbor(size: int) -> None:
    assert encode_head(size) + bytes(size) == cbor2.dumps(bytes(size))


@given(st.lists(st.binary(min_size=1, max_size=600), max_size=8), st.lists(st.integers(0, 5000), max_size=12))
def test_bundles_pass_however_the_stream_is_cut(bundles: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(cbor2.dumps(bundle) for bundle in bundles)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    deframer = Deframer(MOST)
    found = [each for a, b in itertools.pairwise(edges) for each in deframer.feed_untrusted(stream[a:b])]
    assert found == bundles
    assert deframer.is_between


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_give_bundles_or_the_one_error(data: bytes, step: int) -> None:
    deframer = Deframer(1000)
    held = 0
    try:
        for pos in range(0, len(data), step):
            held += sum(map(len, deframer.feed_untrusted(data[pos : pos + step])))
    except MtcpError:
        with pytest.raises(MtcpError):
            deframer.feed_untrusted(b"")
    assert held <= len(data)


@given(st.binary(max_size=300))
def test_how_the_bytes_are_cut_changes_nothing(data: bytes) -> None:
    def feed(pieces: list[bytes]) -> tuple[list[bytes], str]:
        deframer, found = Deframer(1000), []
        try:
            for piece in [*pieces, b""]:
                found += deframer.feed_untrusted(piece)
        except MtcpError as error:
            return found, str(error)
        return found, ""

    assert feed([data]) == feed([data[i : i + 1] for i in range(len(data))])


@pytest.mark.parametrize("head", LONG_HEADS)
def test_a_head_may_be_longer_than_needed(head: bytes) -> None:
    assert Deframer(MOST).feed_untrusted(head + b"abc") == [b"abc"]


def test_an_empty_byte_string_carries_nothing() -> None:
    assert Deframer(MOST).feed_untrusted(b"\x40\x40\x58\x00\x41x") == [b"x"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"\x5f\x41x\xff", "without a definite length", id="indefinite"),
        pytest.param(b"\x5c", "without a definite length", id="reserved"),
        pytest.param(b"\x00", "where a CBOR byte string should begin", id="integer"),
        pytest.param(b"\x63abc", "where a CBOR byte string should begin", id="text"),
        pytest.param(b"\x9f", "where a CBOR byte string should begin", id="a bundle without its byte string"),
        pytest.param(b"dtn!", "where a CBOR byte string should begin", id="TCPCLv4"),
        pytest.param(b"\x5a\x00\x10\x00\x01", "bundle of 1048577 bytes; 1048576 are the most", id="one too many"),
        pytest.param(b"\x5b" + b"\xff" * 8, "bundle of 18446744073709551615 bytes", id="2^64-1"),
    ],
)
def test_malformed_streams_are_refused_with_a_reason(data: bytes, text: str) -> None:
    deframer = Deframer(MOST)
    with pytest.raises(MtcpError, match=text):
        deframer.feed_untrusted(data)


def test_a_length_alone_takes_no_memory() -> None:
    deframer = Deframer(1 << 40)
    assert deframer.feed_untrusted(b"\x5b" + (1 << 40).to_bytes(8)) == []
    assert not deframer.is_between


# --- the receiving session ---


def test_bundles_before_a_fault_are_not_lost() -> None:
    session = ReceivingSession(0.0)
    session.receive_data(b"\x41a\x42bc\x00", 1.0)
    events = events_of(session)
    assert bodies(events) == [b"a", b"bc"]
    assert isinstance(events[-1], SessionEnded)
    assert (events[-1].reason, events[-1].is_peer_fault) == (EndReason.PROTOCOL_ERROR, True)
    session.receive_data(b"\x41z", 2.0)
    assert events_of(session) == []


def test_a_receiver_that_holds_too_much_reads_no_more() -> None:
    session = ReceivingSession(0.0)
    size = HELD_MAX_BYTES // 4
    may_read = []
    session.receive_data((encode_head(size) + bytes(size)) * 3, 0.0)
    may_read.append(session.can_receive)
    session.receive_data(encode_head(size) + bytes(size), 0.0)
    may_read.append(session.can_receive)
    session.release([1, 99], 1.0)
    may_read.append(session.can_receive)
    assert may_read == [True, False, True]


def test_a_peer_that_stops_in_a_bundle_is_not_waited_for_for_ever() -> None:
    session = ReceivingSession(0.0)
    assert session.get_timer() is None
    session.receive_data(b"\x43ab", 5.0)
    assert session.get_timer() == 5.0 + RECEIVE_STALL_S
    session.handle_timer(5.0 + RECEIVE_STALL_S - 0.1)
    assert not session.is_ended
    session.handle_timer(5.0 + RECEIVE_STALL_S)
    assert end_of(session).reason is EndReason.STALLED


def test_silence_stops_the_receivers_clock() -> None:
    session = ReceivingSession(0.0)
    session.receive_data(b"\x43ab", 0.0)
    session.freeze(1.0)
    session.handle_timer(1000.0)
    assert session.get_timer() is None
    session.thaw(2000.0)
    assert session.get_timer() == 2000.0 + RECEIVE_STALL_S
    assert not session.is_ended


def test_a_connection_that_breaks_in_a_bundle_says_so() -> None:
    session = ReceivingSession(0.0)
    session.receive_data(b"\x41a\x43ab", 0.0)
    session.connection_lost("reset")
    end = end_of(session)
    assert (end.reason, end.text) == (EndReason.CONNECTION_LOST, "reset, in the middle of a bundle")


# --- the sending session ---


def test_a_bundle_is_carried_when_its_last_byte_is_acknowledged() -> None:
    session = SendingSession(0.0)
    assert [session.send_bundle([b"abc", b"", b"de"], 0.0), session.send_bundle([b"f"], 0.0)] == [1, 2]
    assert session.pending_bytes == 8
    assert b"".join(session.data_to_send(0.0)) == b"\x45abcde\x41f"
    assert (session.pending_bytes, session.in_flight) == (0, 2)
    session.unacknowledged(3, 0.0)
    assert events_of(session) == []
    session.unacknowledged(2, 0.0)
    assert events_of(session) == [BundlesCarried([1])]
    session.unacknowledged(0, 0.0)
    assert events_of(session) == [BundlesCarried([2])]
    assert session.get_timer() is None


def test_nothing_is_carried_before_it_was_handed_to_the_socket() -> None:
    session = SendingSession(0.0)
    session.send_bundle([b"abc"], 0.0)
    session.unacknowledged(0, 0.0)
    assert events_of(session) == []


def test_the_kernel_is_asked_ever_less_often() -> None:
    session = SendingSession(0.0)
    session.send_bundle([bytes(100)], 0.0)
    session.data_to_send(0.0)
    now, gaps = 0.0, []
    for _ in range(10):
        at = session.get_timer()
        assert at is not None
        gaps.append(at - now)
        now = at
        session.unacknowledged(102, now)
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(POLL_MAX_S)


def test_a_peer_whose_kernel_acknowledges_nothing_is_given_up() -> None:
    session = SendingSession(0.0)
    session.send_bundle([b"abc"], 100.0)
    session.data_to_send(100.0)
    session.unacknowledged(2, 130.0)
    session.handle_timer(130.0 + SEND_STALL_S - 0.1)
    assert not session.is_ended
    session.handle_timer(130.0 + SEND_STALL_S)
    assert end_of(session).reason is EndReason.STALLED
    assert session.data_to_send(200.0) == []


def test_silence_stops_the_senders_clock() -> None:
    session = SendingSession(0.0)
    session.send_bundle([b"abc"], 0.0)
    session.freeze(1.0)
    session.handle_timer(1000.0)
    session.thaw(2000.0)
    session.handle_timer(2001.0)
    assert not session.is_ended


def test_a_peer_may_not_send_where_we_do() -> None:
    session = SendingSession(0.0)
    session.receive_data(b"\x41a", 0.0)
    end = end_of(session)
    assert end.is_peer_fault
    assert "unidirectional" in end.text
    with pytest.raises(LocalProtocolError):
        session.send_bundle([b"x"], 0.0)


def test_bundles_in_flight_are_bounded() -> None:
    session = SendingSession(0.0)
    for _ in range(IN_FLIGHT_MAX):
        session.send_bundle([b"x"], 0.0)
    with pytest.raises(LocalProtocolError):
        session.send_bundle([b"x"], 0.0)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_told_carried_has_arrived_whatever_breaks(seed: int) -> None:
    """Bytes travel in random pieces, acknowledged a while later, until the connection is cut at a random time."""
    rng = random.Random(seed)
    sender, receiver = SendingSession(0.0), ReceivingSession(0.0)
    bundles = [rng.randbytes(rng.choice((1, 30, 300, 5000))) for _ in range(40)]
    numbers = [sender.send_bundle([bundle], 0.0) for bundle in bundles]
    wire = bytearray()
    arrived_bytes, total_bytes = 0, 0
    for _ in range(rng.randrange(200)):
        output = b"".join(sender.data_to_send(0.0)) if rng.random() < 0.2 else b""
        wire += output
        total_bytes += len(output)
        piece = bytes(wire[: rng.randrange(2000)])
        del wire[: len(piece)]
        receiver.receive_data(piece, 0.0)
        arrived_bytes += len(piece)
        sender.unacknowledged(total_bytes - rng.randint(0, arrived_bytes), 0.0)
    sender.connection_lost("cut")
    carried = [number for event in events_of(sender) if isinstance(event, BundlesCarried) for number in event.numbers]
    received = bodies(events_of(receiver))
    assert carried == numbers[: len(carried)]
    assert received == bundles[: len(received)]
    assert len(carried) <= len(received)
