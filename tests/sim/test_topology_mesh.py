# SPDX-License-Identifier: Apache-2.0
"""Seven nodes learn the whole topology from each other's advertisements, follow what changes, and are quiet else."""

import pytest

from meshd.routing.announcer import HOLD_DOWN_MIN_S, REFRESH_S
from tests.sim.topology_mesh import TopologyMesh

NAMES = ("dpop1", "dpop2", "dpop3", "dpop4", "dpop5", "dpop6", "home")
RING = [(number, (number + 1) % 7) for number in range(7)]
NET = [(first, second) for second in range(7) for first in range(second)]


def test_a_line_of_seven_converges_within_seconds_and_follows_a_loss() -> None:
    mesh = TopologyMesh(NAMES, RING[:-1])
    mesh.set_all(up=True)
    mesh.time.run_until(mesh.time.now + 5)
    assert mesh.wrong() == []
    end, beside, second, third = list(mesh.nodes)[:4]
    mesh.time.run_until(mesh.time.now + 60)
    mesh.set(second, third, up=False)
    mesh.time.run_until(mesh.time.now + HOLD_DOWN_MIN_S)
    left, right = mesh.nodes[second].known, mesh.nodes[third].known
    assert second in left[third], "nobody could tell it any more"
    assert left == {**left, beside: {end, second}}
    assert third in right[second]
    mesh.set(second, third, up=True)
    mesh.time.run_until(mesh.time.now + 2 * HOLD_DOWN_MIN_S)
    assert mesh.wrong() == []


def test_a_ring_hears_of_a_loss_the_other_way_round() -> None:
    mesh = TopologyMesh(NAMES, RING)
    mesh.set_all(up=True)
    mesh.time.run_until(mesh.time.now + 60)
    mesh.set(*list(mesh.nodes)[2:4], up=False)
    mesh.time.run_until(mesh.time.now + 3)
    assert mesh.wrong() == []


def test_who_comes_an_hour_later_knows_all_within_a_round_trip() -> None:
    mesh = TopologyMesh(NAMES, RING[:-1])
    late = list(mesh.nodes)[-1]
    mesh.set_all(up=True, but=late)
    mesh.time.run_until(mesh.time.now + 3600)
    mesh.set(list(mesh.nodes)[-2], late, up=True)
    mesh.time.run_until(mesh.time.now + 0.2)
    assert set(mesh.nodes[late].known) == set(list(mesh.nodes)[:-1])
    mesh.time.run_until(mesh.time.now + 10)
    assert mesh.wrong() == []


def test_idle_costs_next_to_nothing() -> None:
    mesh = TopologyMesh(NAMES, NET)
    mesh.set_all(up=True)
    mesh.time.run_until(mesh.time.now + 60)
    before = [(node.sent_bundles, node.sent_bytes) for node in mesh.nodes.values()]
    hours = 12
    mesh.time.run_until(mesh.time.now + hours * 3600)
    assert mesh.wrong() == []
    for node, (bundles, size_bytes) in zip(mesh.nodes.values(), before, strict=True):
        own = hours * 3600 / REFRESH_S / 0.9
        assert node.sent_bundles - bundles <= 6 * own + 6, "a copy to each neighbour, and nobody passes it on"
        assert (node.sent_bytes - size_bytes) / (hours * 60) < 100


@pytest.mark.parametrize("flaps", [100])
def test_a_link_that_comes_and_goes_is_told_of_ever_less_often(flaps: int) -> None:
    mesh = TopologyMesh(NAMES, RING)
    mesh.set_all(up=True)
    mesh.time.run_until(mesh.time.now + 60)
    first, second = list(mesh.nodes)[:2]
    before = mesh.nodes[first].agent.advertising.topology.get(first)
    for _ in range(flaps):
        for up in (False, True):
            mesh.set(first, second, up=up)
            mesh.time.run_until(mesh.time.now + 15)
    after = mesh.nodes[first].agent.advertising.topology.get(first)
    assert before is not None
    assert after is not None
    assert 3 <= after.sequence - before.sequence <= 12
    mesh.time.run_until(mesh.time.now + 700)
    assert mesh.wrong() == []
