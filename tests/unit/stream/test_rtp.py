# SPDX-License-Identifier: Apache-2.0
"""Transport streams in RTP packets."""

import pytest

from meshd.stream.rtp import RtpError, RtpOrder, parse_rtp_untrusted

TS = b"\x47" + bytes(187)


def packet(sequence: int = 7, kind: int = 33, first: int = 0x80, extra: bytes = b"", payload: bytes = TS) -> bytes:
    return bytes((first, kind)) + sequence.to_bytes(2, "big") + bytes(8) + extra + payload


def test_the_payload_is_what_is_left() -> None:
    assert parse_rtp_untrusted(packet()).payload == TS
    assert parse_rtp_untrusted(packet(kind=33 | 0x80)).payload == TS
    assert parse_rtp_untrusted(packet(first=0x82, extra=bytes(8))).payload == TS
    assert parse_rtp_untrusted(packet(first=0x90, extra=b"\xbe\xde\x00\x01" + bytes(4))).payload == TS
    assert parse_rtp_untrusted(packet(first=0xA0, payload=TS + b"\x00\x00\x00\x04")).payload == TS


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x80\x21", "no RTP header"),
        (TS, "no RTP header"),
        (packet(kind=96), "payload type 96"),
        (packet(first=0xA0, payload=b"\xff"), "ends before"),
        (packet(first=0x90, extra=b"\xbe\xde\xff\xff"), "ends before"),
    ],
)
def test_what_is_no_rtp_packet_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(RtpError, match=why):
        parse_rtp_untrusted(data)


@pytest.mark.parametrize(
    ("numbers", "missing", "late"),
    [
        ([5, 6, 7], 0, 0),
        ([5, 8], 2, 0),
        ([5, 7, 6, 8], 0, 1),
        ([65_534, 65_535, 0, 1], 0, 0),
        ([65_535, 2], 2, 0),
        ([5, 30_000, 5], 29_994, 0),
    ],
)
def test_gaps_and_changes_of_order_are_counted(numbers: list[int], missing: int, late: int) -> None:
    order = RtpOrder()
    for number in numbers:
        order.take(number)
    assert (order.missing, order.late) == (missing, late)
