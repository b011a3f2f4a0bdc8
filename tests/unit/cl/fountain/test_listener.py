# SPDX-License-Identifier: Apache-2.0
"""What an authentic peer may say wrongly: nothing of it ends anything, and no one can acknowledge for another."""

import random

import pytest

from meshd.cl.fountain.events import StateCloned, TransfersAcknowledged
from meshd.cl.fountain.frame_codec import pack_frames
from meshd.cl.fountain.frames import Ack, AckRow, Frame, Need, Ping, Pong, Refuse, Report, Silent, Symbol
from meshd.security.pairwise import Verdict
from tests.sim.fountain_world import FakeSeal, FakeTags, Node, World


def _begin(count: int = 2, **settings: object) -> tuple[World, list[Node]]:
    world = World(1, count, **settings)
    world.build()
    world.time.run_until(world.time.now + 3)
    return world, world.nodes


def _say(world: World, sayer: Node, hearer: Node, frames: list[Frame]) -> None:
    seal = sayer.machine._seal
    assert isinstance(seal, FakeSeal)
    hearer.machine.receive_datagrams([seal.seal(pack_frames(frames))], world.time.now)
    hearer.pump()


def _send_cut_off(world: World, first: Node, second: Node) -> tuple[bytes, bytes]:
    """An object that nobody received: its ID and digest."""
    world.is_cut = True
    first.send(second.settings.node, 1, bytes(5000))
    world.time.run_until(world.time.now + 0.5)
    ((object_id, item),) = first.machine._sender._objects.items()
    return object_id, item.digest


def test_only_the_receiver_itself_can_acknowledge() -> None:
    world, (first, second, third) = _begin(3)
    object_id, digest = _send_cut_off(world, first, second)
    node, own = second.settings.node, first.settings.node
    forged = FakeTags(third.settings.node).make_tag(own, 1, Verdict.TAKEN, object_id, digest)
    wrong_digest = FakeTags(node).make_tag(own, 1, Verdict.TAKEN, object_id, bytes(32))
    refusal = FakeTags(node).make_tag(own, 1, Verdict.REFUSED, object_id, digest)
    for tag in (forged, wrong_digest, refusal, bytes(8)):
        _say(world, second, first, [Ack(0, (AckRow(object_id, tag),))])
    good = FakeTags(node).make_tag(own, 1, Verdict.TAKEN, object_id, digest)
    _say(world, third, first, [Ack(0, (AckRow(object_id, good),))])
    _say(world, second, first, [Ack(2, (AckRow(object_id, good),))])
    assert not first.acknowledged
    assert first.machine.faults["ack"] == 4
    _say(world, second, first, [Ack(0, (AckRow(object_id, good),))])
    assert first.acknowledged == [(node, 1)]


def test_a_forged_refusal_changes_nothing() -> None:
    world, (first, second) = _begin()
    object_id, digest = _send_cut_off(world, first, second)
    taken = FakeTags(second.settings.node).make_tag(first.settings.node, 1, Verdict.TAKEN, object_id, digest)
    _say(world, second, first, [Refuse(0, object_id, 1, taken)])
    assert not first.failed
    assert first.machine.faults["refusal"] == 1


def test_an_acknowledgement_of_what_was_not_sent_is_passed_over() -> None:
    world, (first, second) = _begin()
    _say(world, second, first, [Ack(0, (AckRow(b"whatever", bytes(8)),)), Need(0, b"whatever", 60_000)])
    assert not any(isinstance(event, TransfersAcknowledged) for event in first.events)


def test_a_report_of_what_we_never_sent_says_that_our_state_was_cloned() -> None:
    world, (first, second) = _begin()
    _say(world, second, first, [Report(0, 1, 10**9, 0, 1, 0, 0)])
    assert StateCloned() in first.events


def test_a_peer_that_asks_for_too_much_gets_what_an_object_can_use() -> None:
    world, (first, second) = _begin()
    object_id, _ = _send_cut_off(world, first, second)
    counter = first.machine._sender._objects[object_id].last_counter
    _say(world, second, first, [Report(0, 1, counter, 0, 1, 0, 0), Need(0, object_id, 65_535)])
    assert first.machine._sender._objects[object_id].quota <= 4 * 4 + 4


@pytest.mark.parametrize("seed", range(3))
def test_random_frames_of_a_peer_never_raise(seed: int) -> None:
    rng = random.Random(seed)
    world, (first, second) = _begin()
    first.send(second.settings.node, 1, rng.randbytes(3000))
    known = list(first.machine._sender._objects) or [bytes(8)]

    def some_id() -> bytes:
        return rng.choice([*known, rng.randbytes(8)])

    for _ in range(400):
        size, esi = rng.choice((1, 8, 16, 1000, 1424)), rng.randrange(1 << 24)
        frames: list[Frame] = [
            Symbol(some_id(), rng.randint(1, size * 3), esi, rng.randrange(256), rng.randbytes(size)),
            Need(rng.choice((0, 5)), some_id(), rng.randrange(65536)),
            Report(0, rng.choice((0, 1)), rng.randrange(12), rng.randrange(1 << 32), rng.randrange(1 << 32), 0, 0),
            Ack(0, (AckRow(some_id(), rng.randbytes(8)),)),
            Refuse(0, some_id(), rng.randrange(256), rng.randbytes(8)),
            Ping(rng.getrandbits(64)),
            Pong(0, 1, 2),
            Silent(rng.random() < 0.5, 3),
        ]
        _say(world, second, first, rng.sample(frames, rng.randint(1, 3)))
        if rng.random() < 0.1:
            world.time.run_until(world.time.now + rng.uniform(0, 5))
    assert first.machine.snapshot(world.time.now)
