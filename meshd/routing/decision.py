# SPDX-License-Identifier: Apache-2.0
"""The forwarding decision (RFC 9171 section 5.4 step 2): over which links a bundle goes next, or why it has to wait.

The agent asks; what stands behind `Router` answers from the record, from a view of the links, and from what it has
heard of contacts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, BundleRecord
from meshd.link.identity import LinkId
from meshd.link.metric import LinkMetric


@dataclass(frozen=True, slots=True)
class Forward:
    """Queue the bundle on the first of these links; the others are equal or worse choices, in order."""

    links: tuple[LinkId, ...]
    volumes_bytes: Mapping[LinkId, int] = field(default_factory=dict)
    """What links that will end can still carry; one that is not named has no such limit."""
    until: float | None = None
    """Monotonic time at which the first of the links ends: what is queued on it then is to be decided anew."""
    needs_copies: bool = False
    """One way is not sure enough, or the bundle is critical: `choose_copies` names all of them."""


@dataclass(frozen=True, slots=True)
class Copying:
    """Where further copies of a bundle go."""

    links: tuple[LinkId, ...]
    """A copy on each of these now, besides those that are out."""
    later: float | None
    """Monotonic time from which one more can go; None: these are all."""
    is_kept: bool = False
    """No way is known: besides these, the last copy stays here until there is one."""


@dataclass(frozen=True, slots=True)
class Contraindicated:
    """Nothing allowed now (RFC 9171 section 5.4.1): keep it and ask again when something changes."""

    reason: str
    wake_at: float | None
    """Monotonic time at which to ask again in any case; None: only on a change."""
    leads_back: bool = False
    """Every way there is, up or not, leads to the neighbour that brought the bundle."""
    is_for_all: bool = True
    """It holds for all bundles of the same destination and previous node, whatever their size and precedence."""
    may_spray: bool = False
    """No way is known, and neighbours may take copies meanwhile: `choose_copies` names them."""


class LinkView(Protocol):
    """What routing may know of the links at this moment."""

    @property
    def version(self) -> int | None:
        """Another number after every change of what the view says; None: it is made for one question only."""

    @property
    def base(self) -> "LinkView":
        """The view without what was left out for one question."""

    @property
    def utc_offset_s(self) -> float:
        """DTN time in seconds = monotonic time + this."""

    def links(self) -> Sequence[LinkId]:
        """All links that are up and may transmit."""

    def is_open(self, bearer: str) -> bool:
        """Whether frames may leave this bearer."""

    def radiates(self, bearer: str) -> bool:
        """Whether they can be located."""

    def backlog_bytes(self, link: LinkId, precedence: int) -> int:
        """What goes over a link before a bundle of this precedence that comes now."""

    def usable_links(self, neighbour: Eid) -> Sequence[LinkId]:
        """Links to this neighbour that are up and may transmit, best bearer first."""

    def is_neighbour(self, node: Eid) -> bool:
        """True when some bearer has this node as a neighbour, up or not."""

    def volume_bytes(self, link: LinkId) -> int | None:
        """What the link can still carry before it ends; None: no end is known."""

    def metric(self, link: LinkId) -> LinkMetric | None:
        """How well a link carries; None: there is no such link."""


class Router(Protocol):
    """Chooses next hops."""

    def choose_next_hops(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        """Decide for one bundle."""

    def choose_copies(
        self, record: BundleRecord, view: LinkView, now: float, served: frozenset[Eid], *, is_kept: bool = False
    ) -> Copying:
        """Where else a bundle goes, of which these neighbours have a copy or are about to get one.

        `is_kept`: they got it since no way was known, and this node's copy is the last one.
        """

    def release(self, bundle: BundleId) -> None:
        """The bundle is gone: what was booked for it is free."""

    def take_displaced(self) -> Sequence[BundleId]:
        """Bundles whose place was taken by more urgent ones since the last call: they are to be decided anew."""
