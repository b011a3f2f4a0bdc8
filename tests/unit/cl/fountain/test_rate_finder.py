# SPDX-License-Identifier: Apache-2.0
"""A bearer that finds its rate: with and without loss, after a fall to a tenth and back, for two, and for nobody."""

import random

import pytest

from meshd.cl.fountain.delivery_meter import DeliveryMeter
from meshd.cl.fountain.frames import Report
from meshd.cl.fountain.rate_finder import Phase, RateFinder
from tests.sim.automatic_rate import (
    FLOOR_BPS,
    QUEUE_MAX_S,
    found_bps,
    make_auto,
    steady_share,
    wait_for,
)
from tests.sim.fountain_bulk import FLASH, MIB, Bulk
from tests.sim.fountain_world import independent

RTT_S = 0.6
LINK_BPS = 2_000_000


@pytest.mark.parametrize(("loss", "modem_s"), [(0.0, 0.6), (0.01, 0.6), (0.05, 0.013), (0.1, 0.6)])
def test_the_rate_is_found_at_any_loss_and_kept_without_a_queue(loss: float, modem_s: float) -> None:
    world = make_auto(1, loss, link_bps=LINK_BPS, modem_s=modem_s)
    bulk = Bulk(world, MIB, 100)
    bulk.feed()
    assert wait_for(world, lambda bps: bps > 0.8 * LINK_BPS, 20) <= 10 * RTT_S
    world.time.run_until(world.time.now + 6)
    world.nodes[0].backlog_most_bytes = 0
    assert steady_share(world, bulk, 30, loss) > 0.85
    assert world.nodes[0].backlog_most_bytes * 8 / LINK_BPS < QUEUE_MAX_S


@pytest.mark.parametrize("modem_s", [0.6, 0.013])
def test_a_fall_to_a_tenth_is_found_within_three_round_trips_and_the_return_later(modem_s: float) -> None:
    world = make_auto(2, 0.05, link_bps=LINK_BPS, modem_s=modem_s)
    Bulk(world, MIB, 100).feed()
    wait_for(world, lambda bps: bps > 0.8 * LINK_BPS, 20)
    world.time.run_until(world.time.now + 6)
    world.modems_bps[0] = LINK_BPS // 10
    assert wait_for(world, lambda bps: bps < 1.3 * LINK_BPS / 10, 20) <= 3 * RTT_S
    world.time.run_until(world.time.now + 12)
    assert 0.6 * LINK_BPS / 10 < found_bps(world) < 1.3 * LINK_BPS / 10
    world.modems_bps[0] = LINK_BPS
    assert wait_for(world, lambda bps: bps > 0.8 * LINK_BPS, 40) <= 30 * RTT_S


def test_of_two_receivers_the_slower_decides_while_it_lives() -> None:
    world = make_auto(3, 0.0, link_bps=LINK_BPS, count=3, is_multicast=True)
    near, far = (node.settings.node for node in world.nodes[1:])
    for number in range(40):
        data = world.rng.randbytes(MIB)
        for name in (near, far):
            world.nodes[0].send(name, number, data)
    wait_for(world, lambda bps: bps > 0.8 * LINK_BPS, 20)
    # One of them hears a tenth, as if its receiver were slow.
    slow = independent(random.Random(1), 0.9)
    world.losses[0, 2] = slow
    assert wait_for(world, lambda bps: bps < 0.5 * LINK_BPS, 20) <= 6 * RTT_S
    world.nodes[2].is_dead = True
    assert wait_for(world, lambda bps: bps > 0.8 * LINK_BPS, 60) < 60


def test_while_nobody_answers_the_floor_holds() -> None:
    world = make_auto(4, 0.0, link_bps=LINK_BPS)
    sender, receiver = world.nodes
    Bulk(world, MIB, 30).feed()
    wait_for(world, lambda bps: bps > 0.8 * LINK_BPS, 20)
    receiver.machine.announce_silence(0)
    receiver.pump()
    receiver.machine.freeze()
    world.time.run_until(world.time.now + 2.0)
    before_bytes, since = sender.sent_frame_bytes, world.time.now
    world.time.run_until(since + 20)
    assert (sender.sent_frame_bytes - before_bytes) * 8 / 20 == pytest.approx(FLOOR_BPS, rel=0.1)


def test_urgent_bundles_do_not_wait_behind_what_a_probe_adds() -> None:
    world = make_auto(5, 0.0, link_bps=LINK_BPS)
    sender, receiver = world.nodes
    Bulk(world, MIB, 60).feed()
    wait_for(world, lambda bps: bps > 0.8 * LINK_BPS, 20)
    world.time.run_until(world.time.now + 6)
    begun = {}
    for number in range(10):
        data = world.rng.randbytes(1024)
        begun[data] = world.time.now
        sender.send(receiver.settings.node, ("flash", number), data, FLASH)
        world.time.run_until(world.time.now + 0.7)
    assert max(receiver.received[data] - at for data, at in begun.items()) < RTT_S / 2 + QUEUE_MAX_S


# The parts.


def report(counter: int, received: int, rate_bps: int = 0) -> Report:
    return Report(1, 1, counter, 0, received, 0, rate_bps)


def fed(count: int, every_s: float, *, rtt_s: float, lost: int = 0, rests: int = 0) -> DeliveryMeter:
    """Datagrams of 1000 bytes, reported on one by one from the eighth on; of each ten so many are lost."""
    meter = DeliveryMeter()
    received = 0
    for number in range(count):
        meter.note_sent(number, number * every_s, 1000, (number + 1) * 1000, rests * number)
        received += number % 10 >= lost
        meter.take_report(report(number, received), number * every_s + rtt_s)
    return meter


def test_what_comes_out_is_the_rate_and_random_loss_is_no_part_of_it() -> None:
    assert fed(400, 0.01, rtt_s=0.1).rate_bps == pytest.approx(800_000)
    meter = fed(400, 0.01, rtt_s=0.1, lost=1)
    assert meter.loss_base == pytest.approx(0.1, abs=0.02)
    assert meter.rate_bps == pytest.approx(800_000, rel=0.12)
    assert meter.base_rtt_s == pytest.approx(0.1)
    assert meter.queue_s == pytest.approx(0.0)


def test_what_had_rests_between_proves_no_limit() -> None:
    meter = fed(100, 0.01, rtt_s=0.1, rests=1)
    assert meter.samples == 0
    assert meter.latest_bps == 0
    assert meter.rate_bps == pytest.approx(800_000)


def test_a_report_of_what_was_never_sent_and_one_out_of_order_change_nothing() -> None:
    meter = fed(100, 0.01, rtt_s=0.1)
    before = (meter.rate_bps, meter.base_rtt_s, meter.samples)
    meter.take_report(report(5000, 70), 1.2)
    meter.take_report(report(3, 4), 1.3)
    assert (meter.rate_bps, meter.base_rtt_s, meter.samples) == before


def test_what_is_under_way_grows_without_reports() -> None:
    meter = fed(100, 0.01, rtt_s=0.1)
    assert meter.under_way_bytes == 0
    for number in range(100, 110):
        meter.note_sent(number, 1.0, 1000, (number + 1) * 1000, 0)
    assert meter.under_way_bytes == 10_000


def test_with_a_node_that_has_not_answered_yet_the_floor_holds() -> None:
    finder = RateFinder(FLOOR_BPS, 10**8)
    assert finder.pace_bps([], 0.0, is_anybody_live=False) == FLOOR_BPS
    assert finder.pace_bps([DeliveryMeter()], 0.0, is_anybody_live=True) == FLOOR_BPS
    assert finder.phase is Phase.RISE
    assert finder.pace_bps([fed(100, 0.01, rtt_s=0.1)], 1.0, is_anybody_live=True) == pytest.approx(2_400_000)
    assert finder.found_bps == pytest.approx(800_000)


def test_nothing_is_found_above_the_ceiling() -> None:
    finder = RateFinder(FLOOR_BPS, 500_000)
    assert finder.pace_bps([fed(100, 0.01, rtt_s=0.1)], 1.0, is_anybody_live=True) == 500_000
    assert finder.found_bps == 500_000
