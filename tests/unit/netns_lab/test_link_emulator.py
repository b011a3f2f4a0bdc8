# SPDX-License-Identifier: Apache-2.0
"""The emulator in virtual time: serialisation, delay, order, limit, cut, and netem's order of operations."""

import random
from typing import Any

import pytest

from netns_lab.link_emulator import LinkEmulator
from netns_lab.link_profile import LinkProfile, RandomLoss

FRAME = bytes(1250)  # 10 000 bits: 5 ms at 2 Mbit/s


def make(**settings: Any) -> LinkEmulator:
    return LinkEmulator(LinkProfile("test", **settings), random.Random(5))


def arrivals(emulator: LinkEmulator) -> list[tuple[float, bytes]]:
    """Run until nothing is held: what arrives when."""
    seen: list[tuple[float, bytes]] = []
    while (timer := emulator.get_timer()) is not None:
        seen.extend((timer, frame) for frame in emulator.frames_due(timer))
    return seen


def test_a_perfect_link_delivers_at_once() -> None:
    emulator = make()
    emulator.enqueue(b"one", 1.0)
    assert emulator.frames_due(1.0) == [b"one"]
    assert emulator.get_timer() is None


def test_nothing_arrives_before_delay_and_serialisation() -> None:
    emulator = make(delay_s=0.3, rate_bps=2_000_000)
    emulator.enqueue(FRAME, 10.0)
    assert emulator.get_timer() == pytest.approx(10.305)
    assert emulator.frames_due(10.304) == []
    assert emulator.frames_due(10.306) == [FRAME]


def test_frames_behind_each_other_wait_for_the_rate() -> None:
    emulator = make(delay_s=0.3, rate_bps=2_000_000)
    for _ in range(4):
        emulator.enqueue(FRAME, 0.0)
    assert [time for time, _ in arrivals(emulator)] == pytest.approx([0.305, 0.310, 0.315, 0.320])


def test_an_idle_link_gives_no_credit() -> None:
    emulator = make(rate_bps=2_000_000)
    emulator.enqueue(FRAME, 0.0)
    emulator.frames_due(1.0)
    emulator.enqueue(FRAME, 100.0)
    emulator.enqueue(FRAME, 100.0)
    assert [time for time, _ in arrivals(emulator)] == pytest.approx([100.005, 100.010])


def test_the_rate_counts_every_byte() -> None:
    emulator = make(rate_bps=1000)
    emulator.enqueue(bytes(125), 0.0)
    emulator.enqueue(bytes(250), 0.0)
    assert [time for time, _ in arrivals(emulator)] == pytest.approx([1.0, 3.0])


@pytest.mark.parametrize("rate_bps", [None, 500_000])
def test_jitter_stays_in_its_range_and_keeps_the_order(rate_bps: int | None) -> None:
    emulator = make(delay_s=0.015, jitter_s=0.005, rate_bps=rate_bps)
    sent = {bytes([number]): number * 0.01 for number in range(200)}
    for frame, time in sent.items():
        emulator.enqueue(frame, time)
    seen = arrivals(emulator)
    delays = [time - sent[frame] for time, frame in seen]
    serialisation_s = 8 / rate_bps if rate_bps else 0.0
    assert [frame for _, frame in seen] == list(sent)
    assert min(delays) >= 0.010
    assert max(delays) <= 0.020 + serialisation_s + 1e-9
    assert max(delays) - min(delays) > 0.008  # 200 uniform draws: the range misses a fifth of its width once in 10^18


def test_frames_closer_than_the_jitter_keep_their_order() -> None:
    emulator = make(delay_s=0.5, jitter_s=0.5)
    frames = [bytes([number]) for number in range(100)]
    for number, frame in enumerate(frames):
        emulator.enqueue(frame, number * 1e-4)
    assert [frame for _, frame in arrivals(emulator)] == frames


def test_the_limit_counts_frames_under_way_too() -> None:
    emulator = make(delay_s=1.0, limit=3)
    for number in range(5):
        emulator.enqueue(bytes([number]), 0.0)
    assert emulator.held_frames() == 3
    assert emulator.counters.over_limit == 2
    assert [frame for _, frame in arrivals(emulator)] == [b"\0", b"\1", b"\2"]
    emulator.enqueue(b"\5", 1.0)
    assert emulator.counters.over_limit == 2


def test_a_lost_frame_takes_no_air_time() -> None:
    """netem decides the loss before the rate."""
    profile = LinkProfile("test", rate_bps=2_000_000, loss=RandomLoss(0.5))
    emulator = LinkEmulator(profile, random.Random(5))
    for _ in range(100):
        emulator.enqueue(FRAME, 0.0)
    seen = arrivals(emulator)
    assert len(seen) + emulator.counters.lost == 100
    assert 0 < len(seen) < 100
    assert seen[-1][0] == pytest.approx(len(seen) * 0.005)


def test_a_cut_link_loses_what_comes_and_delivers_what_is_under_way() -> None:
    emulator = make(delay_s=0.3)
    emulator.enqueue(b"before", 0.0)
    emulator.cut()
    emulator.enqueue(b"during", 0.1)
    assert emulator.is_cut
    emulator.restore()
    emulator.enqueue(b"after", 0.2)
    assert [frame for _, frame in arrivals(emulator)] == [b"before", b"after"]
    assert emulator.counters.cut == 1


def test_a_duplicate_comes_right_behind() -> None:
    emulator = make(duplicate=1.0)
    emulator.enqueue(b"x", 0.0)
    assert emulator.frames_due(0.0) == [b"x", b"x"]
    assert emulator.counters.duplicated == 1


def test_corruption_flips_one_bit() -> None:
    emulator = make(corrupt=1.0)
    emulator.enqueue(FRAME, 0.0)
    (damaged,) = emulator.frames_due(0.0)
    assert len(damaged) == len(FRAME)
    assert sum(byte.bit_count() for byte in damaged) == 1


def test_reordering_lets_each_gapth_frame_overtake() -> None:
    emulator = make(delay_s=1.0, reorder=1.0, gap=3)
    for number in range(6):
        emulator.enqueue(bytes([number]), 0.0)
    assert [frame[0] for _, frame in arrivals(emulator)] == [2, 5, 0, 1, 3, 4]


def test_a_new_profile_is_for_new_frames() -> None:
    emulator = make(delay_s=0.3)
    emulator.enqueue(b"slow", 0.0)
    emulator.set_profile(LinkProfile("fast", delay_s=0.001))
    emulator.enqueue(b"fast", 0.0)
    assert arrivals(emulator) == [(0.3, b"slow"), (0.3, b"fast")]


def test_every_frame_is_accounted_for() -> None:
    profile = LinkProfile("test", loss=RandomLoss(0.2), duplicate=0.1, delay_s=0.1, rate_bps=10_000_000, limit=50)
    emulator = LinkEmulator(profile, random.Random(11))
    for number in range(1000):
        emulator.enqueue(FRAME, number * 0.0005)
        emulator.frames_due(number * 0.0005)
    counters = emulator.counters
    ends = counters.sent + counters.lost + counters.over_limit + emulator.held_frames()
    assert ends == counters.arrived + counters.duplicated
    assert min(counters.lost, counters.over_limit, counters.duplicated) > 0


def test_loss_after_the_rate_takes_air_time() -> None:
    profile = LinkProfile("test", rate_bps=2_000_000, loss=RandomLoss(0.5), loss_after_rate=True)
    emulator = LinkEmulator(profile, random.Random(5))
    for _ in range(99):
        emulator.enqueue(FRAME, 0.0)
    assert emulator.held_frames() == 99
    emulator.set_profile(LinkProfile("test", rate_bps=2_000_000))
    emulator.enqueue(FRAME, 0.0)
    seen = arrivals(emulator)
    assert len(seen) + emulator.counters.lost == 100
    assert 0 < emulator.counters.lost < 99
    assert emulator.counters.sent == len(seen)
    assert seen[-1][0] == pytest.approx(100 * 0.005)
