# SPDX-License-Identifier: Apache-2.0
"""Who keeps silent when: by a word that was heard, or by a plan of emission control that was announced.

A silent node sends nothing that can be located, and still receives. So of its contacts those that radiate are cut: what
is left begins when the silence ends, and is then as sure as a planned one. How orders and plans get here, and what is
done on the node's own bearers, is for others.
"""

import math
from collections.abc import Iterable
from typing import Final

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact, ContactKind

SPANS_MAX: Final = 256
"""Of one node, the next ones; a plan of a week with a window each hour has 168."""

Span = tuple[float, float]
"""From one DTN time until another; the end may be infinite."""


class Silences:
    """Owns both kinds, by node."""

    def __init__(self) -> None:
        self._until_s: dict[Eid, float] = {}
        self._spans: dict[Eid, tuple[Span, ...]] = {}

    def begin(self, node: Eid, until_s: float | None) -> None:
        """It is silent now, until a DTN time if that is known."""
        self._until_s[node] = math.inf if until_s is None else until_s

    def end(self, node: Eid) -> bool:
        """It may be heard again. False: it was not known to be silent."""
        return self._until_s.pop(node, None) is not None

    def plan(self, node: Eid, spans: Iterable[Span]) -> bool:
        """When it will be silent, in place of what was planned before. False: nothing is new."""
        merged = _merged(spans)[:SPANS_MAX]
        if merged == self._spans.get(node, ()):
            return False
        self._spans.pop(node, None)
        if merged:
            self._spans[node] = merged
        return True

    def is_silent(self, node: Eid, dtn_s: float) -> bool:
        """At this time."""
        if self._until_s.get(node, -math.inf) > dtn_s:
            return True
        return any(begin_s <= dtn_s < end_s for begin_s, end_s in self._spans.get(node, ()))

    def end_s(self, node: Eid, dtn_s: float) -> float:
        """When the silence that it keeps at this time ends; infinite when that is not known."""
        planned_s = (end_s for begin_s, end_s in self._spans.get(node, ()) if begin_s <= dtn_s < end_s)
        return self._until_s.get(node, next(planned_s, math.inf))

    def next_begin_s(self, node: Eid, dtn_s: float) -> float:
        """When its next planned silence begins; infinite when none does."""
        return min((begin_s for begin_s, _ in self._spans.get(node, ()) if begin_s > dtn_s), default=math.inf)

    def left_of(self, contact: Contact) -> list[Contact]:
        """The parts of a contact in which its sender may send."""
        until_s = self._until_s.get(contact.sender, -math.inf)
        heard = _cut(contact, -math.inf, until_s) if contact.radiates else [contact]
        return [part for each in heard for part in self.planned_of(each)]

    def planned_of(self, contact: Contact) -> list[Contact]:
        """The same by its plan alone."""
        left = [contact]
        for span in self._spans.get(contact.sender, ()) if contact.radiates else ():
            left = [part for each in left for part in _cut(each, *span)]
        return left


def _cut(contact: Contact, begin_s: float, end_s: float) -> list[Contact]:
    """What is left without a span."""
    if end_s <= contact.start_s or begin_s >= contact.end_s:
        return [contact]
    parts: list[Contact] = []
    if begin_s > contact.start_s:
        parts.append(structs.replace(contact, end_s=begin_s))
    if end_s < contact.end_s:
        kind = ContactKind.SCHEDULED if contact.kind is ContactKind.LIVE else contact.kind
        parts.append(structs.replace(contact, start_s=end_s, kind=kind))
    return parts


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """In order, and none that touches another."""
    merged: list[Span] = []
    for begin_s, end_s in sorted(spans):
        if end_s <= begin_s:
            continue
        if merged and begin_s <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end_s, merged[-1][1])
        else:
            merged.append((begin_s, end_s))
    return tuple(merged)
