# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: the payload of a PES packet that claims to be KLV."""

from meshd.stream.klv import UAS_LABEL, KlvError, parse_local_set_untrusted
from tests.fuzz.counted_bytes import CountedBytes, assert_linear
from tests.unit.stream.ts_muxer import local_set


def check(data: bytes) -> None:
    """One input."""
    counted = CountedBytes(data)
    try:
        found = parse_local_set_untrusted(counted)
    except KlvError:
        assert_linear(counted, 8, 32)
        return
    assert_linear(counted, 8, 32)
    assert UAS_LABEL in data
    assert found.time_us is None or 0 <= found.time_us < 1 << 64


def seeds() -> dict[str, bytes]:
    """Local sets of several forms."""
    return {
        "plain": local_set(1_700_000_000_000_000),
        "long": local_set(5, b"\x81\x10\x81\x14" + bytes(20)),
        "behind": b"\0\0\xdf\x00\x20" + local_set(7),
    }


def dictionary() -> list[bytes]:
    """The label and lengths."""
    return [UAS_LABEL, b"\x02\x08", b"\x01\x02", b"\x82\xff\xff", b"\x84\xff\xff\xff\xff", b"\x80"]
