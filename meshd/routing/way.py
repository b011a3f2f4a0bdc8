# SPDX-License-Identifier: Apache-2.0
"""A way that a bundle can take at this moment: a route, its arithmetic for this bundle, and the links that begin it."""

import math
from typing import NamedTuple

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.routing.contact import Contact
from meshd.routing.route import Leg


class Way(NamedTuple):
    """Hop by hop."""

    legs: tuple[Leg, ...]
    links: tuple[LinkId, ...]
    """Links to the neighbour that can be used now, best first; none: its contact has yet to begin."""
    level: float
    """Every contact of it is at least so sure."""

    @property
    def neighbour(self) -> Eid:
        """The next node."""
        return self.legs[0].contact.receiver

    @property
    def is_now(self) -> bool:
        """Whether it begins with a link that is up."""
        return bool(self.links)

    @property
    def arrival_s(self) -> float:
        """DTN time at which the bundle is at its destination."""
        return self.legs[-1].arrival_s

    @property
    def confidence(self) -> float:
        """Probability that all of its contacts take place."""
        return math.prod(leg.contact.confidence for leg in self.legs)

    @property
    def expected_s(self) -> float:
        """Seconds by which it is compared with others: the less sure it is, the longer it counts."""
        return (self.arrival_s - self.legs[0].ready_s) / math.sqrt(self.confidence)

    @property
    def hops(self) -> tuple[Contact, ...]:
        """Its contacts."""
        return tuple(leg.contact for leg in self.legs)

    @property
    def is_delayed(self) -> bool:
        """Whether something goes before the bundle on the way."""
        return any(leg.booked_bytes for leg in self.legs)
