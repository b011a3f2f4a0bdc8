# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: a TCPCLv4 session from the first byte of a stranger on, in both roles."""

from meshd.cl.tcpclv4.messages import CONTACT_HEADER, SessionInit, pack_session_init
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role
from tests.fuzz.seeds import segment
from tests.fuzz.streams import cut
from tests.fuzz.tcpclv4_run import MRU_BYTES, assert_in_proportion, run
from tests.unit.cl.tcpclv4_pair import ALPHA, BRAVO, make_settings


def check(data: bytes) -> None:
    """One input: a byte of chance, whose lowest bit is the role, then the stream."""
    seed = data[0] if data else 0
    stream = data[1:]
    whole = run(_session(seed), [stream])
    pieces = run(_session(seed), cut(stream, seed))
    assert whole.agrees_with(pieces), "what comes of a stream depends on how it was cut"
    assert_in_proportion(whole, stream)


def _session(seed: int) -> Session:
    peer = ALPHA if seed & 2 else None
    settings = make_settings(BRAVO, peer, segment_mru_bytes=MRU_BYTES, transfer_mru_bytes=MRU_BYTES)
    return Session(settings, Role.ACTIVE if seed & 1 else Role.PASSIVE, 0.0)


def seeds() -> dict[str, bytes]:
    """Good and bad beginnings, for both roles."""
    offer = pack_session_init(SessionInit(15, 1 << 20, 1 << 20, ALPHA))
    nameless = pack_session_init(SessionInit(0, 1000, 1000, None))
    streams = {
        "good": CONTACT_HEADER + offer + segment(3, 0, b"first"),
        "nameless": CONTACT_HEADER + nameless,
        "version_3": b"dtn!\x03\x00",
        "version_255": b"dtn!\xff\xff",
        "tls": b"dtn!\x04\x01" + offer,
        "http": b"GET / HTTP/1.1\r\n\r\n",
        "extension": CONTACT_HEADER + offer[:-4] + bytes.fromhex("00000005010009") + bytes(2),
        "early": CONTACT_HEADER + segment(3, 0, b"too early"),
    }
    return {f"{name}_{role}": bytes((role,)) + stream for name, stream in streams.items() for role in (0, 3)}


def dictionary() -> list[bytes]:
    """Heads."""
    return [b"dtn!\x04\x00", b"dtn!\x04\x01", b"\x07\x00\x0f", b"dtn://alpha/", b"ipn:1.0"]
