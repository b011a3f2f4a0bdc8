# SPDX-License-Identifier: Apache-2.0
"""Packets of transport streams, made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.stream.ts_packet import CLOCK_CYCLE, TsError, pack_clock_packet, parse_packet_untrusted, read_pcr


def test_a_packet_by_hand() -> None:
    data = bytes.fromhex("47 4100 37 07 50 000000007e00").ljust(188, b"\xaa")
    packet = parse_packet_untrusted(data)
    assert (packet.pid, packet.continuity, packet.payload_start) == (0x100, 7, 12)
    assert packet.starts_unit
    assert packet.is_random_access
    assert not packet.is_discontinuous
    assert packet.pcr == 0


def test_a_clock_reference_by_hand() -> None:
    # Base 1 at 90 kHz, extension 299: one below two units of the base.
    assert read_pcr(bytes.fromhex("0000 0000 ff2b"), 0) == 300 + 299


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (b"\x48\x01\x00\x10", "188 and 47"),
        (b"\x47\x01\x00\x30\xb8", "at most 183"),
        (b"\x47\x01\x00\x30\x06\x10", "7 are needed"),
    ],
)
def test_what_can_not_be(change: bytes, reason: str) -> None:
    with pytest.raises(TsError, match=reason):
        parse_packet_untrusted(change.ljust(188, b"\0"))


def test_a_short_one() -> None:
    with pytest.raises(TsError, match="187"):
        parse_packet_untrusted(b"\x47" * 187)


@given(st.integers(0, 0x1FFF), st.integers(0, 15), st.integers(0, CLOCK_CYCLE - 1), st.booleans())
def test_a_clock_packet_says_what_was_asked(pid: int, counter: int, pcr: int, jumps: bool) -> None:
    packet = parse_packet_untrusted(pack_clock_packet(pid, counter, pcr, jumps))
    assert (packet.pid, packet.continuity, packet.pcr, packet.is_discontinuous) == (pid, counter, pcr, jumps)
    assert packet.payload_start == 188
