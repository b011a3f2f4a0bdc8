# SPDX-License-Identifier: Apache-2.0
"""Cutting: nothing lost, nothing changed, tiers as they should be."""

import random
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.stream.cutter import CUT_BYTES, CUT_S, Cutter
from meshd.stream.manifest import cut_bytes
from meshd.stream.piece import Piece, PieceFlag, Tier, decode_piece_untrusted, encode_piece
from meshd.stream.psi import Role
from meshd.stream.tier_map import begins_key_frame
from meshd.stream.ts_packet import parse_packet_untrusted
from meshd.stream.ts_sync import PREFIX_BYTES
from tests.unit.stream.ts_muxer import KLV_PID, PMT_PID, STREAMS, VIDEO_PID, Muxer, in_form

STREAM_ID = b"stream-1"
GROUP = Muxer().second(frames=12, key_bytes=20_000, frame_bytes=900)


def cut(data: bytes, portion_bytes: int = 1316, step_s: float = 0.005) -> list[Piece]:
    """All pieces of this stream, fed in portions at a steady pace."""
    cutter = Cutter(STREAM_ID, 1_700_000_000_000, 50.0)
    now = 50.0
    pieces = []
    for pos in range(0, len(data), portion_bytes):
        pieces += cutter.feed(data[pos : pos + portion_bytes], now)
        now += step_s
    return [*pieces, *cutter.finish(now)]


def put_together(pieces: list[Piece]) -> bytes:
    """The stream as an archive holds it: each run at its place."""
    archive = bytearray(max((piece.offset + piece.cut_bytes for piece in pieces), default=0))
    for piece in pieces:
        for begin, data in piece.extents():
            at = piece.offset + begin
            archive[at : at + len(data)] = data
    return bytes(archive)


def pids(pieces: list[Piece], tier: Tier) -> set[int]:
    """Of the packets of a tier."""
    found = set()
    for piece in pieces:
        if piece.tier == tier:
            for pos in range(PREFIX_BYTES[piece.unit_bytes], len(piece.body), piece.unit_bytes):
                found.add((piece.body[pos + 1] & 0x1F) << 8 | piece.body[pos + 2])
    return found


@pytest.mark.parametrize("unit_bytes", [188, 192, 204])
def test_tiers(unit_bytes: int) -> None:
    pieces = cut(in_form(GROUP, unit_bytes))
    assert put_together(pieces) == in_form(GROUP, unit_bytes)
    assert pids(pieces, Tier.METADATA) == {0, PMT_PID, KLV_PID}
    assert pids(pieces, Tier.KEY_FRAMES) == {VIDEO_PID}
    assert {VIDEO_PID, 0x1FFF} <= pids(pieces, Tier.REST)
    key_bytes = sum(len(piece.body) for piece in pieces if piece.tier == Tier.KEY_FRAMES)
    assert 20_000 < key_bytes * 188 // unit_bytes < 23_000


def test_a_cut_begins_with_the_key_frame_and_the_tables_before_it() -> None:
    pieces = cut(GROUP + Muxer(random.Random(3)).second(frames=3))
    starts = [piece for piece in pieces if piece.is_random_access and piece.tier == Tier.METADATA]
    assert len(starts) == 2
    for piece in starts:
        assert piece.runs[0] == 0
        first = parse_packet_untrusted(piece.body[:188])
        assert (first.pid, first.starts_unit) == (0, True)
    assert all(piece.duration_ms <= 110 for piece in pieces)


def test_key_frames_without_the_flag_are_found_by_what_they_hold() -> None:
    mux = Muxer()
    data = mux.tables() + b"".join(mux.frame(number % 5 == 0, 600, has_flag=False) for number in range(15))
    assert len({piece.sequence for piece in cut(data) if piece.is_random_access}) == 3


@pytest.mark.parametrize(
    ("role", "unit", "is_key"),
    [
        (Role.H264, "000001e00000800000 000001 65", True),
        (Role.H264, "000001e00000800000 00000109f0 000001 41", False),
        (Role.H265, "000001e00000800000 000001 4001", True),
        (Role.H265, "000001e00000800000 000001 2601", True),
        (Role.H265, "000001e00000800000 000001 0201", False),
        (Role.MPEG2_VIDEO, "000001e00000800000 000001 b3", True),
        (Role.MPEG2_VIDEO, "000001e00000800000 000001 00", False),
        (Role.H264, "000001e00000800000 000001", False),
        (Role.H264, "", False),
    ],
)
def test_begins_of_key_frames(role: Role, unit: str, is_key: bool) -> None:
    assert begins_key_frame(role, bytes.fromhex(unit)) is is_key


def test_clocks_of_frames_are_told_in_tier_0() -> None:
    pieces = cut(GROUP)
    clocks = [clock for piece in pieces for clock in piece.clocks]
    # Every second one of these frames, which follow each other by 33 ms.
    assert [clock.pcr for clock in clocks] == [900_000 * number for number in range(1, 13, 2)]
    for piece in pieces:
        whole = cut_bytes(part for part in pieces if part.sequence == piece.sequence)
        for clock in piece.clocks:
            packet = parse_packet_untrusted(whole[clock.unit * 188 : clock.unit * 188 + 188])
            assert (packet.pid, packet.pcr) == (clock.pid, clock.pcr)
        assert not piece.clocks or piece.tier == Tier.METADATA


def test_cuts_are_bounded_in_time_and_size() -> None:
    cutter = Cutter(STREAM_ID, 0, 0.0)
    assert cutter.get_timer() is None
    assert cutter.feed(GROUP[: 188 * 20], 1.0) == []
    assert cutter.get_timer() == 1.0 + CUT_S
    assert cutter.handle_timer(1.0) == []
    pieces = cutter.handle_timer(1.0 + CUT_S)
    assert {(piece.sequence, piece.ingest_ms, piece.duration_ms) for piece in pieces} == {(0, 1000, 100)}
    assert cutter.get_timer() is None
    sizes = {piece.cut_bytes for piece in cutter.feed(GROUP[188 * 20 :], 2.0)}
    assert CUT_BYTES - 188 < max(sizes) <= CUT_BYTES


def test_a_restarted_publisher_goes_on() -> None:
    first = Cutter(STREAM_ID, 5000, 0.0)
    begin = first.feed(GROUP[: 188 * 100], 0.0) + first.handle_timer(1.0)
    second = Cutter(STREAM_ID, 9000, 0.0, first.sequence, first.offset)
    rest = second.feed(GROUP[188 * 100 :], 0.0) + second.finish(1.0)
    assert rest[0].sequence == begin[-1].sequence + 1
    assert put_together([*begin, *rest]) == GROUP
    assert rest[-1].flags & PieceFlag.LAST


def test_without_tables_all_is_the_rest() -> None:
    mux = Muxer()
    data = b"".join(mux.frame(number == 0) for number in range(3))
    assert {piece.tier for piece in cut(data) if piece.body} == {Tier.REST}


def test_tables_that_change_move_the_tiers() -> None:
    mux = Muxer()
    begin = mux.tables() + mux.frame(True) + mux.klv(1)
    moved = [(0x0F, KLV_PID, b""), STREAMS[0]]
    data = begin + mux.tables(moved, version=1) + mux.klv(2) + mux.frame(True)
    assert KLV_PID in pids(cut(data), Tier.REST)
    assert KLV_PID in pids(cut(data), Tier.METADATA)


def test_what_is_no_stream_is_carried_all_the_same() -> None:
    noise = random.Random(4).randbytes(50_000)
    pieces = cut(noise)
    assert put_together(pieces) == noise
    assert {piece.tier for piece in pieces} == {Tier.REST}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_nothing_is_lost_whatever_comes(data: st.DataObject) -> None:
    unit_bytes = data.draw(st.sampled_from([188, 192, 204]))
    packets = in_form(GROUP, unit_bytes)
    parts = []
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(packets)))
        parts.append(packets[begin : begin + data.draw(st.integers(0, 30_000))])
        parts.append(data.draw(st.binary(max_size=200)))
    stream = b"".join(parts)
    pieces = cut(stream, data.draw(st.integers(1, 9000)), data.draw(st.floats(0, 0.05)))
    again = [decode_piece_untrusted(encode_piece(piece)) for piece in pieces]
    assert again == pieces
    assert put_together(again) == stream
    # In order of sequence, as it comes out of the cuts.
    cuts = [list(parts) for _, parts in groupby(pieces, key=lambda piece: piece.sequence)]
    assert b"".join(map(cut_bytes, cuts)) == stream
    assert all(later[0].sequence == sooner[0].sequence + 1 for sooner, later in pairwise(cuts))
    for parts_ in cuts:
        assert sum(1 << piece.tier for piece in parts_) == parts_[0].tiers


def test_damaged_packets_are_the_rest_and_clocks_alone_are_metadata() -> None:
    mux = Muxer()
    begin = mux.tables()
    clock = mux.packets(VIDEO_PID, b"", pcr=77)
    alone = clock[:3] + b"\x20" + bytes((183,)) + clock[5:]
    klv = mux.klv(5)
    reported = klv[:1] + bytes((klv[1] | 0x80,)) + klv[2:]
    out_of_step = b"\0" + klv[1:]
    too_long = klv[:3] + b"\x30\xff" + klv[5:]
    pieces = cut(begin + alone + klv + reported + klv + out_of_step + klv + too_long + klv)
    rest = b"".join(piece.body for piece in pieces if piece.tier == Tier.REST)
    assert rest == reported + out_of_step + too_long
    assert pieces[0].body == begin + alone + klv * 4
    assert pieces[0].clocks == []
