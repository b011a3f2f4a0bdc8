# SPDX-License-Identifier: Apache-2.0
"""KLV: time stamps and checksums of local sets."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.stream.klv import (
    UAS_LABEL,
    KlvError,
    klv_checksum,
    parse_local_set_untrusted,
    read_ber_length,
    read_ber_oid,
)
from meshd.stream.klv_clock import KlvClock
from tests.unit.stream.stream_samples import sample_pieces
from tests.unit.stream.test_cutter import cut
from tests.unit.stream.ts_muxer import KLV_PID, Muxer, local_set, pes


def test_a_local_set_by_hand() -> None:
    # ST 0601: time stamp of 2008-10-24 00:13:29.913 and version 1; the sum of the words is 0xCC50 less what follows.
    data = bytes.fromhex("060e2b34020b01010e01030101000000 11 0208000459f4a6aa4aa8 410101 0102")
    summed = sum(int.from_bytes(data[pos : pos + 2].ljust(2, b"\0"), "big") for pos in range(0, len(data), 2)) & 0xFFFF
    found = parse_local_set_untrusted(data + summed.to_bytes(2, "big"))
    assert found.time_us == 0x000459F4A6AA4AA8
    assert found.is_checked
    assert not parse_local_set_untrusted(data + b"\0\0").is_checked


@pytest.mark.parametrize(
    ("data", "length", "pos"), [("4c", 76, 1), ("81c9", 201, 2), ("820100", 256, 3), ("00", 0, 1), ("8400000001", 1, 5)]
)
def test_ber_lengths(data: str, length: int, pos: int) -> None:
    assert read_ber_length(bytes.fromhex(data), 0) == (length, pos)


@pytest.mark.parametrize("data", ["", "80", "82ff", "850000000001", "ff"])
def test_ber_lengths_that_can_not_be(data: str) -> None:
    with pytest.raises(KlvError):
        read_ber_length(bytes.fromhex(data), 0)


def test_tags_of_more_than_a_byte() -> None:
    assert read_ber_oid(b"\x02", 0) == (2, 1)
    assert read_ber_oid(b"\x81\x10", 0) == (144, 2)
    with pytest.raises(KlvError):
        read_ber_oid(b"\xff\xff\xff\xff", 0)


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=20), st.binary(max_size=20))
def test_a_time_stamp_is_found_wherever_the_set_stands(time_us: int, before: bytes, after: bytes) -> None:
    found = parse_local_set_untrusted(before + local_set(time_us) + after)
    assert (found.time_us, found.is_checked) == (time_us, True)


@given(st.binary(max_size=100))
def test_anything_after_a_label_is_refused_or_read(data: bytes) -> None:
    try:
        parse_local_set_untrusted(UAS_LABEL + data)
    except KlvError:
        return


@pytest.mark.parametrize("size", range(31))
def test_a_cut_set_is_none(size: int) -> None:
    with pytest.raises(KlvError):
        parse_local_set_untrusted(local_set(5)[:size])


def test_too_many_items() -> None:
    body = b"\x03\x00" * 600
    with pytest.raises(KlvError, match="512"):
        parse_local_set_untrusted(UAS_LABEL + b"\x82" + len(body).to_bytes(2, "big") + body)


def test_the_checksum_counts_an_odd_byte_as_the_high_one() -> None:
    assert klv_checksum(b"\x01\x02\x03") == 0x0402


def test_the_clock_of_a_stream() -> None:
    _, pieces = sample_pieces(seconds=6)
    clock = KlvClock()
    seen: list[int] = []
    for piece in pieces:
        clock.take(piece)
        if clock.time_us is not None and (not seen or seen[-1] != clock.time_us):
            seen.append(clock.time_us)
    assert seen == [1_700_000_000_000_000 + 900_000 * (1 + 3 * n) // 27 for n in range(30)]
    assert clock.bad_sets == 0


def test_a_set_over_several_packets_and_a_damaged_one() -> None:
    mux = Muxer()
    extra = b"\x30\x60" + bytes(96)
    whole = mux.packets(KLV_PID, pes(0xFC, b"\0\0\xdf\x01\0" + local_set(77, extra) + bytes(200)))
    assert len(whole) > 188
    wrong = bytearray(local_set(99))
    wrong[-1] ^= 1
    data = mux.tables() + whole + mux.packets(KLV_PID, pes(0xFC, bytes(wrong)))
    clock = KlvClock()
    for piece in cut(data + mux.tables()):
        clock.take(piece)
    assert clock.time_us == 77
    assert clock.bad_sets == 1
    clock.take(msgspec.structs.replace(cut(data)[0], body=b"\0" * 188 * 3))
    assert clock.time_us == 77


def test_other_pieces_and_begun_units_are_passed_over() -> None:
    clock = KlvClock()
    _, pieces = sample_pieces(seconds=6)
    clock.take(next(piece for piece in pieces if piece.tier == 2))
    clock.take(msgspec.structs.replace(pieces[0], unit_bytes=1))
    mux = Muxer()
    whole = mux.packets(KLV_PID, pes(0xBD, local_set(77) + bytes(300)))
    nothing = mux.packets(KLV_PID, pes(0xBD, b"no label here"))
    (first, *_) = cut(mux.tables() + mux.klv(5) + mux.tables())
    clock.take(first)
    assert clock.time_us == 5
    clock.take(msgspec.structs.replace(first, body=whole[188:] + nothing))
    assert (clock.time_us, clock.bad_sets) == (5, 1)
