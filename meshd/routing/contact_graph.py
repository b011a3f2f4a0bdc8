# SPDX-License-Identifier: Apache-2.0
"""All contacts that a search may use, indexed by who sends and who receives (SABR, CCSDS 734.3-B-1 section 2.3).

Immutable: a change makes another graph, and `with_sender` makes it from this one at the cost of one node's contacts.
Nodes are numbers within a graph, since a search asks for their labels a hundred thousand times. Contacts of a node are
sorted by their start in classes of like duration: within a class, those that are over by a time are found by bisection,
which one contact without an end would spoil for all others in a single list.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact

CLASS_BITS: Final = 3
"""Durations of one class differ by a factor of at most 2 ** 3."""

Row = tuple[float, float, int, float, float, float, bool, Contact]
"""Start, end, number of the node at the other end, seconds for a byte (losses included), one-way delay, confidence,
whether it radiates, and the contact itself."""


class ContactClass:
    """Contacts of one node, in one direction, that last about equally long."""

    __slots__ = ("longest_s", "rows", "starts_s")

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = sorted(rows, key=_start)
        self.starts_s = [row[0] for row in self.rows]
        self.longest_s = max(row[1] - row[0] for row in rows)
        """A contact that starts more than this before a time is over by then."""


class ContactGraph:
    """Contacts, searchable."""

    def __init__(self, contacts: Iterable[Contact]) -> None:
        """A contact that can carry nothing (no rate, all lost, no duration) is left out."""
        self._by_sender: dict[int, list[Contact]] = {}
        self._by_receiver: dict[int, list[Contact]] = {}
        self._numbers: dict[Eid, int] = {}
        self.nodes: list[Eid] = []
        """By their numbers."""
        self._outgoing: dict[int, Sequence[ContactClass]] = {}
        self._incoming: dict[int, Sequence[ContactClass]] = {}
        self._confidences: list[float] = []
        for contact in contacts:
            self._add(contact)

    def __len__(self) -> int:
        return sum(map(len, self._by_sender.values()))

    def number(self, node: Eid) -> int | None:
        """What the graph calls a node; None: no contact names it."""
        return self._numbers.get(node)

    def contacts(self, sender: Eid | None = None) -> list[Contact]:
        """Those of one sender, or all; in no order."""
        if sender is not None:
            return list(self._by_sender.get(self._numbers.get(sender, -1), ()))
        return [contact for each in self._by_sender.values() for contact in each]

    def surest_at_least(self, confidence: float) -> float:
        """The least confidence of any contact that is not below this one; infinite when there is none."""
        if not self._confidences:
            self._confidences = sorted({each.confidence for row in self._by_sender.values() for each in row})
        place = bisect_left(self._confidences, confidence)
        return self._confidences[place] if place < len(self._confidences) else math.inf

    def outgoing(self, node: int) -> Sequence[ContactClass]:
        """What a node sends in; the rows name the receivers."""
        found = self._outgoing.get(node)
        if found is None:
            # Sorting waits until a search comes by: most changes concern the contacts of few nodes.
            found = self._outgoing[node] = self._classes(self._by_sender.get(node, ()), is_outgoing=True)
        return found

    def incoming(self, node: int) -> Sequence[ContactClass]:
        """What a node receives in; the rows name the senders."""
        found = self._incoming.get(node)
        if found is None:
            found = self._incoming[node] = self._classes(self._by_receiver.get(node, ()), is_outgoing=False)
        return found

    def with_sender(self, sender: Eid, contacts: Iterable[Contact]) -> "ContactGraph":
        """This graph with other contacts of one sender; all others keep their places and share their index."""
        new = ContactGraph(())
        new.nodes, new._numbers = list(self.nodes), dict(self._numbers)
        new._by_sender, new._by_receiver = dict(self._by_sender), dict(self._by_receiver)
        new._outgoing, new._incoming = dict(self._outgoing), dict(self._incoming)
        number = new._number(sender)
        before = new._by_sender.pop(number, [])
        new._outgoing.pop(number, None)
        for receiver in {new._numbers[contact.receiver] for contact in before}:
            new._by_receiver[receiver] = [each for each in new._by_receiver[receiver] if each.sender != sender]
            new._incoming.pop(receiver, None)
        fresh: set[int] = set()
        for contact in contacts:
            assert contact.sender == sender, "the lists of other senders are shared with this graph"
            receiver = new._number(contact.receiver)
            if receiver not in fresh:
                fresh.add(receiver)
                new._by_receiver[receiver] = list(new._by_receiver.get(receiver, ()))
                new._incoming.pop(receiver, None)
            new._add(contact)
        return new

    def _add(self, contact: Contact) -> None:
        if contact.rate_bps <= 0 or contact.loss >= 1.0 or contact.end_s <= contact.start_s:
            return
        self._by_sender.setdefault(self._number(contact.sender), []).append(contact)
        self._by_receiver.setdefault(self._number(contact.receiver), []).append(contact)

    def _number(self, node: Eid) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return number

    def _classes(self, contacts: Iterable[Contact], *, is_outgoing: bool) -> Sequence[ContactClass]:
        numbers = self._numbers
        by_duration: dict[int, list[Row]] = {}
        for contact in contacts:
            other = numbers[contact.receiver if is_outgoing else contact.sender]
            row = (
                contact.start_s,
                contact.end_s,
                other,
                seconds_per_byte(contact),
                contact.owd_s,
                contact.confidence,
                contact.radiates,
                contact,
            )
            by_duration.setdefault(_duration_class(contact), []).append(row)
        return [ContactClass(rows) for rows in by_duration.values()]


def seconds_per_byte(contact: Contact) -> float:
    """What a byte takes on the way out, repetitions of what is lost included."""
    return 8.0 / (contact.rate_bps * (1.0 - contact.loss))


def id_key(node: Eid) -> tuple[str, tuple[int, ...], str]:
    """Sorts node IDs."""
    scheme, _, rest = node.uri.partition(":")
    if scheme != "ipn":
        return scheme, (), rest
    numbers = tuple(map(int, rest.split(".")))
    return scheme, (0, *numbers) if len(numbers) == 2 else numbers, ""


def _start(row: Row) -> float:
    return row[0]


def _duration_class(contact: Contact) -> int:
    duration_s = contact.end_s - contact.start_s
    return 1 << 16 if duration_s == math.inf else math.frexp(duration_s)[1] // CLASS_BITS
