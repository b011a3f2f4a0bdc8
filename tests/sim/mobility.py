# SPDX-License-Identifier: Apache-2.0
"""Mobility: nodes that drive from place to place, and the contacts that radio range makes of it.

Random waypoint: each node drives straight to a place, stays, drives on. Two nodes are in contact while they are within
range of both; a node that hears further than the other makes a one-way link. Positions are looked at every few
seconds, which is as exact as a contact plan has to be.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from tests.sim.scenario import DAY_S, order

STEP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Terrain:
    """Where they drive."""

    side_m: float = 30_000.0
    speed_m_s: tuple[float, float] = (3.0, 15.0)
    stay_s: tuple[float, float] = (600.0, 7200.0)
    range_m: tuple[float, float] = (6_000.0, 9_000.0)
    """Each node's transmitter reaches a distance of its own."""
    rate_bps: int = 128_000
    owd_s: float = 0.01


def track(rng: random.Random, terrain: Terrain, end_s: float) -> Iterator[tuple[float, float]]:
    """Where one node is, step by step."""
    x, y = rng.uniform(0, terrain.side_m), rng.uniform(0, terrain.side_m)
    at = 0.0
    while at < end_s:
        goal_x, goal_y = rng.uniform(0, terrain.side_m), rng.uniform(0, terrain.side_m)
        drive_s = math.dist((x, y), (goal_x, goal_y)) / rng.uniform(*terrain.speed_m_s)
        steps = max(1, round(drive_s / STEP_S))
        for step in range(1, steps + 1):
            yield x + (goal_x - x) * step / steps, y + (goal_y - y) * step / steps
        x, y = goal_x, goal_y
        rests = round(rng.uniform(*terrain.stay_s) / STEP_S)
        for _ in range(rests):
            yield x, y
        at += (steps + rests) * STEP_S


def moving_contacts(
    rng: random.Random, nodes: Sequence[Eid], terrain: Terrain, end_s: float = DAY_S
) -> tuple[Contact, ...]:
    """The contacts of nodes that move, sorted by start."""
    ranges_m = {node: rng.uniform(*terrain.range_m) for node in nodes}
    tracks = [track(rng, terrain, end_s) for _ in nodes]
    pairs = [(first, second) for first in range(len(nodes)) for second in range(len(nodes)) if first != second]
    since: dict[tuple[int, int], float] = {}
    contacts: list[Contact] = []

    def finish(pair: tuple[int, int], at: float) -> None:
        first, second = pair
        start_s = since.pop(pair)
        contacts.append(Contact(nodes[first], nodes[second], "los0", start_s, at, terrain.rate_bps, terrain.owd_s))

    steps = int(end_s / STEP_S)
    for step in range(steps):
        at = step * STEP_S
        places = [next(each) for each in tracks]
        for pair in pairs:
            first, second = pair
            is_near = math.dist(places[first], places[second]) <= ranges_m[nodes[first]]
            if is_near and pair not in since:
                since[pair] = at
            elif not is_near and pair in since:
                finish(pair, at)
    for pair in list(since):
        finish(pair, steps * STEP_S)
    return tuple(sorted(contacts, key=order))
