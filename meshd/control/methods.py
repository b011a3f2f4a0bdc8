# SPDX-License-Identifier: Apache-2.0
"""The methods of the control protocol: one table that drives checking, authorisation, `introspect` and the manual.

A row says what a method takes, which role may call it, whether a call goes to the audit log, and what it does. The rows
say nothing about how: that is the daemon's, behind its ControlHandler. Times are Unix milliseconds, sizes bytes.
A bundle or message is named by its full ID or by a unique beginning (4 digits or more) of its short reference.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from meshd.base.limits import LIFETIME_MAX_MS, MESSAGE_SIZE_MAX_BYTES
from meshd.base.version import CONTROL_VERSION
from meshd.control.errors import ERRORS
from meshd.control.params import DATA_SIZE_MAX_BYTES, REQUIRED, ParamKind, ParamSpec
from meshd.control.roles import Role

PRECEDENCE_NAMES: Final = ("OVERRIDE", "FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE", "DEFERRED")
WAIT_STATES: Final = ("forwarded", "delivered")
DEFAULT_ENDPOINT: Final = "inbox"
BUNDLES_LISTED_MAX: Final = 10_000
BUNDLES_LISTED_DEFAULT: Final = 1000
CONTACTS_LISTED_MAX: Final = 10_000
CONTACTS_LISTED_DEFAULT: Final = 1000
ROUTES_TO_MAX: Final = 100
"""Nodes to which routes are told at a time."""
AUDIT_LISTED_MAX: Final = 500
AUDIT_LISTED_DEFAULT: Final = 100
PLAN_FORMS: Final = ("toml", "ion")
EVENTS_REPLAYED_MAX: Final = 1024
SUPPORTED_VERSIONS: Final = (CONTROL_VERSION,)


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """One method. `ordered_by` names the parameter whose equal values are served one after the other, in order.

    `audited`: each call goes to the audit log, also a good one. Those are the operators' actions on the node; messages
    are not among them: they have a history of their own, and an entry for each would cost a write to the disk.
    """

    name: str
    params: dict[str, ParamSpec]
    doc: str
    role: Role = Role.VIEWER
    ordered_by: str | None = None
    audited: bool = False
    breaks_silence: bool = False
    """Needs the right to break silence, beside the role."""


def _text(default: Any = REQUIRED, *, nullable: bool = False, choices: tuple[str, ...] = ()) -> ParamSpec:
    return ParamSpec(ParamKind.TEXT, None if nullable else default, nullable, choices=choices)


def _integer(default: Any = REQUIRED, *, nullable: bool = False, maximum: int = (1 << 63) - 1) -> ParamSpec:
    return ParamSpec(ParamKind.INTEGER, None if nullable else default, nullable, maximum)


_SECONDS: Final = ParamSpec(ParamKind.SECONDS, None, nullable=True)
_BUNDLE: Final = {"bundle": _text()}
_SUBMISSION: Final = {"submission": _integer()}
_RECEIVER: Final = {"receiver": _integer()}
_NEW_MESSAGE: Final = {
    "destination": _text(),
    "precedence": _text("ROUTINE", choices=PRECEDENCE_NAMES),
    "lifetime_ms": _integer(nullable=True, maximum=LIFETIME_MAX_MS),
    "report": ParamSpec(ParamKind.SWITCH, default=True),
    "endpoint": _text(DEFAULT_ENDPOINT),
}
_ORDER: Final = {
    "for_s": _SECONDS,
    "until_ms": _integer(nullable=True),
    "reason": _text(nullable=True),
    "announce": ParamSpec(ParamKind.SWITCH, default=False),
}
_SCHEDULE: Final = {
    "rows": ParamSpec(ParamKind.TEXTS),
    "otherwise": _text("silent"),
    "margin_s": ParamSpec(ParamKind.SECONDS, 2.0),
}
_MESSAGE: Final = {**_RECEIVER, "message": _text()}

_PLAN_FORM: Final = {
    "form": _text("toml", choices=PLAN_FORMS),
    "nodes": ParamSpec(ParamKind.TEXTS, None, nullable=True),
}
_NEW_NODES: Final = {"new_nodes": ParamSpec(ParamKind.SWITCH, default=False)}

_ROWS: Final = (
    MethodSpec(
        "hello",
        {"version": _integer(), "client": _text("")},
        "Begin the session. Answers with the version in use, the node, the daemon's version, the methods and the"
        " limit of a frame. Has to be the first request.",
    ),
    MethodSpec("introspect", {}, "List the methods with their parameters, the errors and the version."),
    MethodSpec("status", {}, "Tell how the node is: clock, store, links, queues, emission control, memory."),
    MethodSpec("peers", {}, "List the neighbours with their state (up, down, silent) and what waits for them."),
    MethodSpec(
        "peers.set_silent",
        {"node": _text(), "until_ms": _integer(nullable=True)},
        "Say that a neighbour is silent on order: it is not dead, is sent to blind, and nothing is routed through it.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec("peers.clear_silent", {"node": _text()}, "Say that it is not.", role=Role.OPERATOR, audited=True),
    MethodSpec("links", {}, "List the links with their state, posture, counters, score, and why they ended last."),
    MethodSpec(
        "send.message",
        {**_NEW_MESSAGE, "data": ParamSpec(ParamKind.BYTES)},
        "Send a message that fits into one request. Answered when it is stored for good, as `send.close` is.",
        role=Role.OPERATOR,
    ),
    MethodSpec(
        "send.open",
        {**_NEW_MESSAGE, "size_bytes": _integer(nullable=True, maximum=MESSAGE_SIZE_MAX_BYTES)},
        "Begin a message to an endpoint. `endpoint` is the application of this node that it comes from.",
        role=Role.OPERATOR,
    ),
    MethodSpec(
        "send.data",
        {**_SUBMISSION, "data": ParamSpec(ParamKind.BYTES)},
        "Add data to the message. Answered when the daemon can take more.",
        role=Role.OPERATOR,
        ordered_by="submission",
    ),
    MethodSpec(
        "send.close",
        _SUBMISSION,
        "End the message. Answered when it is stored for good: from then on it is never lost or taken back.",
        role=Role.OPERATOR,
        ordered_by="submission",
    ),
    MethodSpec(
        "send.abort", _SUBMISSION, "Drop the message that was begun.", role=Role.OPERATOR, ordered_by="submission"
    ),
    MethodSpec(
        "message.wait",
        {"message": _text(), "state": _text(choices=WAIT_STATES), "timeout_s": _SECONDS},
        "Wait until a message has reached the state, or one that it never leaves (expired, refused).",
    ),
    MethodSpec(
        "recv.open",
        {"endpoint": _text(DEFAULT_ENDPOINT)},
        "Register as the receiver of an application endpoint of this node.",
        role=Role.OPERATOR,
    ),
    MethodSpec(
        "recv.next",
        {
            **_RECEIVER,
            "timeout_s": _SECONDS,
            "data_max_bytes": _integer(0, maximum=DATA_SIZE_MAX_BYTES),
        },
        "Wait for a message; the same one again until it is confirmed. Content of one bundle up to `data_max_bytes`"
        " comes along as `data`; other content has to be read.",
        role=Role.OPERATOR,
    ),
    MethodSpec(
        "recv.read",
        {**_MESSAGE, "offset": _integer(), "size_bytes": _integer(maximum=DATA_SIZE_MAX_BYTES)},
        "Read a piece of the message.",
        role=Role.OPERATOR,
    ),
    MethodSpec(
        "recv.confirm",
        _MESSAGE,
        "Say that the message is safe with the application; the daemon forgets it and reports it delivered.",
        role=Role.OPERATOR,
    ),
    MethodSpec("recv.close", _RECEIVER, "Stop receiving; what is unconfirmed waits.", role=Role.OPERATOR),
    MethodSpec(
        "bundles.list",
        {
            "limit": _integer(BUNDLES_LISTED_DEFAULT, maximum=BUNDLES_LISTED_MAX),
            "destination": _text(nullable=True),
            "state": _text(nullable=True),
        },
        "List the bundles that the node holds.",
    ),
    MethodSpec("bundles.show", _BUNDLE, "Tell all about one bundle, with its history."),
    MethodSpec("bundles.explain", _BUNDLE, "Say in words why a bundle is where it is."),
    MethodSpec(
        "bundles.cancel", _BUNDLE, "Delete a bundle or all parts of a message here.", role=Role.OPERATOR, audited=True
    ),
    MethodSpec(
        "contacts.list",
        {
            "limit": _integer(CONTACTS_LISTED_DEFAULT, maximum=CONTACTS_LISTED_MAX),
            "from": _text(nullable=True),
            "to": _text(nullable=True),
        },
        "List the contact plan, by start.",
    ),
    MethodSpec(
        "contacts.add",
        {
            "from": _text(),
            "to": _text(),
            "bearer": _text(nullable=True),
            "start": _text("+0 s"),
            "end": _text(nullable=True),
            "rate": _text(),
            "delay": _text("0 s"),
            "loss": _text("0 %"),
            "confidence": _text("100 %"),
            "radiates": ParamSpec(ParamKind.SWITCH, default=False),
            **_NEW_NODES,
        },
        "Add a contact to the plan, in the words of a plan in TOML. `new_nodes` allows nodes that neither the"
        " configuration nor the plan names.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "contacts.remove",
        {
            "refs": ParamSpec(ParamKind.TEXTS, None, nullable=True),
            "from": _text(nullable=True),
            "to": _text(nullable=True),
            "all": ParamSpec(ParamKind.SWITCH, default=False),
        },
        "Remove contacts from the plan: those of these names, those from and to these nodes, or all.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "contacts.import",
        {
            "data": ParamSpec(ParamKind.BYTES),
            "is_last": ParamSpec(ParamKind.SWITCH, default=True),
            "name": _text("plan"),
            **_PLAN_FORM,
            "replace": ParamSpec(ParamKind.SWITCH, default=False),
            **_NEW_NODES,
        },
        "Add a plan to the plan, or put it in its place: all of it or, if anything is wrong, nothing. A long text comes"
        " in several requests, one after the other. `nodes` names nodes of the ION form: `7=dtn://home/`.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "contacts.export",
        {**_PLAN_FORM, "offset": _integer(0)},
        "The plan as text from this byte on, in pieces; `size_bytes` is all of it.",
    ),
    MethodSpec(
        "routes.list",
        {
            "to": _text(nullable=True),
            "size_bytes": _integer(1024, maximum=MESSAGE_SIZE_MAX_BYTES),
            "precedence": _text("ROUTINE", choices=PRECEDENCE_NAMES),
            "at": _text(nullable=True),
        },
        "Every way that a bundle of this size and precedence could take from here, to one node or to all, now or at a"
        " time to come, with its arithmetic hop by hop.",
    ),
    MethodSpec("emcon.status", {}, "Tell the profile in force, who ordered it, and posture and gate per bearer."),
    MethodSpec(
        "emcon.set",
        {"profile": _text(), **_ORDER},
        "Order an emission control profile, for a time or until further notice. `scheduled` leaves it to the schedule.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "emcon.schedule",
        {**_SCHEDULE, **_ORDER},
        "Order that a schedule decides. A row is such as `unrestricted from 00:00 for 5min every 1h`, in Zulu; where no"
        " row holds, `otherwise` does. Windows open later and end sooner by the margin.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "emcon.preview",
        {"profile": _text(), **_SCHEDULE, "rows": ParamSpec(ParamKind.TEXTS, None, nullable=True)},
        "Tell what an order would change: postures, neighbours that would be cut off, bundles that would wait.",
    ),
    MethodSpec(
        "emcon.verify",
        {},
        "Compare, per bearer, what the gate, the device and the node itself counted since its posture changed.",
    ),
    MethodSpec(
        "audit.list",
        {
            "limit": _integer(AUDIT_LISTED_DEFAULT, maximum=AUDIT_LISTED_MAX),
            "before": _integer(nullable=True),
            "since_ms": _integer(nullable=True),
        },
        "Entries of the audit log, the newest first: those below the number `before`, not older than `since_ms`."
        " `more` says whether there are more to ask for.",
        role=Role.SECURITY,
    ),
    MethodSpec(
        "audit.verify",
        {"head": _text(nullable=True)},
        "Check the hash chain of the audit log, and that the row that `head` names is in it unchanged.",
        role=Role.SECURITY,
    ),
    MethodSpec(
        "events.subscribe",
        {
            "kinds": ParamSpec(ParamKind.TEXTS, None, nullable=True),
            "replay": _integer(0, maximum=EVENTS_REPLAYED_MAX),
        },
        "Send `event` notifications from now on: of these kinds or all, after the last few recent ones.",
    ),
    MethodSpec("reload", {}, "Read the configuration again.", role=Role.ADMIN, audited=True),
)
METHODS: Final = MappingProxyType({row.name: row for row in _ROWS})
"""Every method by its name."""


def introspection() -> dict[str, Any]:
    """The answer to `introspect`, made from the tables."""
    return {
        "version": CONTROL_VERSION,
        "methods": [
            {
                "name": row.name,
                "params": {name: spec.describe() for name, spec in row.params.items()},
                "role": row.role.value,
                "breaks_silence": row.breaks_silence,
                "audited": row.audited,
                "doc": row.doc,
            }
            for row in METHODS.values()
        ],
        "errors": [{"name": row.name, "code": row.code, "doc": row.doc} for row in ERRORS.values()],
    }
