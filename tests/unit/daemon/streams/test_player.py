# SPDX-License-Identifier: Apache-2.0
"""Playing out: to those who watch, at their pace, and to its end."""

import msgspec
import pytest
import trio

from meshd.daemon.streams import player as module
from meshd.daemon.streams.player import READER_MAX_BYTES, STILL_S, Player, Reader
from meshd.daemon.streams.rate_meter import WINDOW_S, RateMeter
from meshd.stream.klv import UAS_LABEL
from meshd.stream.piece import Piece, PieceFlag, Tier
from tests.unit.stream.stream_samples import ingest_s, sample_pieces

DATA, PIECES = sample_pieces(seconds=6)
LAST = PIECES[-1]


class Clock:
    """Of a player: each piece arrives a moment after it was ingested."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def play(player: Player, clock: Clock, *, ends: bool = True) -> None:
    """All pieces but, if the stream does not end, the last cut."""
    for piece in PIECES:
        if ends or not piece.flags & PieceFlag.LAST:
            clock.now = 100.0 + ingest_s(piece)
            player.take(piece)
            player._play()
    clock.now += 60.0


async def test_a_reader_gets_what_was_ingested_and_then_the_end() -> None:
    clock, reader = Clock(), Reader()
    player = Player(0.5, clock)
    player.readers.append(reader)
    await play(player, clock)
    with trio.fail_after(10):
        await player.run()
    reader.end()
    out = b""
    while not reader.is_drained:
        out += await reader.read(10_000, 0.0)
    assert out == DATA
    assert player.playout.has_ended


async def test_an_announced_end_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    player = Player(0.0, clock)
    await play(player, clock, ends=False)
    player.expect_end()
    monkeypatch.setattr(module, "END_PATIENCE_S", 0.01)
    with trio.fail_after(30):
        await player.run()
    assert not player.playout.has_ended


async def test_who_does_not_read_loses_the_oldest_and_holds_up_nobody() -> None:
    reader = Reader()
    part = bytes(100_000)
    for number in range(60):
        reader.give(number.to_bytes(1, "big") + part)
    assert reader.lost_bytes == 60 * 100_001 - sum(len(each) for each in reader._parts)
    assert reader.lost_bytes >= 60 * 100_000 - READER_MAX_BYTES
    first = await reader.read(200_000, 0.0)
    assert first[0] == 60 - READER_MAX_BYTES // 100_001


async def test_a_reader_waits_for_what_comes(autojump_clock: trio.testing.MockClock) -> None:
    reader = Reader()
    async with trio.open_nursery() as nursery:

        async def give() -> None:
            await trio.sleep(1.0)
            reader.give(b"later")

        nursery.start_soon(give)
        assert await reader.read(100, 5.0) == b"later"
        assert await reader.read(100, 5.0) == b""
        reader.end()
        assert reader.is_drained
        assert await reader.read(100, 5.0) == b""


def test_old_klv_is_of_a_recording_and_ingest_counts() -> None:
    clock = Clock()
    player = Player(0.5, clock)
    for piece in PIECES[:20]:
        clock.now = 100.0 + ingest_s(piece)
        player.take(piece)
    stamps = list(player._stamps)
    assert stamps
    # The multiplexer's stamps are near the begin of 1.7e9 s, which is also when these samples were ingested.
    assert all(is_klv for _, _, is_klv in stamps[2:])
    late = Player(0.5, clock)
    for piece in PIECES[:20]:
        clock.now = 100.0 + ingest_s(piece)
        late.take(_later(piece))
    assert not any(is_klv for _, _, is_klv in late._stamps)
    assert Player(0.5, clock).latency_ms is None


def test_what_was_repaired_is_not_shown_as_old() -> None:
    clock = Clock()
    player = Player(5.0, clock)
    repaired = next(piece for piece in PIECES[3:] if piece.tier == Tier.METADATA and UAS_LABEL in piece.body)
    for piece in [each for each in PIECES[:20] if each is not repaired]:
        clock.now = 100.0 + ingest_s(piece)
        player.take(piece)
    player.take(repaired)
    dues = [due for due, _, _ in player._stamps]
    assert dues == sorted(dues)
    assert pytest.approx(player.playout.due(repaired)) in dues[:-1]


async def test_what_stands_still_gets_older(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "wall_ms", lambda: 1_700_000_000_000 + round(1000 * (clock.now - 100.0)))
    player = Player(0.5, clock)
    await play(player, clock, ends=False)
    clock.now -= 60.0
    player._play()
    first = player.latency_ms
    assert first is not None
    clock.now += STILL_S / 2
    assert player.latency_ms == first
    clock.now += 60.0
    assert player.latency_ms == pytest.approx(first + 60_000 + 500 * STILL_S, abs=1)
    player.expect_end()
    assert player.latency_ms is None


def _later(piece: Piece) -> Piece:
    return msgspec.structs.replace(piece, ingest_ms=piece.ingest_ms + 2 * module.RECORDED_MS)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    meter = RateMeter()
    assert meter.rate_bps(0.0) == 0
    for number in range(100):
        meter.add(1000, number * 0.1)
    assert abs(meter.rate_bps(10.0) - 80_000) < 8_000
    assert meter.rate_bps(10.0 + 2 * WINDOW_S) == 0
    assert meter.total_bytes == 100_000
