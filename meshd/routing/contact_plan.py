# SPDX-License-Identifier: Apache-2.0
"""The contact plan: the editable list of scheduled contacts (SABR, CCSDS 734.3-B-1 section 2.3.1).

An edit is taken over as a whole or not at all, with everything that is wrong with it. Text forms are for
settings/plan_toml.py and settings/plan_ion.py, the file is for the daemon, and what to do with a plan for the router.
"""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from meshd.base.errors import MeshdError
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.routing.contact import Contact

CONTACTS_MAX: Final = 100_000
"""Contacts of a plan."""
PLAN_END_S: Final = 3_155_760_000.0
"""DTN time of 2100-01-01: a later contact is a slip of the pen."""
DELAY_MAX_S: Final = 86_400.0
RATE_MAX_BPS: Final = 10**12
BEARER_CHARACTERS_MAX: Final = 32
TIME_DIGITS: Final = 6
"""Times are whole microseconds, which a float of DTN seconds holds exactly enough to be written and read again."""
REF_DIGITS: Final = 8
PLAN_FILE_MAX_BYTES: Final = 64 * 1024 * 1024
"""Of an encoded plan: more than CONTACTS_MAX contacts with names of usual length take."""

_FORM: Final = 1
_FileRow = tuple[str, str, str, float, float, int, float, float, float, bool]


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """What is wrong with one contact of an edit."""

    position: int
    """Which one, in the order given."""
    key: str
    reason: str
    remedy: str


class PlanError(MeshdError):
    """An edit of the plan is refused; nothing of it is taken over."""

    def __init__(self, problems: Sequence[PlanProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{each.key}: {each.reason}; {each.remedy}" for each in problems[:3]))


class ContactPlan:
    """Scheduled contacts, by sender, receiver, bearer and start."""

    def __init__(self, contacts: Iterable[Contact] = ()) -> None:
        """Errors: PlanError."""
        self.version = 0
        """Another number after every change."""
        self.by_link: Mapping[tuple[Eid, Eid, str], list[Contact]] = {}
        """By sender, receiver and bearer, each list by start; to look at."""
        self._count = 0
        self.add(list(contacts))

    def __len__(self) -> int:
        return self._count

    def copy(self) -> "ContactPlan":
        """Another plan with the same contacts, to be edited by itself."""
        other = ContactPlan()
        other.by_link, other._count = {key: list(found) for key, found in self.by_link.items()}, self._count
        return other

    def become(self, other: "ContactPlan") -> None:
        """Take over all contacts of another plan, which is not used any more."""
        if other.by_link != self.by_link:
            self.by_link, self._count = other.by_link, len(other)
            self.version += 1

    def contacts(self) -> list[Contact]:
        """All, by start, then sender, receiver and bearer."""
        return sorted((each for rows in self.by_link.values() for each in rows), key=_order)

    def nodes(self) -> set[Eid]:
        """All that are named."""
        return {node for sender, receiver, _ in self.by_link for node in (sender, receiver)}

    def add(
        self, contacts: Sequence[Contact], known_nodes: Collection[Eid] | None = None, *, replaces: bool = False
    ) -> None:
        """Add contacts; one that is there already, the same in everything, stays as it is.

        Args:
            contacts: scheduled ones; times are rounded to microseconds.
            known_nodes: nodes that may be named; None: any.
            replaces: the contacts replace the whole plan.

        Errors:
            PlanError: with one problem at least; the plan is as before.
        """
        rows = {} if replaces else {key: list(found) for key, found in self.by_link.items()}
        problems: list[PlanProblem] = []
        count = 0 if replaces else self._count
        for position, given in enumerate(contacts):
            contact = _rounded(given)
            found = [PlanProblem(position, *each) for each in _problems(contact, known_nodes)]
            if not found:
                count += _insert(rows, contact, position, found)
            problems += found
        if count > CONTACTS_MAX:
            remedy = f"leave out what is not needed: a plan has at most {CONTACTS_MAX}"
            problems.append(PlanProblem(0, "contacts", f"{count} are too many", remedy))
        if problems:
            raise PlanError(problems)
        if rows != self.by_link:
            self.by_link, self._count = rows, count
            self.version += 1

    def remove(self, refs: Collection[str]) -> list[Contact]:
        """Remove the contacts of these names; those that went."""
        return self._keep(lambda contact: contact_ref(contact) not in refs)

    def remove_between(self, sender: Eid | None, receiver: Eid | None) -> list[Contact]:
        """Remove all contacts from and to these nodes (None: any); those that went."""
        return self._keep(
            lambda contact: sender not in (None, contact.sender) or receiver not in (None, contact.receiver)
        )

    def forget_before(self, time_s: float) -> int:
        """Remove contacts that were over by then; how many."""
        return len(self._keep(lambda contact: contact.end_s > time_s))

    def _keep(self, is_kept: Callable[[Contact], bool]) -> list[Contact]:
        kept: dict[tuple[Eid, Eid, str], list[Contact]] = {}
        gone: list[Contact] = []
        for key, found in self.by_link.items():
            for contact in found:
                if is_kept(contact):
                    kept.setdefault(key, []).append(contact)
                else:
                    gone.append(contact)
        if gone:
            self.by_link = kept
            self._count -= len(gone)
            self.version += 1
        return gone


def contact_ref(contact: Contact) -> str:
    """A contact's short name: hexadecimal digits of the SHA-256 of what tells it from all others of a plan."""
    text = f"{contact.sender} {contact.receiver} {contact.bearer} {contact.start_s:.{TIME_DIGITS}f}"
    return hashlib.sha256(text.encode()).hexdigest()[:REF_DIGITS]


def encode_plan(plan: ContactPlan) -> bytes:
    """For a file."""
    rows = [
        (
            each.sender.uri,
            each.receiver.uri,
            each.bearer,
            each.start_s,
            each.end_s,
            each.rate_bps,
            each.owd_s,
            each.loss,
            each.confidence,
            each.radiates,
        )
        for each in plan.contacts()
    ]
    return msgspec.msgpack.encode((_FORM, rows))


def decode_plan_untrusted(data: bytes) -> ContactPlan:
    """Read what `encode_plan` has written.

    Errors:
        PlanError: it is damaged, or of a form that this version of meshd does not know.
    """
    if len(data) > PLAN_FILE_MAX_BYTES:
        raise _damaged(f"it has more than {PLAN_FILE_MAX_BYTES} bytes")
    try:
        form, rows = msgspec.msgpack.decode(data, type=tuple[int, list[_FileRow]])
        contacts = [
            Contact(check_node_id(parse_eid(row[0])), check_node_id(parse_eid(row[1])), *row[2:]) for row in rows
        ]
    except (msgspec.DecodeError, EidError, UnicodeDecodeError) as error:
        raise _damaged(str(error)) from None
    if form != _FORM:
        raise _damaged(f"it is of form {form}")
    return ContactPlan(contacts)


def _damaged(reason: str) -> PlanError:
    return PlanError([PlanProblem(0, "stored contact plan", f"it can't be read ({reason})", "import the plan again")])


def _order(contact: Contact) -> tuple[float, str, str, str]:
    return contact.start_s, contact.sender.uri, contact.receiver.uri, contact.bearer


def _rounded(contact: Contact) -> Contact:
    return msgspec.structs.replace(
        contact,
        start_s=round(contact.start_s, TIME_DIGITS),
        end_s=round(contact.end_s, TIME_DIGITS),
        owd_s=round(contact.owd_s, TIME_DIGITS),
        loss=round(contact.loss, TIME_DIGITS),
        confidence=round(contact.confidence, TIME_DIGITS),
    )


def _problems(contact: Contact, known_nodes: Collection[Eid] | None) -> list[tuple[str, str, str]]:
    """What is wrong with a contact by itself: key, reason, remedy."""
    found = [
        (key, f"there is no node {node.uri}", "name it in the configuration, or say that new nodes are meant")
        for key, node in (("from", contact.sender), ("to", contact.receiver))
        if known_nodes is not None and node not in known_nodes
    ]
    if contact.sender == contact.receiver:
        found.append(("to", f"{contact.receiver.uri} can't be in contact with itself", "name another node"))
    if not 0 < contact.start_s < PLAN_END_S:
        found.append(("start", "it is not in the years 2000 to 2099", "check the year"))
    elif not contact.end_s > contact.start_s:
        found.append(("end", "it is not after the start", "check whether the two are exchanged"))
    elif contact.end_s >= PLAN_END_S and contact.end_s != math.inf:
        found.append(("end", "it is not in the years 2000 to 2099", "check the year, or leave it out for no end"))
    if not 1 <= contact.rate_bps <= RATE_MAX_BPS:
        found.append(("rate", f"{contact.rate_bps} bit/s is out of range", f"write one from 1 to {RATE_MAX_BPS}"))
    if not 0 <= contact.owd_s <= DELAY_MAX_S:
        found.append(("delay", f"{contact.owd_s} s is out of range", f"write one from 0 to {DELAY_MAX_S:.0f} s"))
    if not 0 <= contact.loss < 1:
        found.append(("loss", "it is out of range", "write a share from '0 %' to below '100 %'"))
    if not 0 < contact.confidence <= 1:
        found.append(("confidence", "it is out of range", "write a share from above '0 %' to '100 %'"))
    if len(contact.bearer) > BEARER_CHARACTERS_MAX:
        found.append(("bearer", "its name is too long", f"use at most {BEARER_CHARACTERS_MAX} characters"))
    return found


def _insert(
    rows: dict[tuple[Eid, Eid, str], list[Contact]], contact: Contact, position: int, problems: list[PlanProblem]
) -> int:
    """1 if it was put in its place, 0 if it was there or must not be: two of one link can't be at the same time."""
    line = rows.setdefault((contact.sender, contact.receiver, contact.bearer), [])
    place = bisect_left(line, contact.start_s, key=_start_s)
    if place < len(line) and line[place] == contact:
        return 0
    for other in line[max(0, place - 1) : place + 1]:
        if other.start_s < contact.end_s and contact.start_s < other.end_s:
            link = f"from {contact.sender.uri} to {contact.receiver.uri}" + (contact.bearer and f" on {contact.bearer}")
            reason = f"it overlaps contact {contact_ref(other)} {link}"
            problems.append(PlanProblem(position, "start", reason, "join the two, or remove one"))
            return 0
    line.insert(place, contact)
    return 1


def _start_s(contact: Contact) -> float:
    return contact.start_s
