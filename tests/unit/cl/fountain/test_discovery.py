# SPDX-License-Identifier: Apache-2.0
"""Machines that find each other: members that are not configured, one-way nodes, idle emission, floods of beacons."""

import random
from collections.abc import Callable, Sequence

import pytest

from meshd.cl.fountain.beacons import ANSWERS_MAX, ANSWERS_PER_S
from meshd.cl.fountain.datagram import SEAL_BYTES
from meshd.cl.fountain.events import FailureReason, PeerDown, PeerFound, PeerGone, PeerUp
from meshd.cl.fountain.frame_codec import pack_frames
from meshd.cl.fountain.frames import Beacon, Frame, Heard, Silent
from meshd.cl.fountain.neighbours import GONE_S
from tests.sim.fountain_world import FakeSeal, Node, World, independent, no_loss

DELAY_S = 0.01
FOUND_MAX = 4
HOUR_S = 3600.0


def make(count: int, *, is_multicast: bool = True, found_max: int = FOUND_MAX) -> World:
    """Nodes at 100 kbit/s that know nobody but who the mission's members are."""
    world = World(1, count, is_multicast=is_multicast, found_max=found_max)
    world.delay_s = DELAY_S
    world.rates_bps = dict.fromkeys(range(count), 100_000)
    world.strangers = {(a, b) for a in range(count) for b in range(count)}
    return world


def run(world: World, seconds: float) -> None:
    world.time.run_until(world.time.now + seconds)


def lose_all(_now: float) -> bool:
    return True


def states(node: Node) -> dict[str, str]:
    return {str(row["node"]): str(row["state"]) for row in node.machine.snapshot(node.world.time.now)}


def count(node: Node, kind: type) -> int:
    return sum(isinstance(event, kind) for event in node.events)


def inject(node: Node, seal: FakeSeal, frames: Sequence[Frame]) -> None:
    node.machine.receive_datagrams([seal.seal(pack_frames(frames))], node.world.time.now)
    node.pump()


def heard(*nodes: int, next_s: int = 66, is_whole: bool = True) -> list[Frame]:
    return [Beacon(1, 0, 5, 1 << 20), Heard(next_s, is_whole, nodes)]


def test_members_on_a_bearer_find_each_other_and_carry_bundles() -> None:
    world = make(3)
    world.build()
    run(world, 3)
    for node in world.nodes:
        assert node.up == set(world.names) - {node.settings.node}
        assert count(node, PeerFound) == 2
    first, second, _ = world.nodes
    first.send(second.settings.node, "hello", b"hello")
    run(world, 3)
    assert list(second.received) == [b"hello"]
    assert first.acknowledged == [(second.settings.node, "hello")]


def test_a_new_neighbour_can_be_sent_to_one_round_trip_after_its_first_beacon() -> None:
    world = make(2)
    world.is_cut = True
    world.build()
    run(world, 1000)
    first = world.nodes[0]
    world.is_cut = False
    sent = world.nodes[1].sent_datagrams
    while world.nodes[1].sent_datagrams == sent and first.sent_datagrams < 10_000:
        run(world, 0.001)
        if first.events:
            break
    at = world.time.now
    while not all(node.up for node in world.nodes):
        run(world, 0.001)
        assert world.time.now < at + 1
    air_s = 2 * 100 * 8 / 100_000
    assert world.time.now - at <= 2 * DELAY_S + air_s + 0.002
    data = b"at once"
    world.nodes[0].send(world.names[1], 1, data)
    run(world, 0.5)
    assert data in world.nodes[1].received


def test_nobody_is_found_where_discovery_is_off() -> None:
    world = make(2, found_max=0)
    world.build()
    run(world, 10)
    assert not world.nodes[0].events
    assert not world.nodes[0].machine.snapshot(world.time.now)


def test_only_so_many_are_found_and_who_is_gone_makes_room() -> None:
    world = make(FOUND_MAX + 3)
    world.build()
    run(world, 10)
    first = world.nodes[0]
    assert len(first.up) == FOUND_MAX
    for node in world.nodes[1:]:
        node.is_dead = node.settings.node in first.up
    run(world, 600)
    assert len(first.up) == 2
    assert count(first, PeerGone) == 2
    assert len(states(first)) == FOUND_MAX


def test_a_neighbour_that_was_found_is_gone_after_long_absence_and_comes_back() -> None:
    world = make(2)
    world.build()
    run(world, 10)
    first = world.nodes[0]
    world.is_cut = True
    run(world, GONE_S / 2)
    assert states(first) == {world.names[1].uri: "not heard any more"}
    run(world, GONE_S / 2 + 100)
    assert not states(first)
    assert [type(event) for event in first.events if isinstance(event, PeerDown | PeerGone)] == [PeerDown, PeerGone]
    world.is_cut = False
    run(world, 70)
    assert first.up == {world.names[1]}


def test_a_configured_neighbour_is_never_gone() -> None:
    world = make(2)
    world.strangers = set()
    world.build()
    run(world, 10)
    world.is_cut = True
    run(world, 3 * GONE_S)
    assert states(world.nodes[0]) == {world.names[1].uri: "not heard any more"}


@pytest.mark.parametrize("nodes", [2, 4, 12])
def test_idle_emission_over_an_hour(nodes: int) -> None:
    """At most 2 frames and 300 bytes a node and minute: half of the frames are left to what else is said."""
    world = make(nodes, found_max=64)
    world.build()
    run(world, 200)
    frames = [node.sent_datagrams for node in world.nodes]
    bytes_before = [node.sent_frame_bytes for node in world.nodes]
    run(world, HOUR_S)
    for node, sent, sent_bytes in zip(world.nodes, frames, bytes_before, strict=True):
        assert len(node.up) == nodes - 1
        assert 0.85 <= (node.sent_datagrams - sent) / 60 <= 1.1
        assert (node.sent_frame_bytes - sent_bytes) / 60 <= 150


def test_idle_emission_with_more_neighbours_than_a_beacon_names() -> None:
    world = make(41, found_max=64)
    world.build()
    run(world, 300)
    first = world.nodes[0]
    frames, sent_bytes = first.sent_datagrams, first.sent_frame_bytes
    run(world, HOUR_S / 6)
    assert all(len(node.up) == 40 for node in world.nodes)
    assert (first.sent_datagrams - frames) / 10 <= 1.1
    assert (first.sent_frame_bytes - sent_bytes) / 10 <= 170


def test_idle_emission_where_each_neighbour_is_told_alone() -> None:
    world = make(6, is_multicast=False)
    world.strangers = set()
    world.build()
    run(world, 600)
    before = [(node.sent_datagrams, node.sent_frame_bytes) for node in world.nodes]
    run(world, HOUR_S)
    for node, (frames, sent_bytes) in zip(world.nodes, before, strict=True):
        assert len(node.up) == 5
        assert (node.sent_datagrams - frames) / 60 <= 2.2
        assert (node.sent_frame_bytes - sent_bytes) / 60 <= 200


def test_beacons_are_not_in_step() -> None:
    world = make(2)
    world.build()
    run(world, 4 * HOUR_S)
    times = [node.machine.get_timer() for node in world.nodes]
    assert abs(times[0] - times[1]) > 0.01


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_a_node_that_hears_but_is_not_heard_is_known_as_one_way(loss: float) -> None:
    world = make(2)
    world.losses = {(0, 1): lose_all, (1, 0): independent(random.Random(5), loss)}
    world.build()
    run(world, 60)
    first, second = world.nodes
    assert states(first) == {world.names[1].uri: "heard, but does not hear us"}
    assert not states(second)
    assert not first.up
    downs = [event for event in first.events if isinstance(event, PeerDown)]
    assert [event.reason for event in downs] == [FailureReason.ONE_WAY]
    first.send(world.names[1], 1, b"data")
    assert first.failed == [(world.names[1], 1)]
    run(world, HOUR_S)
    assert count(first, PeerUp) == 1


def test_a_one_way_node_is_up_when_it_hears_us() -> None:
    world = make(2)
    world.losses = {(0, 1): lose_all}
    world.build()
    run(world, 100)
    world.losses = {}
    run(world, 70)
    assert [node.up for node in world.nodes] == [{world.names[1]}, {world.names[0]}]


def test_a_way_that_breaks_is_noticed_without_traffic() -> None:
    world = make(2)
    world.build()
    run(world, 200)
    world.losses = {(0, 1): lose_all}
    run(world, 400)
    assert states(world.nodes[0]) == {world.names[1].uri: "heard, but does not hear us"}
    assert states(world.nodes[1]) == {world.names[0].uri: "not heard any more"}
    world.losses = {(0, 1): no_loss}
    run(world, 70)
    assert all(node.up for node in world.nodes)


def test_after_our_own_silence_nobody_is_called_one_way() -> None:
    world = make(2)
    world.build()
    run(world, 200)
    first, second = world.nodes
    first.machine.announce_silence(0)
    first.pump()
    first.machine.freeze()
    run(world, HOUR_S)
    assert states(second) == {world.names[0].uri: "silent on order"}
    assert not count(second, PeerDown)
    assert states(first) == {world.names[1].uri: "up"}
    first.machine.thaw(world.time.now)
    first.pump()
    run(world, 5)
    assert states(second) == {world.names[0].uri: "up"}
    assert not count(first, PeerDown)


def flood(node: Node, frames_of: Callable[[int], list[Frame]], number: int, *, boots: bool = False) -> tuple[int, int]:
    """10 000 datagrams in a second, sealed by a member: how many left for them, and how many events they made."""
    seal = FakeSeal(node.world.names[1], 1, boot=2)
    sent, events = node.sent_datagrams, len(node.events)
    for turn in range(number):
        if boots:
            seal.boot, seal.next_counter = turn + 10, 1
        inject(node, seal, frames_of(turn))
        if turn % 10 == 9:
            run(node.world, 0.001)
    return node.sent_datagrams - sent, len(node.events) - events


@pytest.mark.parametrize("boots", [False, True], ids=["one start", "a start each"])
@pytest.mark.parametrize("kind", ["does not hear us", "hears us", "now and then", "silent in turns"])
def test_a_flood_of_beacons_costs_few_answers_and_events(kind: str, *, boots: bool) -> None:
    world = make(2)
    world.build()
    run(world, 200)
    kinds: dict[str, Callable[[int], list[Frame]]] = {
        "does not hear us": lambda _turn: heard(),
        "hears us": lambda _turn: heard(0),
        "now and then": lambda turn: heard(0) if turn // 3 % 2 else heard(),
        "silent in turns": lambda turn: [Silent(True, 0)] if turn % 2 else heard(0),
    }
    world.nodes[1].is_dead = True
    sent, events = flood(world.nodes[0], kinds[kind], 10_000, boots=boots)
    assert sent <= ANSWERS_MAX + ANSWERS_PER_S + 1
    assert events <= 6


def test_a_flood_of_replayed_beacons_costs_nothing() -> None:
    world = make(2)
    world.build()
    run(world, 200)
    first = world.nodes[0]
    data = FakeSeal(world.names[1], 1, boot=2).seal(pack_frames(heard(0)))
    first.machine.receive_datagrams([data], world.time.now)
    first.pump()
    sent, events = first.sent_datagrams, len(first.events)
    for _ in range(10_000):
        first.machine.receive_datagrams([data], world.time.now)
    first.pump()
    assert first.machine.faults["replayed"] == 10_000
    assert (first.sent_datagrams, len(first.events)) == (sent, events)


def test_who_lies_about_its_next_beacon_is_not_believed_for_ever() -> None:
    world = make(2)
    world.build()
    run(world, 10)
    first = world.nodes[0]
    world.nodes[1].is_dead = True
    inject(first, FakeSeal(world.names[1], 1, boot=2), heard(0, next_s=65_535))
    run(world, 3 * 4000)
    assert first.up
    run(world, 1000)
    assert not first.up
    assert not states(first)


def test_where_a_datagram_came_from_is_told_of_a_node_that_is_found() -> None:
    world = make(2, is_multicast=False)
    world.build()
    first = world.nodes[0]
    data = FakeSeal(world.names[1], 1).seal(pack_frames(heard()))
    forged = [bytes([number]) * len(data) for number in range(1, 40)]
    sources = [(f"10.0.1.{number}", 4557) for number in range(1, 40)]
    sources[20:20] = [("10.0.0.2", 4557)]
    first.machine.receive_datagrams([*forged[:20], data, *forged[20:]], world.time.now, sources)
    first.pump()
    assert PeerFound(world.names[1], ("10.0.0.2", 4557)) in first.events
    assert first.sent_datagrams == 1


def test_a_beacon_of_one_neighbour_is_small() -> None:
    assert len(pack_frames(heard(1))) + SEAL_BYTES + 8 + 20 + 14 == 86
