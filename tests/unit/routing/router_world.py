# SPDX-License-Identifier: Apache-2.0
"""A view of links that a test sets, contacts and bundles in few words, for tests of the contact router."""

from collections.abc import Sequence
from typing import Any

from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.link.identity import LinkId
from meshd.link.metric import LinkMetric, seeded
from meshd.routing.contact import Contact
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.routing.decision import Contraindicated, Forward

OFFSET_S = 1000.0
"""DTN time at monotonic time 0."""
HOUR_S = 3600.0


def node(name: str) -> Eid:
    """By its name."""
    return parse_eid(f"dtn://{name}/")


class View:
    """Links by bearer and neighbour (`los0>b`). Implements `LinkView`."""

    def __init__(self, *links: str, rate_bps: int = 8000, owd_s: float = 0.0) -> None:
        self.version = 0
        self.up: dict[LinkId, LinkMetric] = {}
        self.closed: set[str] = set()
        self.radiating: set[str] = set()
        self.backlogs: dict[LinkId, dict[int, int]] = {}
        for each in links:
            self.bring_up(each, rate_bps, owd_s)

    def bring_up(self, text: str, rate_bps: int = 8000, owd_s: float = 0.0) -> LinkId:
        """A link comes up."""
        self.version += 1
        self.up[link(text)] = seeded(rate_bps, owd_s)
        return link(text)

    def take_down(self, text: str) -> None:
        """It goes down."""
        self.version += 1
        del self.up[link(text)]

    def queue(self, text: str, size_bytes: int, precedence: int = 1) -> None:
        """Something waits for it."""
        queued = self.backlogs.setdefault(link(text), {})
        queued[precedence] = queued.get(precedence, 0) + size_bytes

    @property
    def base(self) -> "View":
        """Nothing is left out."""
        return self

    @property
    def utc_offset_s(self) -> float:
        """Fixed."""
        return OFFSET_S

    def links(self) -> Sequence[LinkId]:
        """Those on open bearers."""
        return [each for each in self.up if each.bearer not in self.closed]

    def is_open(self, bearer: str) -> bool:
        """All but those that were closed."""
        return bearer not in self.closed

    def radiates(self, bearer: str) -> bool:
        """Those that are named."""
        return bearer in self.radiating

    def backlog_bytes(self, link: LinkId, precedence: int) -> int:
        """At this precedence and above."""
        return sum(size for each, size in self.backlogs.get(link, {}).items() if each >= precedence)

    def usable_links(self, neighbour: Eid) -> Sequence[LinkId]:
        """Fastest first."""
        links = [each for each in self.links() if each.neighbour == neighbour]
        return sorted(links, key=lambda each: (-self.up[each].rate_bps, each.bearer))

    def is_neighbour(self, node: Eid) -> bool:
        """Whoever has a link."""
        return any(each.neighbour == node for each in self.up)

    def volume_bytes(self, link: LinkId) -> int | None:
        """No end is known."""
        return None

    def metric(self, link: LinkId) -> LinkMetric | None:
        """As it was brought up."""
        return self.up.get(link)


def link(text: str) -> LinkId:
    """From `los0>b`."""
    bearer, _, neighbour = text.partition(">")
    return LinkId(bearer, node(neighbour))


def contact(sender: str, receiver: str, start_s: float, end_s: float, **changes: Any) -> Contact:
    """A planned one: 8000 bit/s, so 1000 bytes a second."""
    values: dict[str, Any] = {"bearer": "los0", "rate_bps": 8000, "owd_s": 0.0}
    return Contact(node(sender), node(receiver), start_s=start_s, end_s=end_s, **(values | changes))


def router(*contacts: Contact, own: str = "a", **changes: Any) -> ContactRouter:
    """Of node a."""
    return ContactRouter(node(own), ContactPlan(contacts), **changes)


def bundle(
    to: str = "d", size_bytes: int = 1000, back: str | None = None, sequence: int = 1, **changes: Any
) -> BundleRecord:
    """One to route; it lives for an hour."""
    received_ms = int(OFFSET_S * 1000)
    values: dict[str, Any] = {"precedence": 1, "expiry_ms": received_ms + int(HOUR_S * 1000)} | changes
    return BundleRecord(
        BundleId(node("s"), 1, sequence),
        parse_eid(f"dtn://{to}/inbox"),
        values["precedence"],
        values["expiry_ms"],
        received_ms,
        size_bytes,
        0,
        False,
        None if back is None else node(back),
        None,
        False,
        PayloadRef(0, 0, size_bytes),
    )


def goes(decision: Forward | Contraindicated) -> str:
    """The link chosen, as text; or a fault."""
    assert isinstance(decision, Forward), decision
    first = decision.links[0]
    return f"{first.bearer}>{first.neighbour.uri[6:-1]}"


def waits(decision: Forward | Contraindicated) -> float | None:
    """Until when, in monotonic time."""
    assert isinstance(decision, Contraindicated), decision
    return decision.wake_at
