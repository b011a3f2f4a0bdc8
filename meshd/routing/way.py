# SPDX-License-Identifier: Apache-2.0
"""A way that a bundle can take at this moment: a route, its arithmetic for this bundle, and the links that begin it."""

import math
from typing import NamedTuple

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.routing.candidates import LEVELS
from meshd.routing.contact import Contact
from meshd.routing.route import Leg


class Way(NamedTuple):
    """Hop by hop."""

    legs: tuple[Leg, ...]
    links: tuple[LinkId, ...]
    """Links to the neighbour that can be used now, best first; none: its contact has yet to begin."""
    level: float
    """Every contact of it is at least so sure."""
    expiry_s: float
    """DTN time after which the bundle is lost."""

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
        """Seconds until the bundle has arrived or is lost, as is to be expected; ways are compared by them.

        One that misses a contact is not lost yet. But what else there may be for it at that node, and how much of that
        others have taken, can't be known from here: to count on it sends bundles where they are stuck. Contacts of the
        surest level take place for this; else a bundle with weeks to live would shun a link that is hardly worse.
        """
        chance = math.prod(each for leg in self.legs if (each := leg.contact.confidence) < LEVELS[0])
        begin_s, lost_s = self.legs[0].ready_s, max(self.expiry_s, self.arrival_s)
        return chance * (self.arrival_s - begin_s) + (1.0 - chance) * (lost_s - begin_s)

    @property
    def hops(self) -> tuple[Contact, ...]:
        """Its contacts."""
        return tuple(leg.contact for leg in self.legs)

    @property
    def is_delayed(self) -> bool:
        """Whether something goes before the bundle on the way."""
        return any(leg.booked_bytes for leg in self.legs)
