# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: the head of the audit log, and heads as people type them; what is taken is written again as the same."""

from meshd.security.audit_chain import (
    EMPTY,
    Anchor,
    Head,
    HeadError,
    decode_head_untrusted,
    encode_head,
    parse_anchor_untrusted,
)


def seeds() -> dict[str, bytes]:
    """Of a new log, and of one that has let rows go."""
    return {"empty": encode_head(EMPTY), "kept": encode_head(Head(Anchor(70_000, bytes(range(32))), 20_001))}


def check(data: bytes) -> None:
    """One input, as both."""
    try:
        head = decode_head_untrusted(data)
        assert decode_head_untrusted(encode_head(head)) == head
    except HeadError:
        pass
    try:
        anchor = parse_anchor_untrusted(data.decode("utf-8", "replace"))
    except HeadError:
        return
    assert parse_anchor_untrusted(anchor.text) == anchor


def dictionary() -> list[bytes]:
    """Words of a head."""
    return [b"meshd-audit 1 ", b"1:", b"0" * 64, b" ", b"\n"]
