# SPDX-License-Identifier: Apache-2.0
"""A mesh of contacts and bundles alone: what a routing strategy is worth, without the cost of whole nodes.

A contact carries one bundle at a time, at its rate; the bundle is there one-way delay later, or nowhere when the
contact ends first. A strategy is one object for each node, which only knows what that node could know; what nodes tell
each other about their bundles when they meet costs nothing here, which favours the strategies that flood. The receiver
of a bundle keeps it within its buffer. Whole nodes: world.py.
"""

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median, quantiles
from typing import Final, Protocol

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from tests.sim.scenario import Load, Scenario
from tests.sim.virtual_time import VirtualTime

NEVER: Final = float("inf")


class Strategy(Protocol):
    """The routing of one node."""

    def begins(self, contact: Contact, peer: "Strategy", now: float) -> None:
        """A contact from this node begins; the peer's strategy may be asked what it has."""

    def ends(self, contact: Contact, now: float) -> None:
        """It is over."""

    def take(self, load: Load, contact: Contact | None, now: float) -> bool:
        """A bundle made here, or brought by a contact: it may be kept. False: the sender has to keep it."""

    def next_for(self, contact: Contact, now: float) -> Load | None:
        """What to send now."""

    def sent(self, contact: Contact, load: Load, now: float) -> None:
        """The other end has it."""

    def failed(self, contact: Contact, load: Load, now: float) -> None:
        """The contact ended first."""

    def refused(self, contact: Contact, load: Load, now: float) -> None:
        """The other end did not take it."""

    def holds(self, load: Load) -> bool:
        """It is still here."""

    def get_timer(self) -> float | None:
        """When it wants to be asked again."""

    def handle_timer(self, now: float) -> None:
        """It is that time."""


class Mesh:
    """One simulation."""

    def __init__(self, scenario: Scenario, make: Callable[[Eid], Strategy]) -> None:
        self.scenario = scenario
        self.time = VirtualTime()
        self.time.now = 0.0
        self.strategies = {node: make(node) for node in scenario.nodes}
        self.delivered_s: dict[int, float] = {}
        self.copies = [1] * len(scenario.loads)
        self.transmissions = 0
        self._open: dict[Eid, dict[Contact, bool]] = {node: {} for node in scenario.nodes}
        self._timers: dict[Eid, float] = {}

    def run(self) -> "Figures":
        """The whole day, and until the last bundle has expired."""
        for contact in self.scenario.actual:
            self.time.call_at(contact.start_s, partial(self._begin, contact))
            self.time.call_at(contact.end_s, partial(self._end, contact))
        for load in self.scenario.loads:
            self.time.call_at(load.created_s, partial(self._arrive, load, load.source, None))
        self.time.run_until(max(load.expiry_s for load in self.scenario.loads) + 1)
        return Figures(self.scenario, self.delivered_s, sum(self.copies) / len(self.copies), max(self.copies))

    def _begin(self, contact: Contact) -> None:
        self._open[contact.sender][contact] = False
        self.strategies[contact.sender].begins(contact, self.strategies[contact.receiver], self.time.now)
        self._kick(contact.sender)

    def _end(self, contact: Contact) -> None:
        del self._open[contact.sender][contact]
        self.strategies[contact.sender].ends(contact, self.time.now)
        self._kick(contact.sender)

    def _arrive(self, load: Load, node: Eid, contact: Contact | None) -> None:
        now, is_taken = self.time.now, True
        if node == load.destination:
            if now <= load.expiry_s:
                self.delivered_s.setdefault(load.number, now)
        else:
            is_taken = self.strategies[node].take(load, contact, now)
        if contact is not None:
            strategy = self.strategies[contact.sender]
            if is_taken:
                strategy.sent(contact, load, now)
                self.copies[load.number] += strategy.holds(load)
            else:
                strategy.refused(contact, load, now)
            self._kick(contact.sender)
        self._kick(node)

    def _kick(self, node: Eid) -> None:
        """Have every idle contact of this node send."""
        strategy, now = self.strategies[node], self.time.now
        for contact, is_busy in list(self._open[node].items()):
            if not is_busy and (load := strategy.next_for(contact, now)) is not None:
                self._send(contact, load)
        self._arm(node)

    def _send(self, contact: Contact, load: Load) -> None:
        self.transmissions += 1
        self._open[contact.sender][contact] = True
        done = self.time.now + load.size_bytes * 8 / contact.rate_bps
        if done > contact.end_s:
            self.time.call_at(contact.end_s, partial(self._lose, contact, load))
            return
        self.time.call_at(done, partial(self._free, contact))
        self.time.call_at(done + contact.owd_s, partial(self._arrive, load, contact.receiver, contact))

    def _lose(self, contact: Contact, load: Load) -> None:
        self.strategies[contact.sender].failed(contact, load, self.time.now)
        self._kick(contact.sender)

    def _free(self, contact: Contact) -> None:
        if contact in self._open[contact.sender]:
            self._open[contact.sender][contact] = False
            self._kick(contact.sender)

    def _arm(self, node: Eid) -> None:
        at = self.strategies[node].get_timer()
        if at is not None and not self.time.now < self._timers.get(node, 0.0) <= at:
            self._timers[node] = at
            self.time.call_at(at, partial(self._fire, node))

    def _fire(self, node: Eid) -> None:
        self.strategies[node].handle_timer(self.time.now)
        self._kick(node)


class Figures:
    """What came of it."""

    def __init__(self, scenario: Scenario, delivered_s: Mapping[int, float], copies: float, copies_max: int) -> None:
        self.copies = copies
        self.copies_max = copies_max
        loads = scenario.loads
        self.delays_s = {number: at - loads[number].created_s for number, at in delivered_s.items()}
        self.ratio = len(self.delays_s) / len(loads)
        ordered = sorted([*self.delays_s.values(), *[NEVER] * (len(loads) - len(self.delays_s))])
        self.median_s = median(self.delays_s.values()) if self.delays_s else NEVER
        self.p95_s = quantiles(self.delays_s.values(), n=20)[-1] if len(self.delays_s) > 1 else NEVER
        self.median_of_all_s = ordered[len(ordered) // 2]
        """With those that never arrived at the end: a strategy cannot win by losing the slow ones."""
