# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: endpoint IDs, as bytes (`decode_eid_untrusted`) and as text (`parse_eid`); both forms agree."""

from meshd.base.limits import EID_SIZE_MAX_BYTES
from meshd.bundle.eid import Eid, decode_eid_untrusted, parse_eid
from meshd.bundle.errors import BundleError, EidError


def check(data: bytes) -> None:
    """One input, read both ways."""
    for eid in (_decoded(data), _parsed(data)):
        if eid is not None:
            _check_sound(eid)


def _decoded(data: bytes) -> Eid | None:
    try:
        return decode_eid_untrusted(data)
    except BundleError:
        return None


def _parsed(data: bytes) -> Eid | None:
    try:
        return parse_eid(data.decode("utf-8", "surrogateescape"))
    except EidError:
        return None


def _check_sound(eid: Eid) -> None:
    assert len(eid.uri) <= EID_SIZE_MAX_BYTES + len("dtn:")
    assert eid.uri.isprintable()
    if len(eid.uri) <= EID_SIZE_MAX_BYTES:
        assert parse_eid(eid.uri) == eid
    assert decode_eid_untrusted(eid.cbor) == eid
    assert eid.node.node == eid.node
    assert eid.is_node == (eid == eid.node and not eid.is_null)


def seeds() -> dict[str, bytes]:
    """EIDs of all forms, encoded and as text."""
    texts = ["dtn:none", "dtn://a/", "dtn://a/b", "dtn://a/~g", "ipn:1.0", "ipn:977000.3.7", "ipn:0.0", "dtn://a/%7e"]
    return {f"text_{n}": text.encode() for n, text in enumerate(texts)} | {
        f"cbor_{n}": parse_eid(text).cbor for n, text in enumerate(texts)
    }


def dictionary() -> list[bytes]:
    """Schemes and heads."""
    return [
        b"dtn://",
        b"ipn:",
        b"ipn:!.",
        b"none",
        b"/~",
        bytes.fromhex("8202831b"),
        bytes.fromhex("8202821b"),
        b"\x9f",
    ]
