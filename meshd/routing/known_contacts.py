# SPDX-License-Identifier: Apache-2.0
"""One list of directed contacts from all that is known: the plan, the links that are up, predictions, other nodes.

What is seen changes the confidence and the end of a planned contact and never the plan itself: a link that is up ends
as planned; one that should be up and is not is waited for, then suspected. A silent node sends nothing that can be
located until its silence ends, and still receives. Searching is contact_graph.py's and search.py's matter.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.routing.contact import Contact, ContactKind
from meshd.routing.contact_graph import ContactGraph
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.decision import LinkView
from meshd.routing.silences import Silences, Span

GRACE_S: Final = 10.0
"""So much after its start a planned contact is only late."""
SUSPICION: Final = 0.5
"""Factor on the confidence of a planned contact whose link did not come up."""
REFRESH_S: Final = 1.0
"""How often the metrics of the links are looked at."""
MATERIAL: Final = 0.1
"""A metric that has changed by less makes no other contact."""


class KnownContacts:
    """Owns what was learned; the plan is the operator's, the links are the node's."""

    def __init__(self, own_node: Eid, plan: ContactPlan) -> None:
        self.own_node = own_node
        self.plan = plan
        self.graph = ContactGraph(())
        self.refresh_at = -math.inf
        """Monotonic time from which `refresh` may find something new."""
        self.changes_at = -math.inf
        """Monotonic time at which a contact of this node begins, ends, or is late."""
        self._learned: dict[Eid, tuple[Contact, ...]] = {}
        self._predicted: tuple[Contact, ...] = ()
        self._silences = Silences()
        self._measured: dict[LinkId, Contact] = {}
        """By the metric alone;"""
        self._live: dict[LinkId, Contact] = {}
        """the same, with their planned ends."""
        self._outages_s: dict[LinkId, float] = {}
        self._is_stale = True
        self._is_timeless = True
        self._versions: tuple[object, ...] = ()
        self._planned: dict[Eid, list[Contact]] = {}

    # What is heard of

    def learn(self, node: Eid, contacts: Iterable[Contact]) -> None:
        """What a node says of its own contacts, in place of what it said before."""
        if node == self.own_node:
            return
        self._learned[node] = tuple(each for each in contacts if each.sender == node)
        self._is_stale = True

    def forget(self, node: Eid) -> None:
        """What a node said does not count any more."""
        if self._learned.pop(node, None) is not None:
            self._is_stale = True

    def predict(self, contacts: Iterable[Contact]) -> None:
        """What history lets expect, in place of what was expected before."""
        self._predicted = tuple(contacts)
        self._is_stale = True

    def silence(self, node: Eid, until_s: float | None) -> None:
        """A node keeps silent, until a DTN time if that is known; this one on the bearers that are closed."""
        self._silences.begin(node, until_s)
        self._is_stale = True

    def end_silence(self, node: Eid) -> None:
        """It may be heard again."""
        if self._silences.end(node):
            self._is_stale = True

    def plan_silence(self, node: Eid, spans: Iterable[Span]) -> None:
        """When a node will keep silent by its plan, or this one by its own, in place of what was planned before."""
        if self._silences.plan(node, spans):
            self._is_stale = True

    def is_silent(self, node: Eid, dtn_s: float) -> bool:
        """Whether it may send nothing that can be located at this time."""
        return self._silences.is_silent(node, dtn_s)

    # The graph

    @property
    def is_timeless(self) -> bool:
        """Whether nothing begins or ends as far as is known."""
        return self._is_timeless and self.changes_at == math.inf

    def live(self, link: LinkId) -> Contact:
        """The contact of a link that was up at the last refresh."""
        return self._live[link]

    def outage_s(self, link: LinkId) -> float:
        """What of its delay is the fear that it may fail."""
        return self._outages_s[link]

    def refresh(self, view: LinkView, now: float) -> bool:
        """Bring the graph up to date. True when it is another one."""
        dtn_s = now + view.utc_offset_s
        self.refresh_at = now + REFRESH_S
        if self._is_stale or self._versions[1:] != (self.plan.version, view.utc_offset_s):
            self._versions = view.version, self.plan.version, view.utc_offset_s
            self._is_stale = False
            self._planned = _by_sender(self.plan.contacts())
            self._read_links(view, now)
            others = [each for each in self._others(dtn_s) if each.sender != self.own_node]
            self._is_timeless = all(each.end_s == math.inf and each.start_s <= dtn_s for each in others)
            self.graph = ContactGraph([*others, *self._own(view, dtn_s)])
            return True
        is_same = self._versions[0] == view.version and now < self.changes_at
        if not self._read_links(view, now) and is_same:
            return False
        self._versions = view.version, *self._versions[1:]
        self.graph = self.graph.with_sender(self.own_node, self._own(view, dtn_s))
        return True

    def _others(self, dtn_s: float) -> list[Contact]:
        contacts: list[Contact] = []
        for node in self._planned.keys() | self._learned.keys():
            learned = self._learned.get(node, ())
            told = {(each.receiver, each.bearer, round(each.start_s)) for each in learned}
            contacts += learned
            planned = self._planned.get(node, ())
            contacts += [each for each in planned if (each.receiver, each.bearer, round(each.start_s)) not in told]
        contacts += [each for each in self._predicted if each.sender != self.own_node]
        return [left for each in contacts if each.end_s > dtn_s for left in self._silences.left_of(each)]

    # This node's own

    def _own(self, view: LinkView, dtn_s: float) -> list[Contact]:
        changes_s = [math.inf]
        own: list[Contact] = []
        ends_s: dict[LinkId, float] = {}
        planned = (*self._planned.get(self.own_node, ()), *self._predictions())
        for each in [part for whole in planned for part in self._silences.planned_of(whole)]:
            contact = self._when_open(each, view, dtn_s)
            if contact is None or contact.end_s <= dtn_s:
                continue
            links = self._links_of(contact)
            if contact.start_s > dtn_s:
                changes_s.append(contact.start_s)
                for link in links:
                    ends_s[link] = min(ends_s.get(link, math.inf), contact.start_s)
                own.append(contact)
                continue
            changes_s.append(contact.end_s)
            if links and contact.kind is not ContactKind.PREDICTED:
                ends_s |= dict.fromkeys(links, contact.end_s)
            elif not links:
                late = _as_late(contact, dtn_s)
                changes_s.append(late.start_s)
                own.append(late)
        own = [each for each in own if each.start_s < each.end_s]
        silent_s = self._silences.next_begin_s(self.own_node, dtn_s)
        changes_s.append(silent_s)
        self._live = {
            link: structs.replace(each, end_s=min(ends_s.get(link, math.inf), silent_s if each.radiates else math.inf))
            for link, each in self._measured.items()
        }
        own += self._live.values()
        own += self._after_silences(silent_s, ends_s)
        self.changes_at = min(each for each in changes_s if each > dtn_s) - view.utc_offset_s
        return own

    def _after_silences(self, silent_s: float, ends_s: Mapping[LinkId, float]) -> list[Contact]:
        """Links that are up and have to pause by this node's plan are expected back, unless another plan ends them."""
        if silent_s == math.inf:
            return []
        paused = [each for link, each in self._measured.items() if each.radiates and link not in ends_s]
        whole = [structs.replace(each, start_s=silent_s) for each in paused]
        return [part for each in whole for part in self._silences.planned_of(each) if part.start_s > silent_s]

    def _when_open(self, contact: Contact, view: LinkView, dtn_s: float) -> Contact | None:
        """Over a bearer that is closed it begins when the silence ends, if that is known."""
        if _may_emit(contact, view):
            return contact
        until_s = max(self._silences.end_s(self.own_node, dtn_s), dtn_s + GRACE_S)
        return structs.replace(contact, start_s=max(contact.start_s, until_s)) if until_s < contact.end_s else None

    def _predictions(self) -> list[Contact]:
        return [each for each in self._predicted if each.sender == self.own_node]

    def _links_of(self, contact: Contact) -> list[LinkId]:
        """Links that are up and may be what the contact means."""
        if contact.bearer:
            link = LinkId(contact.bearer, contact.receiver)
            return [link] if link in self._measured else []
        return [link for link in self._measured if link.neighbour == contact.receiver]

    def _read_links(self, view: LinkView, now: float) -> bool:
        """What the links that are up can carry. True when that is materially different from before."""
        found: dict[LinkId, Contact] = {}
        for link in view.links():
            contact, before = self._measure(link, view, now), self._measured.get(link)
            found[link] = contact if before is None or _differs(before, contact) else before
        is_new = found.keys() != self._measured.keys() or any(found[each] is not self._measured[each] for each in found)
        self._measured = found
        return is_new

    def _measure(self, link: LinkId, view: LinkView, now: float) -> Contact:
        metric = view.metric(link)
        assert metric is not None, "a link that is up has a metric"
        outage_s = self._outages_s[link] = metric.mean_outage_s * (1.0 - metric.availability(now))
        return Contact(
            self.own_node,
            link.neighbour,
            link.bearer,
            0.0,
            math.inf,
            max(int(metric.rate_bps), 1),
            metric.owd_s + outage_s,
            metric.loss,
            metric.confidence,
            radiates=view.radiates(link.bearer),
            kind=ContactKind.LIVE,
        )


def _by_sender(contacts: Iterable[Contact]) -> dict[Eid, list[Contact]]:
    by_sender: dict[Eid, list[Contact]] = {}
    for contact in contacts:
        by_sender.setdefault(contact.sender, []).append(contact)
    return by_sender


def _as_late(contact: Contact, dtn_s: float) -> Contact:
    """A contact that should be there: what is late for long will take as long again."""
    late_s = dtn_s - contact.start_s
    if late_s < GRACE_S:
        return structs.replace(contact, start_s=contact.start_s + GRACE_S)
    kind = contact.kind if contact.kind is ContactKind.PREDICTED else ContactKind.SUSPECTED
    return structs.replace(contact, start_s=dtn_s + late_s, confidence=contact.confidence * SUSPICION, kind=kind)


def _may_emit(contact: Contact, view: LinkView) -> bool:
    return not contact.bearer or view.is_open(contact.bearer)


def _differs(before: Contact, after: Contact) -> bool:
    pairs: Sequence[tuple[float, float]] = (
        (before.rate_bps, after.rate_bps),
        (before.owd_s, after.owd_s),
        (1.0 - before.loss, 1.0 - after.loss),
        (before.confidence, after.confidence),
    )
    return any(abs(one - other) > MATERIAL * max(one, other) for one, other in pairs)
