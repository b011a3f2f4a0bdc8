# SPDX-License-Identifier: Apache-2.0
"""A simulated mesh: three nodes in a triangle, trouble for a while, then peace, and the oracle's verdict.

Everything follows from the seed: run the same seed again and the same happens, to the last byte.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Final

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.eid import Eid
from tests.sim.fake_disk import FakeDisk
from tests.sim.oracle import GROUP, Oracle
from tests.sim.sim_link import Wire
from tests.sim.sim_node import PART_SIZE_BYTES, SimNode
from tests.sim.virtual_time import VirtualTime

NARROW_BYTES: Final = 1100
"""Transfer limit of the satellite link in half of the worlds."""
LITTLE_MEMORY_BYTES: Final = 400
"""In a third of the worlds a larger bundle is never whole in memory: it goes to the store in pieces of this size."""
TROUBLE_S: Final = 60.0
PEACE_S: Final = 2000.0
NODES: Final = (Eid("dtn://dpop1/"), Eid("dtn://dpop2/"), Eid("dtn://home/"))
GROUP_SHARE: Final = 0.2
"""Of the messages go to a group that all nodes are members of."""
DiskMaker = Callable[[random.Random], FakeDisk]


class World:
    """One simulation of one seed."""

    def __init__(self, seed: int, make_disk: DiskMaker = FakeDisk) -> None:
        self._rng = random.Random(seed)
        self.time = VirtualTime()
        self.oracle = Oracle(self._rng, PART_SIZE_BYTES)
        self.oracle.nodes = list(NODES)
        quota_bytes = self._rng.choice((100_000, 10**7))
        inline_max_bytes = self._rng.choice((LITTLE_MEMORY_BYTES, INLINE_SIZE_MAX_BYTES, INLINE_SIZE_MAX_BYTES))
        self.nodes = [
            SimNode(node, self.time, self._rng, self.oracle, make_disk(self._rng), quota_bytes, inline_max_bytes)
            for node in NODES
        ]
        dpop1, dpop2, home = self.nodes
        self.wires = [
            self._wire("satcom0", dpop1, home, 0.3),
            self._wire("los0", dpop1, dpop2, 0.015),
            self._wire("lan0", dpop2, home, 0.005),
        ]
        for wire in self.wires:
            wire.inline_max_bytes = inline_max_bytes
        if self._rng.random() < 0.5:
            self.wires[0].transfer_mru_bytes = NARROW_BYTES
        for node, destination, via in (
            (dpop1, home, dpop2),
            (home, dpop1, dpop2),
            (dpop2, home, dpop1),
            (dpop2, dpop1, home),
        ):
            node.route(destination.id, via.id)

    def run(self) -> Oracle:
        """Trouble, then peace; AssertionError when the oracle is not content."""
        for node in self.nodes:
            node.start()
        for wire in self.wires:
            wire.dial()
        self._plan_messages()
        self._plan_trouble()
        end = self.time.now + TROUBLE_S
        self.time.run_until(end)
        for wire in self.wires:
            wire.restore()
        for node in self.nodes:
            node.disk.power_cut_in = 0
        self.time.run_until(end + PEACE_S, self.oracle.is_satisfied)
        assert not self.oracle.missing(), f"accepted, never delivered: {self.oracle.missing()}"
        assert not self.oracle.unreported(), f"delivered, sender never told: {self.oracle.unreported()}"
        return self.oracle

    def _wire(self, name: str, first: SimNode, second: SimNode, delay_s: float) -> Wire:
        wire = Wire(name, self.time, self._rng, delay_s)
        first.plug(wire, second.id)
        second.plug(wire, first.id)
        return wire

    def _plan_messages(self) -> None:
        for _ in range(self._rng.randint(5, 25)):
            node, other = self._rng.sample(self.nodes, 2)
            self.time.call_later(self._rng.uniform(0.5, TROUBLE_S - 5), partial(self._send, node, other))

    def _send(self, node: SimNode, other: SimNode) -> None:
        if node.is_alive:
            to_all = self._rng.random() < GROUP_SHARE
            self.oracle.wish(node, GROUP if to_all else Eid(f"{other.id.uri}inbox"))

    def _plan_trouble(self) -> None:
        rng = self._rng
        for _ in range(rng.randint(0, 6)):
            wire, start_s = rng.choice(self.wires), rng.uniform(0, TROUBLE_S)
            self.time.call_later(start_s, wire.cut)
            self.time.call_later(start_s + rng.uniform(0.1, 30.0), wire.restore)
        for _ in range(rng.randint(0, 6)):
            self.time.call_later(rng.uniform(0, TROUBLE_S), rng.choice(self.wires).reset)
        for _ in range(rng.randint(0, 5)):
            self.time.call_later(rng.uniform(0, TROUBLE_S), rng.choice(self.nodes).crash)
        for _ in range(rng.randint(0, 3)):
            node, writes = rng.choice(self.nodes), rng.randint(1, 6)
            self.time.call_later(rng.uniform(0, TROUBLE_S), partial(self._cut_power, node, writes))

    def _cut_power(self, node: SimNode, writes: int) -> None:
        """Power fails in the middle of one of its next writes."""
        if node.is_alive:
            node.disk.power_cut_in = writes
