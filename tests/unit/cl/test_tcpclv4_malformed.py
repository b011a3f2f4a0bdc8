# SPDX-License-Identifier: Apache-2.0
"""What a TCPCLv4 session does about peers that break the protocol: it ends with a reason, it never raises."""

import random

import pytest

from meshd.cl.tcpclv4 import incoming, outgoing
from meshd.cl.tcpclv4.events import EndReason, SessionEnded, TransfersReceived
from meshd.cl.tcpclv4.messages import (
    ACK,
    CONTACT_HEADER,
    END,
    SEGMENT_NEXT,
    SEGMENT_START,
    SEGMENT_WHOLE,
    START,
    WHOLE,
    SessionInit,
    pack_session_init,
)
from meshd.cl.tcpclv4.session import REJECTS_MAX, Session
from meshd.cl.tcpclv4.settings import Role
from meshd.cl.tcpclv4.states import State
from tests.unit.cl.tcpclv4_pair import ALPHA, BRAVO, drain, feed, make_established, make_settings, written

INIT = pack_session_init(SessionInit(15, 1 << 20, 1 << 20, ALPHA))
REJECT_UNEXPECTED = b"\x06\x03"


def only_end(session: Session) -> SessionEnded:
    (event,) = drain(session)
    assert isinstance(event, SessionEnded)
    assert session.state is State.ENDED
    return event


def make_passive() -> Session:
    return Session(make_settings(BRAVO, None), Role.PASSIVE, 0.0)


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\n", b"dtn?", b"\x16\x03\x01"])
def test_wrong_first_bytes_close_without_a_word(data: bytes) -> None:
    session = make_passive()
    session.receive_data(data, 0.0)
    end = only_end(session)
    assert end.is_peer_fault
    assert "does not speak TCPCL" in end.text
    assert written(session) == b""


@pytest.mark.parametrize("version", [3, 5])
def test_other_version_is_told_by_the_passive_side(version: int) -> None:
    session = make_passive()
    session.receive_data(b"dtn!" + bytes((version, 0)), 0.0)
    end = only_end(session)
    assert end.reason is EndReason.VERSION_MISMATCH
    assert f"version {version}" in end.text
    assert written(session) == CONTACT_HEADER + bytes((5, 0, 2))


def test_other_version_just_closes_the_active_side() -> None:
    session = Session(make_settings(BRAVO, None), Role.ACTIVE, 0.0)
    written(session)
    session.receive_data(b"dtn!\x03\x00", 0.0)
    assert only_end(session).reason is EndReason.VERSION_MISMATCH
    assert written(session) == b""


@pytest.mark.parametrize(
    ("init", "text"),
    [
        (b"\x07\0\x0f" + b"\xff" * 16 + b"\xff\xff", "node ID of 65535 bytes"),
        (INIT[:-4] + b"\xff\xff\xff\xff", "4294967295 bytes of extension items"),
        (INIT[:-4] + b"\0\0\0\x05\x01\x77\x77\0\0", "unknown session extension 0x7777"),
        (INIT[:-4] + b"\0\0\0\x05\0\x77\x77\0\x09", "claims 9 bytes, 0 are left"),
        (INIT.replace(b"dtn://alpha/", b"dtn://\xffapha/"), "impossible node ID"),
        (INIT.replace(b"dtn://alpha/", b"dtn://alph/a"), "impossible node ID"),
        (INIT.replace(b"dtn://alpha/", b"http://lpha/"), "impossible node ID"),
    ],
)
def test_impossible_session_init(init: bytes, text: str) -> None:
    session = make_passive()
    session.receive_data(CONTACT_HEADER + init, 0.0)
    end = only_end(session)
    assert end.reason is EndReason.CONTACT_FAILURE
    assert text in end.text
    assert written(session) == CONTACT_HEADER + bytes((5, 0, 4))


def test_unknown_session_extension_that_is_not_critical_is_skipped() -> None:
    session = make_passive()
    session.receive_data(CONTACT_HEADER + INIT[:-4] + b"\0\0\0\x06\0\x77\x77\0\x01z", 0.0)
    assert session.state is State.ESTABLISHED


@pytest.mark.parametrize("kind", [0, 8, 0x99, 0xFF])
def test_unknown_message_type_is_rejected_and_the_connection_closed(kind: int) -> None:
    session = make_established()
    session.receive_data(bytes((kind,)), 0.0)
    assert only_end(session).reason is EndReason.PROTOCOL_ERROR
    assert written(session) == bytes((6, 1, kind))


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_message_before_session_init_ends_the_session(kind: int) -> None:
    session = make_passive()
    session.receive_data(CONTACT_HEADER + bytes((kind,)), 0.0)
    assert only_end(session).reason is EndReason.PROTOCOL_ERROR
    assert REJECT_UNEXPECTED + bytes((kind,)) in written(session)


def test_second_session_init_ends_the_session() -> None:
    session = make_established()
    session.receive_data(INIT, 0.0)
    assert "SESS_INIT in state established" in only_end(session).text
    assert written(session).startswith(REJECT_UNEXPECTED + b"\x07")


@pytest.mark.parametrize("size", [(1 << 20) + 1, (1 << 64) - 1])
def test_segment_above_our_mru_ends_the_session(size: int) -> None:
    session = make_established()
    session.receive_data(SEGMENT_WHOLE.pack(1, WHOLE, 0, 0, size), 0.0)
    end = only_end(session)
    assert end.is_peer_fault
    assert f"{size} bytes" in end.text


def test_huge_list_of_transfer_extensions_is_not_waited_for() -> None:
    session = make_established()
    session.receive_data(SEGMENT_START.pack(1, START, 0, 0xFFFFFFFF) + b"xxxx", 0.0)
    assert "4294967295 bytes of extension items" in only_end(session).text


def test_segment_of_no_transfer_is_rejected_and_skipped() -> None:
    session = make_established()
    stray = SEGMENT_NEXT.pack(1, END, 77, 3) + b"abc"
    session.receive_data(stray + SEGMENT_WHOLE.pack(1, WHOLE, 0, 0, 1) + b"x", 0.0)
    assert [type(event) for event in drain(session)] == [TransfersReceived]
    assert written(session) == REJECT_UNEXPECTED + b"\x01"
    session.receive_data(stray * incoming.STRAYS_MAX, 0.0)
    assert "too many segments" in only_end(session).text


@pytest.mark.parametrize(
    "second",
    [SEGMENT_WHOLE.pack(1, WHOLE, 1, 0, 0), SEGMENT_NEXT.pack(1, END, 1, 0), SEGMENT_WHOLE.pack(1, WHOLE, 0, 0, 0)],
)
def test_interleaved_transfers_end_the_session(second: bytes) -> None:
    session = make_established()
    session.receive_data(SEGMENT_WHOLE.pack(1, START, 0, 0, 1) + b"x" + second, 0.0)
    assert only_end(session).reason is EndReason.PROTOCOL_ERROR


def test_transfer_id_used_twice_ends_the_session() -> None:
    session = make_established()
    session.receive_data((SEGMENT_WHOLE.pack(1, WHOLE, 0, 0, 1) + b"x") * 2, 0.0)
    received, end = drain(session)
    assert isinstance(received, TransfersReceived)
    assert isinstance(end, SessionEnded)
    assert "used twice" in end.text


def test_acknowledgement_of_the_unknown_is_rejected_a_few_times() -> None:
    session = make_established()
    session.receive_data(ACK.pack(2, WHOLE, 5, 1), 0.0)
    assert drain(session) == []
    assert written(session) == REJECT_UNEXPECTED + b"\x02"
    session.receive_data(ACK.pack(2, WHOLE, 5, 1) * outgoing.ODD_ANSWERS_MAX, 0.0)
    assert "too many answers" in only_end(session).text


@pytest.mark.parametrize(("flags", "size"), [(WHOLE, 2), (WHOLE, 4), (START, 4)])
def test_acknowledgement_of_another_length_ends_the_session(flags: int, size: int) -> None:
    session = make_established()
    session.send_transfer([b"abc"], 3)
    written(session)
    session.receive_data(ACK.pack(2, flags, 0, size), 0.0)
    assert only_end(session).is_peer_fault


def test_acknowledgement_before_the_end_was_sent_ends_the_session() -> None:
    session = make_established(make_settings(BRAVO, None, segment_bytes=600_000))
    session.send_transfer([bytes(1_000_000)], 1_000_000)
    session.data_to_send(0.0)
    session.receive_data(ACK.pack(2, END, 0, 1_000_000), 0.0)
    assert "wrong moment" in only_end(session).text


def test_refusal_of_what_never_was_is_rejected() -> None:
    session = make_established()
    session.receive_data(b"\x03\x01" + (9).to_bytes(8, "big"), 0.0)
    assert written(session) == REJECT_UNEXPECTED + b"\x03"
    assert drain(session) == []


def test_peer_that_rejects_everything_ends_the_session() -> None:
    session = make_established()
    session.receive_data(b"\x06\x03\x02" * REJECTS_MAX, 0.0)
    assert drain(session) == []
    session.receive_data(b"\x06\x03\x02", 0.0)
    assert "rejected our message" in only_end(session).text


@pytest.mark.parametrize("seed", range(200))
def test_noise_never_raises(seed: int) -> None:
    rng = random.Random(seed)
    session = make_established() if seed % 2 else make_passive()
    session_bytes = CONTACT_HEADER + INIT if seed % 4 == 0 else b""
    good = SEGMENT_WHOLE.pack(1, START, 0, 0, 70_000) + bytes(70_000) + SEGMENT_NEXT.pack(1, END, 0, 5) + b"hello"
    wire = bytearray(session_bytes + good * 3)
    for _ in range(rng.randrange(1, 6)):
        wire[rng.randrange(len(wire))] = rng.randrange(256)
    pos = 0
    while pos < len(wire):
        size = rng.randrange(1, 50_000)
        feed(session, bytes(wire[pos : pos + size]))
        pos += size
    session.handle_timer(1000.0)
    written(session, 1000.0)
    assert len([event for event in drain(session) if isinstance(event, SessionEnded)]) <= 1
