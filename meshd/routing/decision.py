# SPDX-License-Identifier: Apache-2.0
"""The forwarding decision (RFC 9171 section 5.4 step 2): over which links a bundle goes next, or why it has to wait.

The agent asks; what stands behind `Router` (static routes now, a contact graph later) answers from the record and from
a view of the links, and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleRecord
from meshd.link.identity import LinkId


@dataclass(frozen=True, slots=True)
class Forward:
    """Queue the bundle on the first of these links; the others are equal or worse choices, in order."""

    links: tuple[LinkId, ...]


@dataclass(frozen=True, slots=True)
class Contraindicated:
    """Nothing allowed now (RFC 9171 section 5.4.1): keep it and ask again when something changes."""

    reason: str
    wake_at: float | None
    """Monotonic time at which to ask again in any case; None: only on a change."""
    leads_back: bool = False
    """Every way there is, up or not, leads to the neighbour that brought the bundle."""


class LinkView(Protocol):
    """What routing may know of the links at this moment."""

    def usable_links(self, neighbour: Eid) -> Sequence[LinkId]:
        """Links to this neighbour that are up and may transmit, best bearer first."""

    def is_neighbour(self, node: Eid) -> bool:
        """True when some bearer has this node as a neighbour, up or not."""


class Router(Protocol):
    """Chooses next hops."""

    def choose_next_hops(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        """Decide for one bundle."""
