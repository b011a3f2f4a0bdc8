# SPDX-License-Identifier: Apache-2.0
"""The AAP 2.0 session machine: what each state takes, payloads cut anywhere, keepalives, misuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base.errors import LocalProtocolError
from meshd.control.aap2_messages import (
    MAGIC,
    BundleAdu,
    ConnectionConfig,
    Keepalive,
    Status,
    Welcome,
    encode_message,
    encode_response,
)
from meshd.control.aap2_session import (
    CONFIG_TIMEOUT_S,
    RESPONSE_TIMEOUT_S,
    Aap2Session,
    AduAnswered,
    AduBegun,
    AduEnded,
    AduPiece,
    ConfigRequested,
    Event,
    SessionEnded,
    SessionState,
)

SENDER = ConnectionConfig(endpoint_id="dtn://a/x", secret="s")
SUBSCRIBER = ConnectionConfig(is_subscriber=True, endpoint_id="dtn://a/x", secret="s")
ACK = encode_response(Status.ACK)
SUCCESS = encode_response(Status.SUCCESS)
KEEPALIVE = encode_message(Keepalive())


def events_of(session: Aap2Session) -> list[Event]:
    found = []
    while (event := session.next_event()) is not None:
        found.append(event)
    return found


def configured(config: ConnectionConfig, now: float = 0.0) -> Aap2Session:
    session = Aap2Session("dtn://a/", now)
    session.receive_data(encode_message(config), now)
    assert events_of(session) == [ConfigRequested(config)]
    session.accept(config, now)
    assert session.data_to_send(now) == MAGIC + encode_message(Welcome("dtn://a/")) + SUCCESS
    return session


def ended(session: Aap2Session) -> str:
    (event,) = events_of(session)
    assert isinstance(event, SessionEnded)
    assert session.state is SessionState.ENDED
    assert session.get_timer() is None
    return event.text


def adu(payload: bytes) -> bytes:
    return encode_message(BundleAdu(dst_eid="dtn://b/y", payload_length=len(payload))) + payload


def test_a_client_that_configures_nothing_is_dropped() -> None:
    session = Aap2Session("dtn://a/", 5.0)
    assert session.get_timer() == 5.0 + CONFIG_TIMEOUT_S
    session.handle_timer(5.0 + CONFIG_TIMEOUT_S)
    assert "did not configure" in ended(session)


def test_a_refused_client_is_told_and_dropped() -> None:
    session = Aap2Session("dtn://a/", 0.0)
    session.receive_data(encode_message(SENDER), 0.0)
    events_of(session)
    session.refuse(Status.UNAUTHORIZED, "why")
    assert session.data_to_send(0.0).endswith(encode_response(Status.UNAUTHORIZED))
    assert ended(session) == "why"


@pytest.mark.parametrize("first", [KEEPALIVE, adu(b"x"), encode_message(Welcome("x")), b"\x00", b"\xff" * 10])
def test_the_config_comes_first(first: bytes) -> None:
    session = Aap2Session("dtn://a/", 0.0)
    session.receive_data(first, 0.0)
    assert ended(session)
    assert session.data_to_send(0.0).endswith(encode_response(Status.INVALID_REQUEST))


@given(st.lists(st.binary(max_size=100), max_size=4), st.integers(1, 60))
def test_payloads_pass_however_the_stream_is_cut(payloads: list[bytes], step: int) -> None:
    session = configured(SENDER)
    stream = b"".join(map(adu, payloads)) + KEEPALIVE
    found: list[bytes] = []
    for pos in range(0, len(stream), step):
        session.receive_data(stream[pos : pos + step], 0.0)
        while (event := session.next_event()) is not None:
            match event:
                case AduBegun(begun):
                    assert begun.dst_eid == "dtn://b/y"
                    found.append(b"")
                case AduPiece(data):
                    found[-1] += data
                case AduEnded():
                    session.respond(Status.SUCCESS, 0.0)
    assert found == payloads
    assert session.data_to_send(0.0) == SUCCESS * len(payloads) + ACK


def test_one_payload_at_a_time_is_dealt_with() -> None:
    session = configured(SENDER)
    session.receive_data(adu(b"one") + adu(b"two"), 0.0)
    assert events_of(session)[1:] == [AduPiece(b"one"), AduEnded()]
    session.respond(Status.ERROR, 0.0)
    assert events_of(session)[1:] == [AduPiece(b"two"), AduEnded()]
    assert session.data_to_send(0.0) == encode_response(Status.ERROR)


def test_what_administers_is_refused_and_does_no_harm() -> None:
    session = configured(SENDER)
    session.receive_data(b"\x02\x22\x00" + b"\x02\x2a\x00" + KEEPALIVE, 0.0)
    assert session.data_to_send(0.0) == encode_response(Status.UNAUTHORIZED) * 2 + ACK
    assert session.state is SessionState.ACTIVE


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (encode_message(SENDER), "ConnectionConfig in the middle"),
        (encode_message(Welcome("x")), "Welcome in the middle"),
        (encode_message(BundleAdu(payload_length=(1 << 64) - 1)), "a payload of 18446744073709551615 bytes"),
        (b"\xff\xff\xff\x7f", "too large"),
    ],
)
def test_malformed_requests_end_the_session(data: bytes, text: str) -> None:
    session = configured(SENDER)
    session.receive_data(data, 0.0)
    assert text in ended(session)
    assert session.data_to_send(0.0) == encode_response(Status.INVALID_REQUEST)
    session.receive_data(KEEPALIVE, 0.0)
    assert session.data_to_send(0.0) == b""


@given(st.binary(max_size=300), st.integers(1, 300), st.booleans())
def test_any_bytes_only_end_the_session(data: bytes, step: int, is_subscriber: bool) -> None:
    session = configured(SUBSCRIBER if is_subscriber else SENDER)
    for pos in range(0, len(data), step):
        session.receive_data(data[pos : pos + step], 0.0)
        for event in events_of(session):
            if isinstance(event, AduEnded):
                session.respond(Status.SUCCESS, 0.0)
    assert session.state in SessionState


def test_an_active_client_is_to_be_heard() -> None:
    session = configured(ConnectionConfig(endpoint_id="x", keepalive_seconds=10), 100.0)
    assert session.get_timer() == 120.0
    session.receive_data(KEEPALIVE, 115.0)
    assert session.get_timer() == 135.0
    session.receive_data(encode_message(BundleAdu(payload_length=1)), 120.0)
    assert session.get_timer() is None  # a payload takes as long as it takes
    session.receive_data(b"x", 500.0)
    events_of(session)
    assert session.get_timer() is None  # ours to answer
    session.respond(Status.SUCCESS, 600.0)
    assert session.get_timer() == 620.0
    session.handle_timer(620.0)
    assert "not heard" in ended(session)


def test_a_client_without_keepalives_is_not_timed() -> None:
    assert configured(SENDER).get_timer() is None
    assert configured(SUBSCRIBER).get_timer() is None


def test_a_subscriber_is_asked_for_signs_of_life() -> None:
    session = configured(ConnectionConfig(is_subscriber=True, endpoint_id="x", keepalive_seconds=10))
    session.handle_timer(9.9)
    assert session.data_to_send(9.9) == b""
    session.handle_timer(10.0)
    assert session.data_to_send(10.0) == KEEPALIVE
    session.send_adu(BundleAdu(payload_length=1), 11.0)  # answered in order
    session.send_payload(b"x", 11.0)
    session.receive_data(ACK, 12.0)
    assert events_of(session) == []
    session.receive_data(SUCCESS, 13.0)
    assert events_of(session) == [AduAnswered(Status.SUCCESS)]
    assert session.get_timer() == 23.0
    session.handle_timer(23.0)
    session.handle_timer(23.0 + RESPONSE_TIMEOUT_S)
    assert "not heard" in ended(session)


def test_a_subscriber_gets_one_payload_after_the_other() -> None:
    session = configured(SUBSCRIBER)
    message = BundleAdu(src_eid="dtn://b/y", payload_length=5)
    session.send_adu(message, 0.0)
    session.send_payload(b"ab", 0.0)
    session.send_payload(b"cde", 0.0)
    assert session.data_to_send(0.0) == encode_message(message) + b"abcde"
    with pytest.raises(LocalProtocolError):
        session.send_adu(message, 0.0)
    with pytest.raises(LocalProtocolError):
        session.send_payload(b"f", 0.0)
    session.receive_data(encode_response(Status.ERROR), 0.0)
    assert events_of(session) == [AduAnswered(Status.ERROR)]
    session.send_adu(message, 0.0)


@pytest.mark.parametrize("is_halfway", [False, True])
def test_a_response_to_nothing_ends_the_session(is_halfway: bool) -> None:
    session = configured(SUBSCRIBER)
    if is_halfway:
        session.send_adu(BundleAdu(payload_length=2), 0.0)
        session.send_payload(b"a", 0.0)
    session.receive_data(SUCCESS, 0.0)
    assert ended(session) == "a response to nothing"
    session.send_payload(b"b", 0.0)


def test_misuse_is_noticed() -> None:
    session = Aap2Session("dtn://a/", 0.0)
    with pytest.raises(LocalProtocolError):
        session.accept(SENDER, 0.0)
    with pytest.raises(LocalProtocolError):
        session.respond(Status.SUCCESS, 0.0)
    with pytest.raises(LocalProtocolError):
        configured(SENDER).send_adu(BundleAdu(), 0.0)
