# SPDX-License-Identifier: Apache-2.0
"""What a viewer gets: in time, and without what can't be decoded."""

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.stream.cut_render import WITHHELD_CUTS_MAX
from meshd.stream.piece import Piece, Tier
from meshd.stream.playout import Arrival, Output, Playout
from meshd.stream.ts_packet import parse_packet_untrusted
from tests.unit.stream.stream_samples import EPOCH_MS, ingest_s, sample_pieces
from tests.unit.stream.test_cutter import cut
from tests.unit.stream.ts_muxer import Muxer, counter_jumps, in_form, whole_units

DATA, PIECES = sample_pieces(seconds=6)
SOURCE_UNITS = whole_units(DATA)[0]
LATENCY_S = 1.0


def play(arrivals: list[tuple[float, Piece]], latency_s: float = LATENCY_S) -> tuple[Playout, list[Output]]:
    """Run a playout to its end, each piece arriving at its time; outputs never come early or late."""
    playout = Playout(latency_s)
    outputs: list[Output] = []
    rows = sorted(arrivals, key=lambda row: row[0])
    while rows or playout.get_timer() is not None:
        timer = playout.get_timer()
        if rows and (timer is None or rows[0][0] <= timer):
            now, piece = rows.pop(0)
            playout.receive_piece(piece, now)
        else:
            assert timer is not None
            given_ = playout.data_to_send(timer)
            assert all(output.due <= timer for output in given_)
            outputs += given_
    assert [output.due for output in outputs] == sorted(output.due for output in outputs)
    assert playout.held_bytes == 0
    return playout, outputs


def sent(pieces: list[Piece], transit_s: float = 0.2) -> list[tuple[float, Piece]]:
    """As they arrive when nothing goes wrong; local time runs 500 s ahead of the stream's."""
    return [(500 + ingest_s(piece) + piece.duration_ms / 1000 + transit_s, piece) for piece in pieces]


def joined(outputs: list[Output]) -> bytes:
    return b"".join(output.data for output in outputs)


def test_without_losses_it_is_what_was_ingested_and_paced_like_it() -> None:
    playout, outputs = play(sent(PIECES))
    assert joined(outputs) == DATA
    assert playout.counts.whole_cuts == PIECES[-1].sequence + 1
    assert playout.has_ended
    offset = 0
    shift = outputs[0].due
    for output in outputs:
        assert output.due - shift == pytest.approx(offset / 188 / 300, abs=0.06)
        assert len(output.data) <= 7 * 188
        offset += len(output.data)


@pytest.mark.parametrize("unit_bytes", [188, 192, 204])
def test_garbage_and_all_forms_pass(unit_bytes: int) -> None:
    data = b"before" + in_form(Muxer().second(frames=9), unit_bytes) + b"between" * 50
    data += in_form(Muxer().second(frames=9), unit_bytes)
    pieces = cut(data)
    _, outputs = play([(piece.ingest_ms / 1000, piece) for piece in pieces])
    assert joined(outputs) == data


def test_key_frames_and_klv_alone_are_a_stream_without_jumps() -> None:
    playout, outputs = play(sent([piece for piece in PIECES if piece.tier != Tier.REST]))
    data = joined(outputs)
    assert counter_jumps(data) == 0
    keys = [unit for unit in SOURCE_UNITS if len(unit) > 8000]
    assert whole_units(data) == (keys, 0)
    packets = [parse_packet_untrusted(data[pos : pos + 188]) for pos in range(0, len(data), 188)]
    source = [parse_packet_untrusted(DATA[pos : pos + 188]) for pos in range(0, len(DATA), 188)]
    clocks = [packet.pcr for packet in source if packet.pcr is not None]
    given_ = [packet.pcr for packet in packets if packet.pcr is not None]
    assert set(given_) <= set(clocks)
    assert all(0 < later - sooner <= 0.1 * 27_000_000 for sooner, later in pairwise(given_))
    assert playout.render.clocks_given == len(given_) - len(keys)
    assert {packet.pid for packet in packets} == {0, 0x1000, 0x100, 0x101}


def test_klv_alone() -> None:
    _, outputs = play(sent([piece for piece in PIECES if piece.tier == Tier.METADATA]))
    data = joined(outputs)
    assert counter_jumps(data) == 0
    metadata = b"".join(piece.body for piece in PIECES if piece.tier == Tier.METADATA)
    klv = [data[pos : pos + 188] for pos in range(0, len(data), 188) if data[pos + 1] & 0x1F | data[pos + 3] & 0x10]
    assert b"".join(packet for packet in klv if packet[3] & 0x10) == metadata


def test_thinning_that_begins_and_ends_leaves_whole_frames_from_key_frame_to_key_frame() -> None:
    ends = PIECES[-1].sequence
    thinned = range(ends // 3, 2 * ends // 3)
    playout, outputs = play(sent([p for p in PIECES if p.tier != Tier.REST or p.sequence not in thinned]))
    data = joined(outputs)
    assert counter_jumps(data) == 0
    units, stray = whole_units(data)
    assert stray == 0
    assert set(units) <= set(SOURCE_UNITS)
    assert playout.render.given_up_frames >= 1
    shown = [SOURCE_UNITS.index(unit) for unit in units]
    # Within the thinned stretch, and where it ends, come key frames alone.
    gaps = [later for sooner, later in pairwise(shown) if later != sooner + 1]
    assert len(gaps) >= 2
    assert all(number % 15 == 0 for number in gaps)
    assert shown[-1] == len(SOURCE_UNITS) - 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.floats(0, 0.6))
def test_after_any_losses_all_that_is_shown_is_whole(seed: int, loss: float) -> None:
    rng = random.Random(seed)
    pieces = [piece for piece in PIECES if rng.random() >= loss]
    playout, outputs = play(sent(pieces))
    data = joined(outputs)
    assert counter_jumps(data) == 0
    units, stray = whole_units(data)
    assert stray == 0
    broken = sum(unit not in SOURCE_UNITS for unit in units)
    # A frame longer than a cut may have been begun before its next piece was seen to be missing.
    assert broken <= sum(1 for unit in SOURCE_UNITS if len(unit) > 5000) + 1
    assert playout.counts.pieces == len(pieces)


def test_who_comes_late_begins_with_a_key_frame() -> None:
    first = next(piece.sequence for piece in PIECES if piece.sequence > 5 and not piece.is_random_access)
    playout, outputs = play(sent([piece for piece in PIECES if piece.sequence >= first]))
    units, stray = whole_units(joined(outputs))
    assert stray == 0
    assert units == SOURCE_UNITS[SOURCE_UNITS.index(units[0]) :]
    assert SOURCE_UNITS.index(units[0]) % 15 == 0
    assert playout.render.withheld_cuts > 0


def test_a_stream_without_key_frames_is_shown_after_a_while() -> None:
    mux = Muxer()
    data = b"".join(mux.frame(False, 150) for _ in range(600))
    pieces = [msgspec.structs.replace(piece, sequence=piece.sequence + 9) for piece in cut(data, 188 * 2, 0.11)]
    playout, outputs = play([(piece.ingest_ms / 1000, piece) for piece in pieces])
    assert playout.render.withheld_cuts == WITHHELD_CUTS_MAX
    assert joined(outputs)[-184:] == data[-184:]


def test_the_latency_is_what_the_network_may_add() -> None:
    rng = random.Random(5)
    rows = [(at + rng.uniform(0, LATENCY_S - 0.11), piece) for at, piece in sent(PIECES)]
    rows[0] = sent(PIECES)[0]
    playout, outputs = play(rows)
    assert joined(outputs) == DATA
    assert playout.counts.late_pieces == 0


def test_what_is_late_is_counted_and_left_out() -> None:
    rows = sent(PIECES)
    late = [(at + LATENCY_S + 0.3, piece) if piece.sequence == 20 else (at, piece) for at, piece in rows]
    playout, _ = play(late)
    assert playout.counts.late_pieces == sum(piece.sequence == 20 for piece in PIECES)
    assert playout.counts.missing_cuts == 1


def test_after_an_outage_the_first_piece_in_time_is_shown_in_its_time() -> None:
    rows = sent(PIECES)
    begin, end = 501.0, 504.0
    backlog = [row for row in rows if begin <= row[0] < end]
    # The newest first, as the sender orders them; all within 0.4 s of the return.
    after = [(end + 0.4 * number / len(backlog), piece) for number, (_, piece) in enumerate(reversed(backlog))]
    playout, outputs = play([row for row in rows if not begin <= row[0] < end] + after)
    assert playout.counts.late_pieces > 0
    resumed = min(output.due for output in outputs if output.due > begin + LATENCY_S + 0.5)
    assert resumed < end + 0.5
    assert outputs[-1].due == pytest.approx(500 + ingest_s(PIECES[-1]) + 0.2 + LATENCY_S, abs=0.15)
    assert counter_jumps(joined(outputs)) == 0


def test_duplicates_and_contradictions() -> None:
    playout = Playout(LATENCY_S)
    first, second = PIECES[0], PIECES[1]
    assert second.sequence == first.sequence
    assert playout.receive_piece(first, 0.0) is Arrival.TAKEN
    assert playout.receive_piece(first, 0.0) is Arrival.DUPLICATE
    other = msgspec.structs.replace(second, unit_bytes=204)
    assert playout.receive_piece(other, 0.0) is Arrival.REFUSED
    assert playout.receive_piece(second, 0.0) is Arrival.TAKEN
    assert playout.data_to_send(LATENCY_S) != []
    assert playout.receive_piece(first, LATENCY_S) is Arrival.LATE


def test_the_buffer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshd.stream.playout.HELD_MAX_BYTES", 50_000)
    playout = Playout(60.0)
    arrivals = {playout.receive_piece(piece, 0.0) for piece in PIECES}
    assert Arrival.REFUSED in arrivals
    assert playout.held_bytes <= 50_000
    assert playout.counts.refused_pieces > 0


def test_jumps_of_the_program_clock_change_nothing_and_are_told() -> None:
    mux = Muxer()
    begin = mux.second(frames=8, key_bytes=3000)
    mux.pcr = 5
    jump = mux.packets(0x100, b"\0\0\1\xe0\0\0\x80\0\0" + b"\x55" * 500, 0x80, 5)
    data = begin + mux.tables() + jump + mux.second(frames=8, key_bytes=3000)
    pieces = cut(data)
    _, outputs = play([(piece.ingest_ms / 1000, piece) for piece in pieces])
    assert joined(outputs) == data
    _, outputs = play([(piece.ingest_ms / 1000, piece) for piece in pieces if piece.tier != Tier.REST])
    thin = joined(outputs)
    packets = [parse_packet_untrusted(thin[pos : pos + 188]) for pos in range(0, len(thin), 188)]
    assert [packet.pcr for packet in packets if packet.is_discontinuous] == [5]


def test_a_jump_of_a_counter_in_the_source_stays() -> None:
    mux = Muxer()
    data = mux.second(frames=6, key_bytes=3000)
    mux.counters[0x101] += 5
    data += mux.second(frames=6, key_bytes=3000)
    _, outputs = play([(piece.ingest_ms / 1000, piece) for piece in cut(data)])
    assert joined(outputs) == data
    assert counter_jumps(data) == 1


def test_the_sender_clock_is_followed_and_its_steps_are_taken() -> None:
    piece = PIECES[0]
    playout = Playout(LATENCY_S)
    # A crystal that runs 50 ppm fast for an hour: 180 ms.
    for second in range(3600):
        at = msgspec.structs.replace(piece, sequence=second, ingest_ms=EPOCH_MS + round(second * 1000.05))
        playout.receive_piece(at, float(second))
        playout.data_to_send(second + 0.5)
    assert playout.counts.late_pieces == 0
    assert playout.clock.steps == 0
    assert playout.clock.offset == pytest.approx(-EPOCH_MS / 1000 - 0.18, abs=0.01)
    ahead = msgspec.structs.replace(piece, sequence=4000, ingest_ms=EPOCH_MS + 86_400_000)
    assert playout.receive_piece(ahead, 3601.0) is Arrival.TAKEN
    assert playout.clock.steps == 1
    assert playout.data_to_send(3601.0 + LATENCY_S)


def test_a_way_that_became_longer_for_good_is_followed() -> None:
    piece = PIECES[0]
    playout = Playout(LATENCY_S)
    arrivals = []
    for second in range(40):
        at = msgspec.structs.replace(piece, sequence=second, ingest_ms=EPOCH_MS + second * 1000)
        transit_s = 0.2 if second < 10 else 3.2
        arrivals.append(playout.receive_piece(at, second + transit_s))
        playout.data_to_send(second + transit_s)
    assert arrivals[10] is Arrival.LATE
    assert arrivals[-1] is Arrival.TAKEN
    assert playout.clock.steps == 1
