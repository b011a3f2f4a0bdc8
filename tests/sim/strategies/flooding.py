# SPDX-License-Identifier: Apache-2.0
"""Strategies that know no plan: epidemic, binary Spray-and-Wait and PRoPHET (RFC 6693).

When two nodes meet each knows what the other has had. PRoPHET's forwarding strategy is GRTR with copies kept (section
3.6 of its RFC).
"""

from typing import Final

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from meshd.routing.prophet import Predictabilities
from tests.sim.scenario import Load, Scenario
from tests.sim.strategies.carrier import Carrier

COPIES: Final = 3


class Epidemic(Carrier):
    """Everything to everybody."""

    def __init__(self, node: Eid, scenario: Scenario) -> None:
        super().__init__(node, scenario.buffer_bytes)

    def wants(self, load: Load, contact: Contact, peer: Carrier) -> bool:
        """The peer has never had it."""
        return True

    def passed_on(self, load: Load, contact: Contact) -> None:
        """Keep it."""


class SprayAndWait(Carrier):
    """Half of the copies to whoever has none; the last one waits for the destination."""

    def __init__(self, node: Eid, scenario: Scenario) -> None:
        super().__init__(node, scenario.buffer_bytes)
        self.copies: dict[int, int] = {}

    def take(self, load: Load, contact: Contact | None, now: float) -> bool:
        """A bundle made here has all copies."""
        self.copies.setdefault(load.number, COPIES if contact is None else 1)
        return super().take(load, contact, now)

    def wants(self, load: Load, contact: Contact, peer: Carrier) -> bool:
        """There is a copy to give away."""
        return self.copies[load.number] > 1

    def passed_on(self, load: Load, contact: Contact) -> None:
        """Half of them are there now: of 3 or 2 that is one, which `take` has given it."""
        self.copies[load.number] -= self.copies[load.number] // 2


class Prophet(Carrier):
    """A copy to whoever is likelier to meet the destination."""

    def __init__(self, node: Eid, scenario: Scenario) -> None:
        super().__init__(node, scenario.buffer_bytes)
        self.predictabilities = Predictabilities(node)

    def met(self, peer: Carrier, now: float) -> None:
        """Both learn, when the contact from here begins."""
        assert isinstance(peer, Prophet), "all nodes of a mesh have the same strategy"
        self.predictabilities.met(peer.node, now)
        self.predictabilities.learn(peer.node, peer.predictabilities.table(now), now)

    def wants(self, load: Load, contact: Contact, peer: Carrier) -> bool:
        """GRTR."""
        assert isinstance(peer, Prophet), "all nodes of a mesh have the same strategy"
        there = peer.predictabilities.of(load.destination, contact.end_s)
        return there > self.predictabilities.of(load.destination, contact.end_s)

    def passed_on(self, load: Load, contact: Contact) -> None:
        """Keep it."""
