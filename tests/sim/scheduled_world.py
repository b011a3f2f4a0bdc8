# SPDX-License-Identifier: Apache-2.0
"""Whole nodes on a contact schedule: the real agents and stores, with links that come and go as a scenario says.

One-way links, outages and mobility are the scenario's (scenario.py, mobility.py). The oracle watches as in every
simulation. After the day there is peace, in which all nodes reach each other: what was accepted has to arrive then.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.node.commands import DeliverMessage
from meshd.routing.contact import Contact
from meshd.routing.decision import Router
from tests.sim.contact_line import ContactBearer, ContactLine
from tests.sim.fake_disk import FakeDisk
from tests.sim.oracle import Oracle
from tests.sim.scenario import DAY_S, Load, Scenario
from tests.sim.sim_node import PART_SIZE_BYTES, UTC_OFFSET_MS, SimNode
from tests.sim.virtual_time import VirtualTime

PEACE_S: Final = 4000.0
PEACE_BPS: Final = 1_000_000
QUOTA_BYTES: Final = 10**8
SIZES: Final = (50, 700, 1200, 1600)
"""Of messages: each is one bundle, so that a day of many nodes stays quick; scenarios have slow links for them."""
RouterMaker = Callable[[Eid, tuple[Contact, ...]], Router]
"""Makes a node's router from its node ID and the plan, whose times are DTN time."""


class DelayOracle(Oracle):
    """Also notes when each message was first offered."""

    def __init__(self, rng: random.Random, time: VirtualTime) -> None:
        super().__init__(rng, PART_SIZE_BYTES)
        self._time = time
        self.sizes = SIZES
        self.offered_s: dict[int, float] = {}
        """By number of the message: virtual time."""

    def offered(self, node: Eid, message: DeliverMessage, content: bytes) -> None:
        """A message is offered to its application."""
        super().offered(node, message, content)
        self.offered_s.setdefault(int.from_bytes(content[:4]), self._time.now)


class ScheduledWorld:
    """One day of whole nodes."""

    def __init__(self, seed: int, scenario: Scenario, make_router: RouterMaker) -> None:
        self._rng = random.Random(seed)
        self.time = VirtualTime()
        self.begin_s = self.time.now
        self.oracle = DelayOracle(self._rng, self.time)
        self.oracle.nodes = list(scenario.nodes)
        self._scenario = scenario
        plan = tuple(self._in_dtn_time(contact) for contact in scenario.plan)
        self.nodes = {
            node: SimNode(
                node,
                self.time,
                self._rng,
                self.oracle,
                FakeDisk(self._rng),
                QUOTA_BYTES,
                make_router=partial(make_router, node, plan),
            )
            for node in scenario.nodes
        }
        self._lines: dict[tuple[str, frozenset[Eid]], ContactLine] = {}
        self._plug_in()

    def run(self, *, crashes: int = 0) -> DelayOracle:
        """The day, then peace; AssertionError when the oracle is not content."""
        for node in self.nodes.values():
            node.start()
        for contact in self._scenario.actual:
            line = self._line(contact)
            self.time.call_at(self.begin_s + contact.start_s, partial(line.open, contact))
            self.time.call_at(self.begin_s + contact.end_s, partial(line.close, contact))
        for load in self._scenario.loads:
            self.time.call_at(self.begin_s + load.created_s, partial(self._send, load))
        for _ in range(crashes):
            node = self._rng.choice(list(self.nodes.values()))
            self.time.call_later(self._rng.uniform(0, DAY_S), node.crash)
        self.time.run_until(self.begin_s + DAY_S)
        for line in self._lines.values():
            first, second = (self.nodes[node].id for node in sorted(line.ends, key=str))
            there = Contact(first, second, line.name, 0.0, DAY_S, PEACE_BPS, 0.01)
            line.open(there)
            line.open(structs.replace(there, sender=second, receiver=first))
        self.time.run_until(self.time.now + PEACE_S, self.oracle.is_satisfied)
        assert not self.oracle.missing(), f"accepted, never delivered: {self.oracle.missing()}"
        assert not self.oracle.unreported(), f"delivered, sender never told: {self.oracle.unreported()}"
        return self.oracle

    def delivered_by_day(self) -> float:
        """Share of the messages that were delivered before peace."""
        times = self.oracle.offered_s.values()
        return sum(at < self.begin_s + DAY_S for at in times) / len(self._scenario.loads)

    def _plug_in(self) -> None:
        """A bearer for each pair and kind: a line has two ends."""
        nodes = self._scenario.nodes
        pairs = {
            frozenset(pair) for index, first in enumerate(nodes) for pair in ((first, each) for each in nodes[:index])
        }
        met = {(contact.bearer, frozenset((contact.sender, contact.receiver))) for contact in self._scenario.plan}
        met |= {("lan0", pair) for pair in pairs - {pair for _, pair in met}}
        for bearer, pair in sorted(met, key=lambda each: (each[0], sorted(map(str, each[1])))):
            first, second = sorted(pair, key=str)
            line = self._lines[bearer, pair] = ContactLine(line_name(bearer, first, second), self.time)
            self.nodes[first].plug(line, second, ContactBearer)
            self.nodes[second].plug(line, first, ContactBearer)

    def _line(self, contact: Contact) -> ContactLine:
        return self._lines[contact.bearer, frozenset((contact.sender, contact.receiver))]

    def _in_dtn_time(self, contact: Contact) -> Contact:
        shift_s = self.begin_s + UTC_OFFSET_MS / 1000
        return structs.replace(
            contact,
            bearer=line_name(contact.bearer, contact.sender, contact.receiver),
            start_s=contact.start_s + shift_s,
            end_s=contact.end_s + shift_s,
        )

    def _send(self, load: Load) -> None:
        node = self.nodes[load.source]
        if node.is_alive:
            self.oracle.wish(node, Eid(f"{load.destination.uri}inbox"))


def line_name(bearer: str, first: Eid, second: Eid) -> str:
    """The bearer of one pair, the same at both ends."""
    return "-".join((bearer, *sorted(node.uri[6:-1] for node in (first, second))))
