# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: a client's bytes in a control session, from the first one; cut differently they mean the same.

Every request is answered with an empty result, so that the session's own books (in flight, output) are used.
"""

from typing import Final

from meshd.control.frames import Request, encode_frame
from meshd.control.server_session import HelloInfo, ServerSession
from tests.fuzz.streams import cut

HELLO: Final = HelloInfo("dtn://fuzz/", "0")
ANSWERS_PER_BYTE: Final = 200
"""The shortest request of 7 bytes may be answered with an error of a few hundred."""
ANSWER_BYTES_CONSTANT: Final = 8192
"""The answer to hello, which lists all methods."""


def check(data: bytes) -> None:
    """One input: a byte of chance, then the stream."""
    stream = data[1:]
    whole = _run([stream])
    pieces = _run(cut(stream, data[0] if data else 0))
    assert whole == pieces, "what comes of a stream depends on how it was cut"
    assert len(whole[1]) <= ANSWERS_PER_BYTE * len(stream) + ANSWER_BYTES_CONSTANT


def _run(pieces: list[bytes]) -> tuple[list[str], bytes]:
    session = ServerSession(HELLO, 0.0)
    for piece in pieces:
        session.receive_data(piece, 0.0)
    events = []
    while (event := session.next_event()) is not None:
        events.append(repr(event))
        if isinstance(event, Request):
            session.respond(event.id, {})
    timer = session.get_timer()
    if timer is not None:
        session.handle_timer(timer)
    written = b""
    while data := session.data_to_send(0.0):
        written += data
    return events, written


def seeds() -> dict[str, bytes]:
    """Greetings and requests."""
    hello = encode_frame(Request(0, "hello", {"version": 1, "client": "fuzz"}))
    status = encode_frame(Request(1, "status", {}))
    unknown = encode_frame(Request(2, "no such method", {"a": 1}))
    listing = encode_frame(Request(3, "bundles.list", {"limit": 5}))
    streams = {
        "hello": hello,
        "status": hello + status,
        "early": status,
        "unknown": hello + unknown + listing,
        "twice": hello + hello,
        "many": hello + b"".join(encode_frame(Request(number, "status", {})) for number in range(1, 40)),
        "same_id": hello + status + status,
        "long": b"\xff\xff\xff\xff",
        "empty": bytes(4),
        "http": b"GET / HTTP/1.1\r\n\r\n",
    }
    return {name: b"\x05" + stream for name, stream in streams.items()}


def dictionary() -> list[bytes]:
    """Frames and names."""
    names = [bytes((0xA0 | len(name),)) + name for name in (b"hello", b"status", b"links", b"version", b"client")]
    return [*names, encode_frame(Request(1, "status", {})), b"\x00\x00\x00", b"\x94\x00"]
