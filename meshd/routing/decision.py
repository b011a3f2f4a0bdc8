# SPDX-License-Identifier: Apache-2.0
"""The forwarding decision (RFC 9171 section 5.4 step 2): over which links a bundle goes next, or why it has to wait.

The agent asks; what stands behind `Router` (static routes now, a contact graph later) answers from the record and from
a view of the links, and changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleRecord
from meshd.link.identity import LinkId


@dataclass(frozen=True, slots=True)
class Forward:
    """Queue the bundle on the first of these links; the others are equal or worse choices, in order."""

    links: tuple[LinkId, ...]
    volumes_bytes: Mapping[LinkId, int] = field(default_factory=dict)
    """What links that will end can still carry; one that is not named has no such limit."""


@dataclass(frozen=True, slots=True)
class Contraindicated:
    """Nothing allowed now (RFC 9171 section 5.4.1): keep it and ask again when something changes."""

    reason: str
    wake_at: float | None
    """Monotonic time at which to ask again in any case; None: only on a change, and it holds until then for all bundles
    of the same destination and previous node."""
    leads_back: bool = False
    """Every way there is, up or not, leads to the neighbour that brought the bundle."""


class LinkView(Protocol):
    """What routing may know of the links at this moment."""

    @property
    def version(self) -> int | None:
        """Another number after every change of what the view says; None: it is made for one question only."""

    def usable_links(self, neighbour: Eid) -> Sequence[LinkId]:
        """Links to this neighbour that are up and may transmit, best bearer first."""

    def is_neighbour(self, node: Eid) -> bool:
        """True when some bearer has this node as a neighbour, up or not."""

    def volume_bytes(self, link: LinkId) -> int | None:
        """What the link can still carry before it ends; None: no end is known."""


class Router(Protocol):
    """Chooses next hops."""

    def choose_next_hops(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        """Decide for one bundle."""
