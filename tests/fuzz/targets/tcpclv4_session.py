# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: a peer's bytes in an established TCPCLv4 session that has transfers of its own under way.

A session never raises; however the stream is cut into pieces, the same comes of it.
"""

from typing import Final

from meshd.cl.tcpclv4.messages import RefuseReason, TermReason, pack_refuse, pack_session_term
from meshd.cl.tcpclv4.session import Session
from tests.fuzz.seeds import segment
from tests.fuzz.streams import cut
from tests.fuzz.tcpclv4_run import MRU_BYTES, assert_in_proportion, run
from tests.unit.cl.tcpclv4_pair import BRAVO, make_established, make_settings, written

OWN_TRANSFERS: Final = (10, 5000)
"""Sizes of what we send; with segments of 2000 bytes the second takes three."""


def check(data: bytes) -> None:
    """One input: a byte of chance, then the stream."""
    stream = data[1:]
    whole = run(_session(), [stream])
    pieces = run(_session(), cut(stream, data[0] if data else 0))
    assert whole.agrees_with(pieces), "what comes of a stream depends on how it was cut"
    assert_in_proportion(whole, stream, sum(OWN_TRANSFERS))


def _session() -> Session:
    settings = make_settings(BRAVO, None, segment_mru_bytes=MRU_BYTES, transfer_mru_bytes=MRU_BYTES, segment_bytes=2000)
    session = make_established(settings)
    for size_bytes in OWN_TRANSFERS:
        session.send_transfer([bytes(size_bytes)], size_bytes)
    written(session)
    return session


def seeds() -> dict[str, bytes]:
    """One stream for each message type, and transfers of several segments."""
    ack = bytes.fromhex("0203") + (0).to_bytes(8, "big") + (10).to_bytes(8, "big")
    streams = {
        "whole": segment(3, 1, b"one bundle"),
        "three": segment(2, 1, b"a" * 30) + segment(0, 1, b"b" * 30) + segment(1, 1, b"c" * 30),
        "announced": segment(2, 7, b"abc", items=bytes.fromhex("0000010008") + (6).to_bytes(8, "big"))
        + segment(1, 7, b"def"),
        "critical": segment(3, 2, b"x", items=bytes.fromhex("01000900021234")),
        "large": segment(3, 4, bytes(70_000)),
        "ack": ack,
        "refuse": b"".join(pack_refuse(reason, reason & 1) for reason in RefuseReason),
        "keepalive": b"\x04\x04\x04",
        "term": pack_session_term(TermReason.BUSY, is_reply=False) + segment(3, 9, b"late"),
        "reject": bytes.fromhex("060301"),
        "init_again": bytes.fromhex("07000f"),
        "unknown": b"\xdd",
        "huge_length": bytes.fromhex("0103000000000000000100000000ffffffffffffffff"),
    }
    return {name: b"\x07" + stream for name, stream in streams.items()}


def dictionary() -> list[bytes]:
    """Heads of messages."""
    return [
        segment(3, 1, b""),
        segment(2, 2, b"abc"),
        segment(1, 2, b""),
        b"\x03\x01",
        b"\x05\x00\x03",
        b"\x04",
        b"\x06",
    ]
