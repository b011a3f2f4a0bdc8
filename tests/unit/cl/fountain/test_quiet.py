# SPDX-License-Identifier: Apache-2.0
"""Leaving silence, and breaking it: what leaves when, what leaves first, and what does not leave at all."""

import random

import pytest

from meshd.cl.fountain.breach import Breach
from meshd.cl.fountain.datagram import SEAL_BYTES
from meshd.cl.fountain.events import Datagram
from meshd.cl.fountain.frame_codec import parse_frames_untrusted
from meshd.cl.fountain.frames import Ack, Frame, Group, Symbol
from meshd.cl.fountain.quiet import HOLD_OFF_S, Quiet
from tests.sim.fountain_world import Node, World
from tests.unit.cl.fountain.test_machine import FLASH, ROUTINE, begin, make, run


def watch(world: World, node: Node) -> list[tuple[float, int, list[Frame]]]:
    """Time, size in the air and frames of every datagram that the node sends from now on."""
    seen: list[tuple[float, int, list[Frame]]] = []
    transmit = world.transmit

    def look(sender: Node, datagram: Datagram) -> None:
        if sender is node:
            frames = list(parse_frames_untrusted(datagram.data[12:-16]))
            seen.append((world.time.now, len(datagram.data) + node.settings.header_bytes - SEAL_BYTES, frames))
        transmit(sender, datagram)

    world.__dict__["transmit"] = look
    return seen


def fall_silent(world: World, node: Node) -> None:
    """As on order, with an announcement."""
    node.machine.announce_silence(0)
    node.pump()
    node.machine.freeze()
    run(world, 1)


def test_a_hold_off_is_random_and_bounded() -> None:
    quiet = Quiet(random.Random(1), 0, is_for_ever=False)
    held = [quiet.thaw(100.0) - 100.0 for _ in range(200)]
    assert 0 <= min(held) < 0.1 * HOLD_OFF_S
    assert 0.9 * HOLD_OFF_S < max(held) <= HOLD_OFF_S
    assert quiet.holds(quiet.until - 0.001)
    assert not quiet.holds(quiet.until)


def test_a_node_that_can_not_send_never_does() -> None:
    quiet = Quiet(random.Random(1), 4096, is_for_ever=True)
    quiet.thaw(100.0)
    assert quiet.holds(1000.0)


@pytest.mark.parametrize("seed", range(4))
def test_after_a_silence_nothing_leaves_before_the_hold_off_and_then_the_urgent_first(seed: int) -> None:
    world = make(seed=seed, emcon_rtc=0)
    first, second = begin(world)
    fall_silent(world, second)
    for number in range(6):
        first.send(second.settings.node, number, world.rng.randbytes(3000))
    run(world, 5)
    own = {precedence: world.rng.randbytes(4000) for precedence in (0, ROUTINE, 2, 3, FLASH, 5)}
    for precedence, data in own.items():
        second.send(first.settings.node, f"own {precedence}", data, precedence)
    seen = watch(world, second)
    second.machine.thaw(world.time.now)
    second.pump()
    run(world, 10)
    assert seen[0][0] >= second.machine._quiet.until
    assert any(isinstance(frame, Ack) for frame in seen[0][2]), "what was put off comes first, in one datagram"
    times = [first.received[own[precedence]] for precedence in sorted(own, reverse=True)]
    assert times == sorted(times), "then the rest, the urgent first"
    assert len(first.acknowledged) == 6


def test_acknowledgements_that_were_put_off_keep_to_their_budget_and_the_urgent_are_told_first() -> None:
    budget = 3000
    world = make(emcon_rtc=0, ack_budget_bytes=budget, feedback_share=0.01)
    first, second = begin(world)
    fall_silent(world, second)
    for number in range(240):
        precedence = FLASH if number % 8 == 7 else ROUTINE
        first.send(second.settings.node, number, world.rng.randbytes(2000), precedence)
        run(world, 0.05)
    run(world, 10)
    kinds = {item.object_id: item.precedence for item in second.machine._peers[0].receiver._answered.values()}
    assert len(kinds) >= 240
    seen = watch(world, second)
    second.machine.thaw(world.time.now)
    second.pump()
    run(world, 30)
    reports = [(at, size, frames) for at, size, frames in seen if any(isinstance(each, Ack) for each in frames)]
    at_once = [size for at, size, _ in reports if at < reports[0][0] + 0.5]
    rate_bytes_per_s = 2_000_000 * 0.01 / 8
    assert budget / 2 < sum(at_once) <= budget + 1500 + 0.5 * rate_bytes_per_s
    told = [row.object_id for _, _, frames in reports for each in frames if isinstance(each, Ack) for row in each.rows]
    urgent = [place for place, each in enumerate(dict.fromkeys(told)) if kinds[each] == FLASH]
    assert urgent == list(range(len(urgent))), "FLASH first"
    assert len(urgent) == 30
    assert len(first.acknowledged) == 240, "the rest is told at the pace of reports"


def silent_with_bundles() -> tuple[World, Node, Node, dict[str, bytes]]:
    """The first node is silent; two FLASH and two ROUTINE bundles wait there."""
    world = make()
    first, second = begin(world)
    first.machine.freeze()
    bundles = {name: world.rng.randbytes(20_000) for name in ("flash 1", "flash 2", "routine 1", "routine 2")}
    for name, data in bundles.items():
        first.send(second.settings.node, name, data, FLASH if "flash" in name else ROUTINE)
    return world, first, second, bundles


def test_what_is_urgent_and_nothing_else_leaves_while_silence_is_broken() -> None:
    world, first, second, bundles = silent_with_bundles()
    second.send(first.settings.node, "to be acknowledged", bytes(100), FLASH)
    seen = watch(world, first)
    run(world, 200)
    assert not seen
    first.machine.break_silence(Breach(FLASH))
    first.pump()
    run(world, 200)
    assert {name for name, data in bundles.items() if data in second.received} == {"flash 1", "flash 2"}
    assert all(isinstance(frame, Symbol | Group) for _, _, frames in seen for frame in frames), "no beacon, no report"
    assert {name for _, name in first.acknowledged} == {"flash 1", "flash 2"}, "answers are listened to"
    count = len(seen)
    first.machine.freeze()
    first.send(second.settings.node, "flash 3", bytes(1000), FLASH)
    run(world, 10)
    assert len(seen) == count, "silent again"
    first.machine.thaw(world.time.now)
    first.pump()
    run(world, 10)
    assert len(second.received) == 5


def test_one_bundle_alone_overtakes_all_that_wait() -> None:
    world, first, second, bundles = silent_with_bundles()
    first.machine.break_silence(Breach(FLASH, "flash 2"))
    first.pump()
    run(world, 10)
    assert {name for name, data in bundles.items() if data in second.received} == {"flash 2"}


def test_one_bundle_that_is_not_urgent_stays() -> None:
    world, first, second, _ = silent_with_bundles()
    first.machine.break_silence(Breach(FLASH, "routine 1"))
    first.pump()
    run(world, 10)
    assert not second.received


def test_a_large_one_under_way_goes_on_where_it_stopped() -> None:
    world = make(0.2)
    first, second = begin(world)
    data = world.rng.randbytes(1_000_000)
    first.send(second.settings.node, "large", data, FLASH)
    run(world, 1)
    first.machine.freeze()
    run(world, 5)
    sent = first.machine._sender.symbols_sent
    first.machine.break_silence(Breach(FLASH, "large"))
    first.pump()
    run(world, 20)
    assert data in second.received
    assert first.machine._sender.symbols_sent - sent < 1_000_000 / 1200 * 1.4
