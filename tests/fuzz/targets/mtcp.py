# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: a peer's bytes in an MTCP session; however they are cut, the same bundles come out, none too large."""

from typing import Final

from meshd.cl.mtcp.events import BundlesArrived, EndReason, SessionEnded
from meshd.cl.mtcp.framing import encode_head
from meshd.cl.mtcp.receiver import ReceivingSession
from tests.fuzz.streams import cut

BUNDLE_MAX_BYTES: Final = 3000


def check(data: bytes) -> None:
    """One input: a byte of chance, then the stream."""
    stream = data[1:]
    whole = _run([stream])
    assert whole == _run(cut(stream, data[0] if data else 0)), "what comes of a stream depends on how it was cut"
    bundles, endings = whole
    assert sum(map(len, bundles)) + len(bundles) <= len(stream)
    assert len(endings) == 1


def _run(pieces: list[bytes]) -> tuple[list[bytes], list[EndReason]]:
    session = ReceivingSession(0.0, BUNDLE_MAX_BYTES)
    bundles: list[bytes] = []
    endings: list[EndReason] = []
    for piece in pieces:
        session.receive_data(piece, 0.0)
        assert len(session._deframer._body) < BUNDLE_MAX_BYTES
        _note(session, bundles, endings)
    session.connection_lost("the input is at its end")
    _note(session, bundles, endings)
    return bundles, endings


def _note(session: ReceivingSession, bundles: list[bytes], endings: list[EndReason]) -> None:
    while (event := session.next_event()) is not None:
        match event:
            case BundlesArrived(rows):
                assert all(0 < len(row.data) <= BUNDLE_MAX_BYTES for row in rows)
                bundles += [row.data for row in rows]
                session.release([row.number for row in rows], 0.0)
            case SessionEnded(reason, _, _):
                endings.append(reason)


def seeds() -> dict[str, bytes]:
    """Frames of all lengths of head, and what is none."""
    streams = {
        "small": encode_head(3) + b"abc",
        "several": encode_head(3) + b"abc" + encode_head(0) + encode_head(24) + bytes(24) + encode_head(1) + b"x",
        "head_2": encode_head(300) + bytes(300),
        "head_4": bytes.fromhex("5a00000003") + b"abc",
        "head_8": bytes.fromhex("5b0000000000000003") + b"abc",
        "too_large": bytes.fromhex("5b00000000ffffffff") + b"abc",
        "indefinite": bytes.fromhex("5f41614162ff"),
        "text": b"\x63abc",
        "good_then_bad": encode_head(2) + b"ab\x9f",
    }
    return {name: b"\x03" + stream for name, stream in streams.items()}


def dictionary() -> list[bytes]:
    """Heads."""
    return [
        bytes.fromhex(word) for word in ("40", "41", "57", "5818", "590100", "5a00000001", "5b0000000000000001", "5f")
    ]
