# SPDX-License-Identifier: Apache-2.0
"""The contact plan of a running daemon: `contacts.*` of the control protocol, and its file in the state directory.

An edit is made on a copy, in a thread, and written to the disk; only then the node's plan becomes the copy, and the
agent is told. Edits come one after the other.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import trio

from meshd.base.errors import SettingsError
from meshd.bundle.dtn_time import dtn_ms_from_unix
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.control.errors import ControlError
from meshd.control.words import DATA_SIZE_MAX_BYTES
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.dtn_clock import unix_ms, wall_ms
from meshd.daemon.state_file import read_state, write_state
from meshd.node.events import ContactsChanged, Event
from meshd.routing.contact import Contact
from meshd.routing.contact_plan import (
    PLAN_FILE_MAX_BYTES,
    ContactPlan,
    PlanError,
    contact_ref,
    decode_plan_untrusted,
    encode_plan,
)
from meshd.settings.plan_ion import parse_plan_ion_untrusted, render_plan_ion
from meshd.settings.plan_text import PLAN_TEXT_MAX_BYTES, PlanText, decode_text
from meshd.settings.plan_toml import parse_plan_toml_untrusted, read_contact, render_plan_toml

PLAN_FILE: Final = "contacts.plan"
PAST_KEPT_S: Final = 86_400.0
"""A contact that ended longer ago goes with the next edit."""

Report = Callable[[str, Mapping[str, Any]], None]
Edit = Callable[[ContactPlan], Any]


class ContactDesk:
    """Owns the plan."""

    def __init__(
        self,
        path: Path,
        report: Report,
        dispatch: Callable[[Event], None],
        known_nodes: Callable[[], frozenset[Eid]],
        dtn_ms: Callable[[], int] = lambda: dtn_ms_from_unix(wall_ms() / 1000),
    ) -> None:
        """Read the plan of before; one that is damaged is put aside and reported, and the node goes on without.

        Args:
            path: of the plan's file.
            report: of events.
            dispatch: to the agent.
            known_nodes: those that a plan may name without being asked.
            dtn_ms: DTN time in ms; the host's clock unless told otherwise.

        Errors:
            OSError: the file can't be read or put aside.
        """
        self._path = path
        self._report = report
        self._dispatch = dispatch
        self._known_nodes = known_nodes
        self._dtn_ms = dtn_ms
        self._lock = trio.Lock()
        self._texts: dict[SessionHandle, bytearray] = {}
        """Of imports that come in several requests."""
        self._exported: tuple[object, bytes, list[str]] | None = None
        self.plan = self._load()

    def session_closed(self, session: SessionHandle) -> None:
        """What it has begun to import is forgotten."""
        self._texts.pop(session, None)

    async def list_contacts(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`contacts.list`."""
        sender, receiver = _node_or_none(params["from"]), _node_or_none(params["to"])
        wanted = [
            each for each in self.plan.contacts() if sender in (None, each.sender) and receiver in (None, each.receiver)
        ]
        return {"contacts": [self._row(each) for each in wanted[: params["limit"]]], "total": len(wanted)}

    async def add(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`contacts.add`."""
        said = {name: value for name, value in params.items() if name != "new_nodes" and value is not None}
        try:
            contact = read_contact(said, self._dtn_ms() / 1000)
        except SettingsError as error:
            raise ControlError("bad_params", str(error)) from error
        known = self._known(params)
        try:
            await self._edit(lambda plan: plan.add([contact], known))
        except PlanError as error:
            raise ControlError("bad_params", str(error)) from error
        return {"ref": contact_ref(contact), "total": len(self.plan)}

    async def remove(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`contacts.remove`."""
        refs = params["refs"] or []
        sender, receiver = _node_or_none(params["from"]), _node_or_none(params["to"])
        if bool(refs) + bool(sender or receiver) + params["all"] != 1:
            raise ControlError("bad_params", "contacts.remove: give either refs, or from and to, or all")
        held = {contact_ref(each) for each in self.plan.contacts()} if refs else set()
        unknown = [ref for ref in refs if ref not in held]
        if unknown:
            raise ControlError("not_found", f"the plan has no contact {', '.join(unknown)}")
        gone = await self._edit(lambda plan: plan.remove(refs) if refs else plan.remove_between(sender, receiver))
        return {"removed": len(gone), "total": len(self.plan)}

    async def import_plan(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`contacts.import`."""
        text = self._texts.setdefault(session, bytearray())
        text += params["data"]
        if len(text) > PLAN_TEXT_MAX_BYTES:
            del self._texts[session]
            raise ControlError("too_large", f"a plan has at most {PLAN_TEXT_MAX_BYTES} bytes")
        if not params["is_last"]:
            return {"total": len(self.plan), "warnings": []}
        del self._texts[session]
        reference_s, known, names = self._dtn_ms() / 1000, self._known(params), _names(params["nodes"])
        try:
            read = await trio.to_thread.run_sync(_read, bytes(text), params, names, reference_s)
            await self._edit(lambda plan: _add_text(plan, read, known, params))
        except SettingsError as error:
            raise ControlError("bad_params", str(error)) from error
        past_s = reference_s - PAST_KEPT_S
        over = sum(each.end_s <= past_s for each in read.contacts)
        warnings = [f"{over} contacts ended more than a day ago and are left out"] if over else []
        return {"total": len(self.plan), "warnings": read.warnings + warnings}

    async def export(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`contacts.export`: a text that is asked for again from another byte on is kept meanwhile."""
        asked = self.plan.version, params["form"], tuple(params["nodes"] or ())
        exported = self._exported
        if exported is None or exported[0] != asked:
            contacts, names = self.plan.contacts(), _names(params["nodes"])
            try:
                exported = asked, *await trio.to_thread.run_sync(_render, contacts, params["form"], names)
            except SettingsError as error:
                raise ControlError("failed", str(error)) from error
            self._exported = exported
        data, warnings = exported[1:]
        end = params["offset"] + DATA_SIZE_MAX_BYTES
        if end >= len(data):
            self._exported = None
        return {"data": data[params["offset"] : end], "size_bytes": len(data), "warnings": warnings}

    async def _edit(self, edit: Edit) -> Any:
        """Errors: PlanError, SettingsError as `edit` raises them; ControlError: the disk does not take it."""
        past_s = self._dtn_ms() / 1000 - PAST_KEPT_S
        async with self._lock:
            plan = self.plan.copy()
            try:
                result = await trio.to_thread.run_sync(self._edit_and_write, plan, edit, past_s)
            except OSError as error:
                raise ControlError("failed", f"{self._path} can't be written: {error.strerror}") from error
            before = self.plan.version
            self.plan.become(plan)
            if self.plan.version != before:
                self._report("contacts.changed", {"contacts": len(self.plan)})
                self._dispatch(ContactsChanged())
        return result

    def _edit_and_write(self, plan: ContactPlan, edit: Edit, past_s: float) -> Any:
        version = plan.version
        result = edit(plan)
        plan.forget_before(past_s)
        if plan.version != version:
            write_state(self._path, encode_plan(plan))
        return result

    def _load(self) -> ContactPlan:
        data = read_state(self._path, PLAN_FILE_MAX_BYTES)
        if data is None:
            return ContactPlan()
        try:
            return decode_plan_untrusted(data)
        except PlanError as error:
            aside = self._path.with_suffix(".damaged")
            self._path.replace(aside)
            self._report("contacts.alarm", {"reason": f"{error} (the file is {aside} now)"})
            return ContactPlan()

    def _known(self, params: dict[str, Any]) -> frozenset[Eid] | None:
        return None if params["new_nodes"] else self._known_nodes() | self.plan.nodes()

    def _row(self, contact: Contact) -> dict[str, Any]:
        now_s = self._dtn_ms() / 1000
        is_over = contact.end_s <= now_s
        return {
            "ref": contact_ref(contact),
            "from": contact.sender.uri,
            "to": contact.receiver.uri,
            "bearer": contact.bearer or None,
            "state": "over" if is_over else "now" if contact.start_s <= now_s else "to come",
            "start_ms": unix_ms(round(contact.start_s * 1000)),
            "end_ms": None if contact.end_s == float("inf") else unix_ms(round(contact.end_s * 1000)),
            "rate_bps": contact.rate_bps,
            "delay_s": contact.owd_s,
            "loss": contact.loss,
            "confidence": contact.confidence,
            "radiates": contact.radiates,
        }


def _read(data: bytes, params: dict[str, Any], names: dict[int, Eid], reference_s: float) -> PlanText:
    """Errors: ConfigurationError."""
    name = params["name"]
    text = decode_text(data, name)
    if params["form"] == "ion":
        return parse_plan_ion_untrusted(text, name, reference_s, names)
    return parse_plan_toml_untrusted(text, name, reference_s)


def _add_text(plan: ContactPlan, text: PlanText, known: frozenset[Eid] | None, params: dict[str, Any]) -> None:
    """Errors: ConfigurationError."""
    try:
        plan.add(text.contacts, known, replaces=params["replace"])
    except PlanError as error:
        raise text.explain(error, params["name"]) from error


def _render(contacts: list[Contact], form: str, names: dict[int, Eid]) -> tuple[bytes, list[str]]:
    """Errors: SettingsError."""
    if form == "ion":
        text, warnings = render_plan_ion(contacts, {node: number for number, node in names.items()})
        return text.encode(), warnings
    return render_plan_toml(contacts).encode(), []


def _names(texts: list[str] | None) -> dict[int, Eid]:
    """`7=dtn://home/` and so on."""
    names: dict[int, Eid] = {}
    for text in texts or ():
        number, equals, node = text.partition("=")
        if not equals or not number.isdecimal() or len(number) > 10:
            raise ControlError("bad_params", f"{text!r} names no node: write one such as 7=dtn://home/")
        names[int(number)] = _node(node)
    return names


def _node_or_none(text: str | None) -> Eid | None:
    return None if text is None else _node(text)


def _node(text: str) -> Eid:
    try:
        return check_node_id(parse_eid(text))
    except EidError as error:
        raise ControlError("bad_params", str(error)) from error
