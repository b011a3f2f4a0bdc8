# SPDX-License-Identifier: Apache-2.0
"""What every row of the fountain table begins with: two nodes or more, a queue that never runs dry, a line to print."""

import random
import sys
from typing import Any, Final

from tests.sim.fountain_world import World, independent

MIB: Final = 1024 * 1024
BUNDLE_HEAD_BYTES: Final = 110
"""About what primary and extension blocks add to a payload."""
ROUTINE, FLASH = 1, 4
PREPARE_S: Final = 3.0


class Bulk:
    """A queue that never runs dry: bundles of one size, handed over as far as there is credit."""

    def __init__(self, world: World, payload_bytes: int, count: int) -> None:
        """From node 0 to node 1."""
        self._node, self._to = world.nodes[:2]
        self._payload_bytes = payload_bytes
        self.left = count
        self.all: list[bytes] = []

    def feed(self) -> None:
        """Hand over what is welcome."""
        world = self._node.world
        peer = self._to.settings.node
        while self.left and peer in self._node.up and self._node.machine.credit_bytes(peer) > 0:
            self.left -= 1
            data = world.rng.randbytes(self._payload_bytes + BUNDLE_HEAD_BYTES)
            self.all.append(data)
            self._node.send(peer, len(self.all), data, ROUTINE)
        if self.left:
            world.time.call_later(0.02, self.feed)

    @property
    def done(self) -> list[float]:
        """When each was durable, those that are."""
        return sorted(self._to.received[data] for data in self.all if data in self._to.received)

    @property
    def is_complete(self) -> bool:
        """True when all have arrived."""
        return not self.left and len(self._to.received) == len(self.all)


def make(seed: int, loss: float, count: int = 2, **settings: Any) -> World:
    """A world whose nodes have heard each other."""
    world = World(seed, count, **settings)
    world.losses = {
        (a, b): independent(random.Random(f"{seed} {a} {b}"), loss) for a in range(count) for b in range(count)
    }
    return world


def begin(world: World) -> float:
    """Let the nodes hear each other."""
    world.build()
    world.time.run_until(world.time.now + PREPARE_S)
    return world.time.now


def show(row: str, figure: float, wanted: float, *, at_most: bool = False) -> None:
    """Print one line."""
    is_good = figure <= wanted if at_most else figure >= wanted
    sign = "<=" if at_most else ">="
    sys.stdout.write(f"{row:58} {figure:9.3f}  {sign} {wanted:8.3f}  {'ok' if is_good else 'MISSED'}\n")
    sys.stdout.flush()
