# SPDX-License-Identifier: Apache-2.0
"""Live bundles over a bearer: late ones are dropped, low tiers and the newest go first, repair ends at the deadline."""

import random

import pytest

from meshd.cl.fountain.events import FailureReason, TransfersFailed
from meshd.cl.fountain.lane import Waiting
from meshd.cl.fountain.live_lane import LiveLane, last_chance_at, live_failure
from meshd.cl.fountain.outgoing_object import OutgoingObject
from meshd.cl.fountain.path_meter import PathMeter
from meshd.cl.fountain.repair import CERTAIN, MEAN, PLAIN, SAFE, SURE
from tests.sim.fountain_world import Node, World, independent

PRIORITY, FLASH = 2, 4
SECONDS_PER_BYTE = 8 / 1_000_000
LIFETIME_S = 1.4
TIER_BYTES = (300, 3000, 23_000)
"""Of each cut: 2.1 Mbit/s in all."""


def waiting(name: str, tier: int, size_bytes: int = 100, expires_at: float = 10.0) -> Waiting:
    return Waiting((1, name, -1), (bytes(size_bytes),), size_bytes, expires_at, 0.0, 1, tier)


def names(taken: list[Waiting]) -> list[object]:
    return [each.key[1] for each in taken]


def filled(*rows: Waiting) -> LiveLane:
    lane = LiveLane(PRIORITY, 1, SECONDS_PER_BYTE)
    for row in rows:
        lane.add(row)
    return lane


def test_low_tiers_go_first_and_of_each_the_newest() -> None:
    lane = filled(waiting("old", 2), waiting("clock", 0), waiting("key", 1), waiting("new", 2))
    assert [names(lane.take_bundles(1)) for _ in range(4)] == [["clock"], ["key"], ["new"], ["old"]]
    assert lane.waiting_bytes == 0
    assert lane.opens_at(1e9) is None


def test_an_object_holds_little_air_time_the_low_tiers_first() -> None:
    lane = filled(*(waiting(str(number), 2, 4000) for number in range(5)), waiting("key", 1, 4000))
    assert names(lane.take_bundles(1_000_000)) == ["key", "4", "3"]  # 100 ms are 12 500 bytes
    assert names(lane.take_bundles(1_000_000)) == ["2", "1", "0"]


def test_what_was_put_first_goes_first_and_what_was_cancelled_not_at_all() -> None:
    rows = [waiting("a", 0), waiting("b", 2), waiting("c", 0)]
    lane = filled(*rows)
    lane.put_first(rows[1])
    lane.cancel(rows[2])
    assert [names(lane.take_bundles(1)) for _ in range(2)] == [["b"], ["a"]]


@pytest.mark.parametrize(
    ("tier", "left_s", "wanted"),
    [
        (2, 1.3, PLAIN),
        (2, 0.5, PLAIN),
        (2, 0.1, SAFE),
        (1, 1.3, MEAN),
        (1, 0.5, SURE),
        (1, 0.1, CERTAIN),
        (0, 1.3, SURE),
        (0, 0.1, CERTAIN),
    ],
)
def test_a_burst_is_the_surer_the_less_time_is_left(tier: int, left_s: float, wanted: float) -> None:
    item, way = live_object(tier, left_s)
    assert live_failure(item, item.source_symbols, 0, way, SECONDS_PER_BYTE, 0.0) == wanted


def live_object(tier: int, left_s: float) -> tuple[OutgoingObject, PathMeter]:
    """Sent now, it has so long after it has arrived over a way with a round trip of 300 ms."""
    way = PathMeter(0.3)
    expires_at = left_s + 14_000 * SECONDS_PER_BYTE
    item = OutgoingObject(1, bytes(8), bytes(14_000), 1400, PRIORITY, 1, [], expires_at, (0, tier))
    return item, way


def test_nothing_is_sent_that_would_be_late_or_may_not_be_needed() -> None:
    item, way = live_object(2, 1.3)
    item.sent_at = 0.9
    assert live_failure(item, 3, 3, way, SECONDS_PER_BYTE, 0.9) is None
    assert live_failure(item, 3, 2, way, SECONDS_PER_BYTE, 0.9) == PLAIN
    assert live_failure(item, 3, 0, way, SECONDS_PER_BYTE, 1.5) is None


def test_what_is_in_flight_is_not_waited_for_when_news_would_come_too_late_or_never_came() -> None:
    item, way = live_object(2, 1.3)
    item.sent_at = 1.2
    assert live_failure(item, 3, 3, way, SECONDS_PER_BYTE, 1.3) == SAFE
    item.sent_at = 0.5
    assert live_failure(item, 3, 3, way, SECONDS_PER_BYTE, 1.3) == SAFE
    chance_at = last_chance_at(item, 3, way, SECONDS_PER_BYTE, 0.6)
    assert 1.3 < chance_at < 1.4
    assert live_failure(item, 3, 3, way, SECONDS_PER_BYTE, chance_at) == SAFE
    assert last_chance_at(item, 3, way, SECONDS_PER_BYTE, chance_at) == float("inf")


class Stream:
    """Cuts of 100 ms, each a bundle for every tier, from node 0 to all others."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: dict[bytes, tuple[float, int]] = {}
        self._rng = random.Random(7)

    def run(self, seconds: float, precedence: int = PRIORITY) -> None:
        world, source = self.world, self.world.nodes[0]
        for _ in range(round(seconds * 10)):
            now = world.time.now
            for tier, size_bytes in enumerate(TIER_BYTES):
                data = self._rng.randbytes(size_bytes)
                self.sent[data] = now, tier
                row = source.row(len(self.sent), data, precedence, LIFETIME_S, tier)
                for other in world.nodes[1:]:
                    source.machine.send_bundles(other.settings.node, [row], now)
            source.pump()
            world.time.run_until(now + 0.1)

    def in_time(self, node: Node, tier: int) -> float:
        rows = [(data, at) for data, (at, each) in self.sent.items() if each == tier]
        return sum(node.received.get(data, 1e9) <= at + LIFETIME_S for data, at in rows) / len(rows)


def begin(rate_bps: int, loss: float, count: int = 2, **settings: object) -> tuple[World, Stream]:
    world = World(5, count, **settings)
    world.delay_s = 0.15
    world.rates_bps = dict.fromkeys(range(count), rate_bps)
    world.losses = {(a, b): independent(random.Random(f"{a} {b}"), loss) for a in range(count) for b in range(count)}
    world.build()
    world.time.run_until(world.time.now + 3)
    return world, Stream(world)


def late(node: Node) -> int:
    failures = [event for event in node.events if isinstance(event, TransfersFailed)]
    return sum(len(event.bundles) for event in failures if event.reason is FailureReason.LATE)


def test_a_lossy_link_that_is_fast_enough_brings_all_in_time_with_little_repair() -> None:
    world, stream = begin(4_000_000, 0.1)
    before = world.nodes[0].sent_frame_bytes
    stream.run(10)
    world.time.run_until(world.time.now + 2)
    assert [stream.in_time(world.nodes[1], tier) for tier in range(3)] == [1.0] * 3
    sent_bytes = world.nodes[0].sent_frame_bytes - before
    assert sent_bytes * 0.9 < 1.12 * sum(map(len, stream.sent))
    assert late(world.nodes[0]) == 0


def test_a_link_that_is_too_slow_brings_the_low_tiers_and_nothing_late() -> None:
    world, stream = begin(500_000, 0.03)
    stream.run(10)
    world.time.run_until(world.time.now + 2)
    node = world.nodes[1]
    assert [stream.in_time(node, tier) > 0.98 for tier in range(3)] == [True, True, False]
    assert all(at - stream.sent[data][0] <= LIFETIME_S for data, at in node.received.items())
    assert late(world.nodes[0]) > 50


def test_flash_is_not_held_up_by_a_stream_that_fills_the_link() -> None:
    world, stream = begin(500_000, 0.0)
    stream.run(3)
    source, node = world.nodes
    flash, at = bytes(range(200)), world.time.now
    source.send(node.settings.node, "flash", flash, FLASH)
    stream.run(1)
    assert node.received[flash] - at < 0.15 + 0.1


def test_one_transmission_serves_three_receivers() -> None:
    world, stream = begin(4_000_000, 0.03, 4, is_multicast=True)
    before = world.nodes[0].sent_frame_bytes
    stream.run(5)
    world.time.run_until(world.time.now + 2)
    assert all(stream.in_time(node, tier) == 1.0 for node in world.nodes[1:] for tier in range(3))
    assert world.nodes[0].sent_frame_bytes - before < 1.3 * sum(map(len, stream.sent))


def test_no_repair_leaves_after_the_deadline() -> None:
    world, stream = begin(4_000_000, 0.0)
    stream.run(0.1)
    world.is_cut = True
    stream.run(1)
    source = world.nodes[0]
    world.time.run_until(world.time.now + LIFETIME_S)
    before = source.machine.snapshot(world.time.now)[0]["repair_overhead"]
    world.is_cut = False
    world.time.run_until(world.time.now + 3)
    assert source.machine.snapshot(world.time.now)[0]["repair_overhead"] == before
    assert source.machine.snapshot(world.time.now)[0]["open_objects_out"] == 0


def test_what_the_sender_gave_up_is_not_asked_for_for_ever() -> None:
    world, stream = begin(4_000_000, 0.3)
    stream.run(2)
    world.is_cut = True
    stream.run(0.3)
    world.time.run_until(world.time.now + LIFETIME_S + 1)
    world.is_cut = False
    peer = world.nodes[1].machine.peer(world.nodes[0].settings.node)
    assert peer.receiver.open_objects
    world.time.run_until(world.time.now + 1500)
    assert peer.receiver.open_objects == 0
