# SPDX-License-Identifier: Apache-2.0
"""Static CGR: routes over the plan alone, booked in the source's own view, and nothing learned of outages.

Each node computes a bundle's route when it gets it, and sends it over the next contact of that route; when that one is
over without having carried it, the route is computed anew from the plan. One copy.
"""

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from tests.sim.scenario import Load, Scenario
from tests.sim.strategies.carrier import Carrier
from tests.sim.strategies.earliest import Bookings


class StaticCgr(Carrier):
    """One node of it."""

    def __init__(self, node: Eid, scenario: Scenario) -> None:
        super().__init__(node, scenario.buffer_bytes)
        self._bookings = Bookings(scenario.plan)
        self._next: dict[int, Contact] = {}

    def take(self, load: Load, contact: Contact | None, now: float) -> bool:
        """Compute its route."""
        is_taken = super().take(load, contact, now)
        if load.number in self.loads:
            self._plan(load, now)
        return is_taken

    def next_for(self, contact: Contact, now: float) -> Load | None:
        """First plan anew what missed its contact."""
        for load in self.loads.values():
            planned = self._next.get(load.number)
            if planned is not None and planned.end_s <= now:
                self._plan(load, now)
        return super().next_for(contact, now)

    def wants(self, load: Load, contact: Contact, peer: Carrier) -> bool:
        """As planned."""
        planned = self._next.get(load.number)
        return planned is not None and planned.start_s == contact.start_s and planned.receiver == contact.receiver

    def passed_on(self, load: Load, contact: Contact) -> None:
        """One copy."""
        self.drop(load)

    def _plan(self, load: Load, now: float) -> None:
        hops = self._bookings.route(load, self.node, now)
        self._bookings.book(hops)
        if hops:
            self._next[load.number] = hops[0].contact
        else:
            self._next.pop(load.number, None)
