# SPDX-License-Identifier: Apache-2.0
"""Whole machines on a simulated bearer: loss, precedence, silence, outage, many receivers, damage."""

import random
from itertools import pairwise

import pytest

from meshd.cl.fountain.events import (
    FailureReason,
    PeerDown,
    PeerUp,
    TransfersAcknowledged,
    TransfersFailed,
    TransfersSent,
)
from meshd.link.settings import Direction
from tests.sim.fountain_world import Node, World, independent

KIB = 1024
ROUTINE, IMMEDIATE, FLASH = 1, 3, 4


def make(loss: float = 0.0, count: int = 2, seed: int = 1, **settings: object) -> World:
    """Nodes at 2 Mbit/s and 200 ms."""
    world = World(seed, count, **settings)
    world.delay_s = 0.1
    world.rates_bps = dict.fromkeys(range(count), 2_000_000)
    world.losses = {
        (a, b): independent(random.Random(f"{seed} {a} {b}"), loss) for a in range(count) for b in range(count)
    }
    return world


def begin(world: World) -> list[Node]:
    world.build()
    run(world, 3)
    return world.nodes


def run(world: World, seconds: float) -> None:
    world.time.run_until(world.time.now + seconds)


def test_nodes_hear_each_other_and_then_keep_quiet() -> None:
    world = make()
    first, second = begin(world)
    assert first.up == {second.settings.node}
    assert second.up == {first.settings.node}
    before = first.sent_datagrams
    run(world, 600)
    assert first.sent_datagrams - before <= 2 * 10
    assert first.up == {second.settings.node}


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.4])
def test_bundles_of_all_sizes_arrive_and_are_acknowledged_once(loss: float) -> None:
    world = make(loss)
    first, second = begin(world)
    rng = random.Random(2)
    bundles = [rng.randbytes(size) for size in (1, 100, 1400, 1500, 30_000, 400_000, 3_000_000, 7, 8)]
    for number, data in enumerate(bundles):
        first.send(second.settings.node, number, data)
    run(world, 60)
    assert set(second.received) == set(bundles)
    assert second.copies == len(bundles)
    assert sorted(str(name) for _, name in first.acknowledged) == [str(number) for number in range(len(bundles))]


def test_both_directions_at_once() -> None:
    world = make(0.05)
    nodes = begin(world)
    bundles = [[world.rng.randbytes(200_000) for _ in range(4)] for _ in nodes]
    for node, other, own in zip(nodes, nodes[::-1], bundles, strict=True):
        for number, data in enumerate(own):
            node.send(other.settings.node, number, data)
    run(world, 15)
    assert set(nodes[0].received) == set(bundles[1])
    assert set(nodes[1].received) == set(bundles[0])


def test_the_modem_never_has_more_than_a_datagram() -> None:
    world = make(0.05)
    first, second = begin(world)
    for number in range(10):
        first.send(second.settings.node, number, world.rng.randbytes(100_000))
    run(world, 20)
    assert first.backlog_most_bytes <= 1515
    assert first.modem_drops == 0


def test_flash_overtakes_a_large_bundle() -> None:
    world = make(0.02)
    first, second = begin(world)
    first.send(second.settings.node, "bulk", world.rng.randbytes(2_000_000))
    run(world, 2)
    flash = world.rng.randbytes(1000)
    at = world.time.now
    first.send(second.settings.node, "flash", flash, FLASH)
    run(world, 20)
    assert second.received[flash] - at < 0.13
    assert len(second.received) == 2


def test_equal_precedence_is_shared_among_nodes() -> None:
    world = make(0.0, 3)
    first, second, third = begin(world)
    for number in range(10):
        first.send(second.settings.node, ("second", number), world.rng.randbytes(200_000))
    for number in range(10):
        first.send(third.settings.node, ("third", number), world.rng.randbytes(200_000))
    run(world, 8)
    assert abs(len(second.received) - len(third.received)) <= 1
    assert len(second.received) >= 2


def test_small_bundles_travel_together_but_do_not_wait() -> None:
    world = make()
    first, second = begin(world)
    bundles = [world.rng.randbytes(100) for _ in range(10)]
    before, at = first.machine._sender.symbols_sent, world.time.now
    for number, data in enumerate(bundles):
        first.send(second.settings.node, number, data)
    run(world, 1)
    assert first.machine._sender.symbols_sent - before == 1
    assert max(second.received.values()) - at < 0.1 + 0.02 + 0.02


def test_a_slow_bearer_cuts_a_bundle_into_as_many_pieces_as_a_receiver_can_hold() -> None:
    world = make()
    world.rates_bps = {0: 9600, 1: 9600}
    first, second = begin(world)
    first.send(second.settings.node, 1, world.rng.randbytes(3_000_000))
    run(world, 5)
    objects = first.machine._sender._objects.values()
    assert len(objects) == 256
    assert sum(len(item.data) for item in objects) < 3_030_000


def test_what_is_under_way_is_bounded_but_flash_finds_room() -> None:
    world = make()
    first, second = begin(world)
    world.is_cut = True
    first.machine.freeze()
    for number in range(30):
        first.send(second.settings.node, number, world.rng.randbytes(1_000_000))
    sender = first.machine._sender
    for _ in range(200_000):
        if sender.next_symbol(first.machine._seal.next_counter, world.time.now + 1) is None:
            break
    assert 24 * KIB * KIB <= sum(len(item.data) for item in sender._objects.values()) < 26 * KIB * KIB
    first.send(second.settings.node, "flash", bytes(1000), FLASH)
    found = sender.next_symbol(first.machine._seal.next_counter, world.time.now + 1)
    assert found is not None
    assert found[0].precedence == FLASH


def test_the_same_bundle_again_is_not_sent_again() -> None:
    world = make()
    first, second = begin(world)
    data = world.rng.randbytes(300_000)
    first.send(second.settings.node, 1, data)
    run(world, 0.5)
    first.send(second.settings.node, 1, data)
    run(world, 5)
    assert second.copies == 1
    assert first.acknowledged == [(second.settings.node, 1)]


def test_an_expired_bundle_is_given_up() -> None:
    world = make(1.0)
    world.losses = {}
    first, second = begin(world)
    world.is_cut = True
    first.send(second.settings.node, 1, bytes(1000), lifetime_s=1.0)
    run(world, 2.5)
    failures = [event for event in first.events if isinstance(event, TransfersFailed)]
    assert failures[0] == TransfersFailed(second.settings.node, [1], FailureReason.EXPIRED)
    assert first.machine.snapshot(0.0)[0]["open_objects_out"] == 0


def test_a_refused_bundle_fails_and_is_not_sent_again() -> None:
    world = make()
    first, second = begin(world)
    second.refuses = True
    first.send(second.settings.node, 1, bytes(5000))
    run(world, 3)
    failures = [event for event in first.events if isinstance(event, TransfersFailed)]
    assert failures == [TransfersFailed(second.settings.node, [1], FailureReason.REFUSED)]
    assert first.machine.snapshot(0.0)[0]["open_objects_out"] == 0


def test_an_outage_costs_nothing_that_had_arrived() -> None:
    world = make(0.01)
    first, second = begin(world)
    for number in range(4):
        first.send(second.settings.node, number, world.rng.randbytes(500_000))
    run(world, 4)
    world.is_cut = True
    run(world, 30)
    assert any(isinstance(event, PeerDown) for event in first.events)
    sent = first.sent_datagrams
    run(world, 10)
    assert first.sent_datagrams - sent <= 12
    world.is_cut = False
    taken = second.machine._peers[0].receiver
    before, at = taken.symbols_taken, world.time.now
    world.time.run_until(at + 10, lambda: taken.symbols_taken > before)
    assert world.time.now - at <= 1.0 + 0.2
    run(world, 20)
    assert len(second.received) == second.copies == 4
    assert taken.symbols_late <= 30
    assert {name for _, name in first.acknowledged} == {0, 1, 2, 3}


def test_multicast_serves_all_with_one_transmission() -> None:
    world = make(0.05, 5, is_multicast=True)
    first, *others = begin(world)
    data = [world.rng.randbytes(500_000) for _ in range(3)]
    before = first.sent_frame_bytes
    for number, each in enumerate(data):
        for other in others:
            first.machine.send_bundles(other.settings.node, [first.row(number, each)], world.time.now)
    first.pump()
    run(world, 15)
    assert all(set(other.received) == set(data) for other in others)
    assert len(first.acknowledged) == 12
    assert first.sent_frame_bytes - before < 1.25 * 1_500_000


def test_multicast_asks_for_all_receivers_alike() -> None:
    """What one has been given takes nothing from the others: else their copies would come too late to share objects."""
    world = make(0.0, 3, is_multicast=True)
    first, second, third = begin(world)
    before = first.machine.credit_bytes(third.settings.node)
    assert before > 0
    first.machine.send_bundles(second.settings.node, [first.row(1, bytes(50_000))], world.time.now)
    assert first.machine.credit_bytes(second.settings.node) == before - 50_000
    assert first.machine.credit_bytes(third.settings.node) == before
    first.machine.send_bundles(third.settings.node, [first.row(1, bytes(50_000))], world.time.now)
    assert first.machine.credit_bytes(third.settings.node) == before - 50_000
    first.pump()
    run(world, 10)
    assert first.machine.credit_bytes(second.settings.node) == first.machine.credit_bytes(third.settings.node) == before


def test_multicast_is_for_those_named_only() -> None:
    world = make(0.0, 3, is_multicast=True)
    first, second, third = begin(world)
    first.send(second.settings.node, 1, bytes(2000))
    run(world, 3)
    assert len(second.received) == 1
    assert not third.received
    first.send(third.settings.node, 1, bytes(2000))
    run(world, 3)
    assert len(third.received) == 1


def test_a_member_that_joins_late_gets_all_and_the_others_nothing_twice() -> None:
    world = make(0.05, 3, is_multicast=True)
    first, second, third = begin(world)
    data = world.rng.randbytes(900_000)
    first.send(second.settings.node, 1, data)
    run(world, 2)
    first.send(third.settings.node, 1, data)
    run(world, 15)
    assert first.machine._sender.symbols_sent < 1.3 * 900_000 / 1424
    assert set(second.received) == set(third.received) == {data}
    assert second.copies == third.copies == 1
    assert set(first.acknowledged) == {(second.settings.node, 1), (third.settings.node, 1)}


def test_a_member_that_joins_when_it_has_passed_the_object_over_gets_it_once_more() -> None:
    world = make(0.0, 3, is_multicast=True)
    first, second, third = begin(world)
    second.is_deaf_to_commits = True
    data = world.rng.randbytes(20_000)
    first.send(second.settings.node, 1, data)
    run(world, 1)
    assert second.machine._peers[0].receiver.open_objects == 1
    assert third.machine._peers[0].receiver.open_objects == 0
    first.send(third.settings.node, 1, data)
    run(world, 10)
    assert set(third.received) == {data}
    assert third.copies == 1
    assert first.acknowledged == [(third.settings.node, 1)]


def test_a_receiver_with_much_loss_does_not_hold_up_the_others() -> None:
    world = make(0.01, 4, is_multicast=True)
    world.losses[0, 3] = independent(random.Random(4), 0.5)
    first, *others = begin(world)
    for number in range(4):
        data = world.rng.randbytes(300_000)
        for other in others:
            first.machine.send_bundles(other.settings.node, [first.row(number, data)], world.time.now)
    first.pump()
    run(world, 40)
    last = [max(other.received.values()) for other in others]
    assert [len(other.received) for other in others] == [4, 4, 4]
    assert max(last[:2]) < last[2]


def test_blind_passes_go_on_by_the_clock_and_end() -> None:
    world = make(0.2, emcon_rtc=2, emcon_rti_s=10.0)
    world.blind = {(0, 1)}
    world.overrides = {1: {"direction": Direction.RX}}
    world.build()
    first, second = world.nodes
    first.send(second.settings.node, 1, world.rng.randbytes(100_000))
    symbols = []
    for _ in range(4):
        run(world, 9)
        symbols.append(first.machine._sender.symbols_sent)
    steps = [after - before for before, after in pairwise([0, *symbols])]
    assert steps[0] == steps[1] == steps[2] >= 100
    assert steps[3] == 0
    assert second.copies == 1
    assert second.sent_datagrams == 0
    assert [event for event in first.events if isinstance(event, TransfersSent)] == [
        TransfersSent(second.settings.node, [1])
    ]


def test_a_silent_node_is_served_blind_and_answers_after_its_silence() -> None:
    world = make(0.05, emcon_rti_s=10.0, emcon_rtc=5)
    first, second = begin(world)
    second.machine.announce_silence(90)
    second.pump()
    second.machine.freeze()
    run(world, 1)
    assert PeerUp(second.settings.node, is_blind=True, silent_s=90) in first.events
    before = second.sent_datagrams
    bundles = [world.rng.randbytes(50_000) for _ in range(3)]
    for number, data in enumerate(bundles):
        first.send(second.settings.node, number, data)
    run(world, 15)
    assert set(second.received) == set(bundles)
    assert second.sent_datagrams == before
    assert not first.acknowledged
    second.machine.thaw(world.time.now)
    second.pump()
    run(world, 3)
    assert len(first.acknowledged) == 3
    assert second.sent_datagrams - before <= 6
    sent = first.machine._sender.symbols_sent
    run(world, 60)
    assert first.machine._sender.symbols_sent == sent


def test_nothing_leaves_while_frozen() -> None:
    world = make()
    first, second = begin(world)
    first.send(second.settings.node, 1, world.rng.randbytes(500_000))
    run(world, 1)
    first.machine.freeze()
    before = first.sent_datagrams
    first.send(second.settings.node, 2, world.rng.randbytes(5000), FLASH)
    run(world, 100)
    assert first.sent_datagrams == before
    first.machine.thaw(world.time.now)
    first.pump()
    run(world, 15)
    assert len(second.received) == 2


def test_duplicates_disorder_and_damage() -> None:
    world = make(0.05)
    world.duplicate, world.reorder, world.corrupt = 0.2, 0.25, 0.01
    first, second = begin(world)
    bundles = [world.rng.randbytes(300_000) for _ in range(5)]
    for number, data in enumerate(bundles):
        first.send(second.settings.node, number, data)
    run(world, 20)
    assert set(second.received) == set(bundles)
    assert second.copies == 5
    assert second.machine.faults["forged"] > 0
    assert second.machine.faults["replayed"] > 0


def test_a_peer_that_started_anew_gets_what_it_lost() -> None:
    world = make()
    first, second = begin(world)
    second.is_deaf_to_commits = True
    data = world.rng.randbytes(200_000)
    first.send(second.settings.node, 1, data)
    run(world, 2)
    assert not first.acknowledged
    world.restart(1)
    second = world.nodes[1]
    run(world, 10)
    assert set(second.received) == {data}
    assert [event for event in first.events if isinstance(event, TransfersAcknowledged)]


@pytest.mark.parametrize("seed", range(6))
def test_any_pattern_of_loss_ends_well(seed: int) -> None:
    rng = random.Random(seed)
    world = make(rng.choice((0.0, 0.02, 0.3)), seed=seed)
    first, second = begin(world)
    bundles = [rng.randbytes(rng.choice((50, 2000, 100_000, 700_000))) for _ in range(12)]
    for number, data in enumerate(bundles):
        first.send(second.settings.node, number, data, rng.randint(0, 5))
        run(world, rng.uniform(0, 0.5))
        if rng.random() < 0.3:
            world.is_cut = True
            run(world, rng.uniform(0.05, 8))
            world.is_cut = False
    run(world, 60)
    assert set(second.received) == set(bundles)
    assert second.copies == len(bundles)
    assert {name for _, name in first.acknowledged} == set(range(12))
