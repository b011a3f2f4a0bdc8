# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: the payload of one control frame; the other side of the socket is any local program."""

from meshd.control.errors import FrameError
from meshd.control.frames import Message, Notification, Request, Response, decode_message_untrusted, encode_frame

_EXAMPLES: tuple[Message, ...] = (
    Request(0, "hello", {"version": 1, "client": "fuzz"}),
    Request(1, "send.begin", {"destination": "dtn://home/inbox", "precedence": "FLASH", "lifetime_ms": 1000}),
    Response(3, None, {"bundles": [{"id": "x", "size_bytes": 1 << 40, "age_s": 0.5}]}),
    Response(4, {"name": "failed", "code": 1, "message": "m"}, None),
    Response(None, {"name": "bad_frame", "code": 2, "message": "m"}, None),
    Notification("event", {"kind": "link", "data": b"\x00\xff"}),
)


def check(data: bytes) -> None:
    """One input."""
    try:
        message = decode_message_untrusted(data)
    except FrameError:
        return
    try:
        frame = encode_frame(message)
    except FrameError:
        return  # nested deeper than may be sent
    again = decode_message_untrusted(frame[4:])
    assert repr(again) == repr(message), "written again it means something else"


def seeds() -> dict[str, bytes]:
    """A message of each kind."""
    return {f"message_{number}": encode_frame(message)[4:] for number, message in enumerate(_EXAMPLES)}


def dictionary() -> list[bytes]:
    """Heads of msgpack."""
    return [
        bytes.fromhex(word) for word in ("94", "93", "c0", "dc2710", "dd00010000", "de2710", "c7ff01", "cb", "d9ff")
    ]
