# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: a client's bytes in an AAP 2.0 session, from the first one; cut differently they mean the same."""

from dataclasses import dataclass, field
from typing import Final

from meshd.control.aap2_messages import BundleAdu, ConnectionConfig, Keepalive, Status, encode_message, encode_response
from meshd.control.aap2_session import (
    Aap2Session,
    AduAnswered,
    AduBegun,
    AduEnded,
    AduPiece,
    ConfigRequested,
    SessionEnded,
    SessionState,
)
from tests.fuzz.streams import cut

OWN_ADUS: Final = 3
"""Payloads that a subscriber is sent."""
ANSWERS_CONSTANT_BYTES: Final = 512


@dataclass
class _Outcome:
    payloads: list[bytes] = field(default_factory=list)
    others: list[object] = field(default_factory=list)
    endings: int = 0
    written: bytes = b""
    is_subscriber: bool = False


def check(data: bytes) -> None:
    """One input: a byte of chance, then the stream."""
    stream = data[1:]
    whole = _run([stream])
    pieces = _run(cut(stream, data[0] if data else 0))
    if not whole.is_subscriber:  # its answer to what was not sent yet may come too early or just in time
        assert whole == pieces, "what comes of a stream depends on how it was cut"
    assert sum(map(len, whole.payloads)) <= len(stream)
    assert len(whole.written) <= 2 * len(stream) + ANSWERS_CONSTANT_BYTES


def _run(pieces: list[bytes]) -> _Outcome:
    session = Aap2Session("dtn://fuzz/", 0.0)
    outcome = _Outcome()
    for piece in pieces:
        session.receive_data(piece, 0.0)
        _answer(session, outcome)
    outcome.written = session.data_to_send(0.0)
    session.terminate("the input is at its end")
    _answer(session, outcome)
    assert outcome.endings == 1
    return outcome


def _answer(session: Aap2Session, outcome: _Outcome) -> None:
    while (event := session.next_event()) is not None:
        match event:
            case ConfigRequested(config):
                outcome.others.append(event)
                outcome.is_subscriber = config.is_subscriber
                if session.state is SessionState.DECIDING:
                    session.accept(config, 0.0)
                    _send(session, outcome)
            case AduBegun():
                outcome.others.append(event)
                outcome.payloads.append(b"")
            case AduPiece(data):
                outcome.payloads[-1] += data
            case AduEnded():
                if session.state is SessionState.ANSWERING:
                    session.respond(Status.SUCCESS, 0.0)
            case AduAnswered():
                outcome.others.append(event)
                _send(session, outcome)
            case SessionEnded():
                outcome.endings += 1


def _send(session: Aap2Session, outcome: _Outcome) -> None:
    answered = sum(isinstance(event, AduAnswered) for event in outcome.others)
    if session.state is SessionState.SUBSCRIBED and answered < OWN_ADUS:
        session.send_adu(BundleAdu(src_eid="dtn://b/y", payload_length=2), 0.0)
        session.send_payload(b"hi", 0.0)


def seeds() -> dict[str, bytes]:
    """Both kinds of clients."""
    sender = encode_message(ConnectionConfig(endpoint_id="dtn://a/x", secret="s"))
    subscriber = encode_message(ConnectionConfig(is_subscriber=True, endpoint_id="dtn://a/x", keepalive_seconds=5))
    adu = encode_message(BundleAdu(dst_eid="dtn://b/y", payload_length=5)) + b"hello"
    streams = {
        "sender": sender + adu + adu,
        "empty_payload": sender + encode_message(BundleAdu(dst_eid="dtn://b/y", payload_length=0)),
        "keepalives": sender + encode_message(Keepalive()) * 3,
        "subscriber": subscriber + encode_response(Status.SUCCESS) * 2 + encode_response(Status.ACK),
        "answers_too_much": subscriber + encode_response(Status.SUCCESS) * 9,
        "unconfigured": adu,
        "endless_length": b"\xff" * 12,
    }
    return {name: b"\x09" + stream for name, stream in streams.items()}


def dictionary() -> list[bytes]:
    """Whole messages."""
    return [encode_message(Keepalive()), encode_response(Status.SUCCESS), encode_response(Status.ACK), b"\x80\x80\x01"]
