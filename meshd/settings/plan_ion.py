# SPDX-License-Identifier: Apache-2.0
"""A contact plan as commands of ionadmin, the form in which ION (and much that works with it) reads plans:

    a contact +0 +3600 1 2 100000
    a range +0 +3600 1 2 1

Start and stop, sender, receiver, bytes a second and perhaps the confidence; a range tells the one-way delay in seconds,
both ways if its first node has the lower number and the other way is not told of. Times are `+SECONDS` after the time
of the last `@` command or of reading, or `yyyy/mm/dd-hh:mm:ss` in UTC. Unlike ION this reads fractions of a second.
Nodes are `ipn:N.0` unless a table names them otherwise. Commands that say nothing about contacts are passed over.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

import msgspec

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.routing.contact import Contact
from meshd.routing.contact_plan import CONTACTS_MAX, PLAN_END_S
from meshd.settings.plan_text import PlanText
from meshd.settings.plan_value import render_instant, trimmed
from meshd.settings.problem import ConfigurationError, Problem
from meshd.settings.value import ValueProblem, shown

WARNINGS_MAX: Final = 20
NO_END_S: Final = PLAN_END_S - 1
"""Stands for a contact without an end, which this form does not know."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_RELATIVE: Final = re.compile(r"\+([0-9]{1,12}(?:\.[0-9]{1,6})?)")
_ABSOLUTE: Final = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2})-([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,6})?")
_NUMBER: Final = re.compile(r"[0-9]{1,13}(?:\.[0-9]{1,6})?")
_NODE: Final = re.compile(r"[1-9][0-9]{0,9}")
_CHANGE_REASON: Final = "it changes what a plan held before"
_TIME_EXAMPLE: Final = "write one such as +3600 or 2026/05/01-10:00:00"


class _Range(msgspec.Struct, frozen=True, gc=False):
    start_s: float
    end_s: float
    owd_s: float


class _Reader:
    """One text, line by line."""

    def __init__(self, reference_s: float, names: Mapping[int, Eid]) -> None:
        self._reference_s = reference_s
        self._names = names
        self.contacts: list[Contact] = []
        self.lines: list[int] = []
        self.ranges: dict[tuple[Eid, Eid], list[_Range]] = {}
        """As told."""
        self.mirrored: dict[tuple[Eid, Eid], list[_Range]] = {}
        """What they mean for the other way."""
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def read_line(self, line: int, text: str) -> None:
        """One command."""
        words = text.split()
        if not words or words[0].startswith("#"):
            return
        command = " ".join(words[:2]) if words[0] in ("a", "d", "c") else words[0]
        try:
            if command == "a contact":
                self._read_contact(line, words[2:])
            elif command == "a range":
                self._read_range(words[2:])
            elif command == "@":
                self._reference_s = self._time(words[1] if len(words) == 2 else "", "time")
            elif command in ("d contact", "d range", "c contact"):
                self.problems.append(Problem(line, command, _CHANGE_REASON, "remove it, and what it takes back"))
            elif len(self.warnings) < WARNINGS_MAX:
                self.warnings.append(f"line {line}: {shown(command)} says nothing about contacts and is passed over")
        except _Wrong as wrong:
            self.problems.append(Problem(line, wrong.key, wrong.reason, wrong.remedy))

    def _read_contact(self, line: int, words: list[str]) -> None:
        if len(words) not in (5, 6):
            raise _Wrong("a contact", f"it has {len(words)} fields", "write START STOP FROM TO BYTES_PER_SECOND")
        if len(self.contacts) == CONTACTS_MAX:
            raise _Wrong("a contact", "it is one too many", f"leave out some: a plan has at most {CONTACTS_MAX}")
        start_s, end_s = self._time(words[0], "start"), self._time(words[1], "stop")
        rate_bps = int(_number(words[4], "rate") * 8)
        confidence = float(_number(words[5], "confidence")) if len(words) == 6 else 1.0
        end_s = math.inf if end_s == NO_END_S else end_s
        sender, receiver = self._node(words[2], "from"), self._node(words[3], "to")
        self.contacts.append(Contact(sender, receiver, "", start_s, end_s, rate_bps, 0.0, confidence=confidence))
        self.lines.append(line)

    def _read_range(self, words: list[str]) -> None:
        if len(words) != 5:
            raise _Wrong("a range", f"it has {len(words)} fields", "write START STOP FROM TO SECONDS")
        start_s, end_s = self._time(words[0], "start"), self._time(words[1], "stop")
        sender, receiver = self._node(words[2], "from"), self._node(words[3], "to")
        if end_s <= start_s:
            raise _Wrong("stop", "it is not after the start", "check whether the two are exchanged")
        told = _Range(start_s, math.inf if end_s == NO_END_S else end_s, float(_number(words[4], "seconds")))
        self.ranges.setdefault((sender, receiver), []).append(told)
        if int(words[2]) < int(words[3]):
            self.mirrored.setdefault((receiver, sender), []).append(told)

    def _time(self, text: str, key: str) -> float:
        relative = _RELATIVE.fullmatch(text)
        if relative is not None:
            return self._reference_s + float(relative[1])
        absolute = _ABSOLUTE.fullmatch(text)
        if absolute is None:
            raise _Wrong(key, f"{shown(text)} is no time", _TIME_EXAMPLE)
        year, month, day, hour, minute, second = map(int, absolute.groups("0")[:6])
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError as error:
            raise _Wrong(key, f"{shown(text)} is no time ({error})", _TIME_EXAMPLE) from None
        return (moment - _EPOCH).total_seconds() + float(absolute[7] or 0)

    def _node(self, text: str, key: str) -> Eid:
        if not _NODE.fullmatch(text):
            raise _Wrong(key, f"{shown(text)} is no node number", "write one above 0")
        named = self._names.get(int(text))
        if named is not None:
            return named
        try:
            return check_node_id(parse_eid(f"ipn:{text}.0"))
        except EidError as error:
            raise _Wrong(key, str(error), "write a number of 32 bits") from None


class _Wrong(ValueProblem):
    """A command can't be used."""

    def __init__(self, key: str, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.key = key


def parse_plan_ion_untrusted(
    text: str, file_name: str, reference_s: float, names: Mapping[int, Eid] | None = None
) -> PlanText:
    """Read a plan.

    Args:
        text: commands, one a line.
        file_name: for messages.
        reference_s: DTN time that relative times count from, up to the first `@`.
        names: node IDs of numbers that don't mean `ipn:N.0`.

    Errors:
        ConfigurationError: names every problem with its line.
    """
    reader = _Reader(reference_s, names or {})
    for line, command in enumerate(text.split("\n"), 1):
        reader.read_line(line, command)
    if reader.problems:
        raise ConfigurationError(file_name, reader.problems)
    plan = PlanText(warnings=reader.warnings)
    delays = _Delays(reader)
    for contact, line in zip(reader.contacts, reader.lines, strict=True):
        pieces = delays.pieces(contact)
        if pieces is None:
            if len(plan.warnings) < WARNINGS_MAX:
                plan.warnings.append(f"line {line}: no range tells its delay throughout, 0 s is taken")
            pieces = [contact]
        plan.contacts.extend(pieces)
        plan.lines.extend([line] * len(pieces))
    return plan


class _Delays:
    """What ranges say of contacts."""

    def __init__(self, reader: _Reader) -> None:
        by_start = {**reader.mirrored, **reader.ranges}
        self._ranges = {key: sorted(found, key=_start_s) for key, found in by_start.items()}

    def pieces(self, contact: Contact) -> list[Contact] | None:
        """The contact, cut where its delay changes; None: for a part of it there is none."""
        if not contact.end_s > contact.start_s:
            return [contact]  # The plan says what is wrong with it.
        ranges = self._ranges.get((contact.sender, contact.receiver), [])
        place = max(0, bisect_right(ranges, contact.start_s, key=_start_s) - 1)
        pieces: list[Contact] = []
        at_s = contact.start_s
        for told in ranges[place:]:
            if told.start_s > at_s or at_s >= contact.end_s:
                break
            end_s = min(told.end_s, contact.end_s)
            if end_s > at_s:
                pieces.append(msgspec.structs.replace(contact, start_s=at_s, end_s=end_s, owd_s=told.owd_s))
                at_s = end_s
        return pieces if at_s >= contact.end_s else None


def render_plan_ion(contacts: Iterable[Contact], numbers: Mapping[Eid, int] | None = None) -> tuple[str, list[str]]:
    """A plan as commands, and what they leave out.

    Args:
        contacts: by start.
        numbers: of nodes that are not `ipn:N.0`.

    Errors:
        SettingsError: a node has no number, or two contacts of one pair of nodes overlap (on different bearers).
    """
    commands: list[str] = []
    left_out: set[str] = set()
    until_s: dict[tuple[Eid, Eid], float] = {}
    for contact in contacts:
        pair = contact.sender, contact.receiver
        if contact.start_s < until_s.get(pair, 0.0):
            raise SettingsError(
                f"contacts from {pair[0].uri} to {pair[1].uri} on different bearers overlap at"
                f" {render_instant(contact.start_s)}, and commands of ION name no bearers: export TOML"
            )
        until_s[pair] = contact.end_s
        commands += _render(contact, numbers or {})
        left_out.update(
            name
            for name, is_said in (("bearer", contact.bearer), ("loss", contact.loss), ("radiates", contact.radiates))
            if is_said
        )
    return "".join(f"{each}\n" for each in commands), [f"{name} is left out" for name in sorted(left_out)]


def _render(contact: Contact, numbers: Mapping[Eid, int]) -> list[str]:
    span = f"{_render_time(contact.start_s)} {_render_time(min(contact.end_s, NO_END_S))}"
    pair = f"{_node_number(contact.sender, numbers)} {_node_number(contact.receiver, numbers)}"
    confidence = "" if contact.confidence == 1 else f" {trimmed(f'{contact.confidence:.6f}')}"
    rate = trimmed(f"{contact.rate_bps / 8:.3f}")
    return [
        f"a contact {span} {pair} {rate}{confidence}",
        f"a range {span} {pair} {trimmed(f'{contact.owd_s:.6f}')}",
    ]


def _render_time(dtn_s: float) -> str:
    return render_instant(dtn_s).replace("-", "/").replace("T", "-").rstrip("Z")


def _node_number(node: Eid, numbers: Mapping[Eid, int]) -> int:
    number = numbers.get(node)
    if number is not None:
        return number
    if not node.uri.startswith("ipn:") or node.uri.count(".") != 1:
        raise SettingsError(f"{node.uri} has no number, as commands of ION need: say which, or export TOML")
    return int(node.uri[4:-2])


def _number(text: str, key: str) -> Fraction:
    if not _NUMBER.fullmatch(text):
        raise _Wrong(key, f"{shown(text)} is no number", "write one such as 100000")
    return Fraction(text)


def _start_s(told: _Range) -> float:
    return told.start_s
