# SPDX-License-Identifier: Apache-2.0
"""The methods of the control protocol: one table that drives checking, authorisation, `introspect` and the manual.

A row says what a method takes, whether it changes something (then only some may call it), and what it does. The rows
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

PRECEDENCE_NAMES: Final = ("OVERRIDE", "FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE", "DEFERRED")
WAIT_STATES: Final = ("forwarded", "delivered")
DEFAULT_ENDPOINT: Final = "inbox"
BUNDLES_LISTED_MAX: Final = 10_000
BUNDLES_LISTED_DEFAULT: Final = 1000
CONTACTS_LISTED_MAX: Final = 10_000
CONTACTS_LISTED_DEFAULT: Final = 1000
ROUTES_TO_MAX: Final = 100
"""Nodes to which routes are told at a time."""
PLAN_FORMS: Final = ("toml", "ion")
EVENTS_REPLAYED_MAX: Final = 1024
SUPPORTED_VERSIONS: Final = (CONTROL_VERSION,)


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """One method. `ordered_by` names the parameter whose equal values are served one after the other, in order."""

    name: str
    params: dict[str, ParamSpec]
    doc: str
    mutating: bool = False
    ordered_by: str | None = None


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
    MethodSpec("links", {}, "List the links with their state, posture, counters, score, and why they ended last."),
    MethodSpec(
        "send.message",
        {**_NEW_MESSAGE, "data": ParamSpec(ParamKind.BYTES)},
        "Send a message that fits into one request. Answered when it is stored for good, as `send.close` is.",
        mutating=True,
    ),
    MethodSpec(
        "send.open",
        {**_NEW_MESSAGE, "size_bytes": _integer(nullable=True, maximum=MESSAGE_SIZE_MAX_BYTES)},
        "Begin a message to an endpoint. `endpoint` is the application of this node that it comes from.",
        mutating=True,
    ),
    MethodSpec(
        "send.data",
        {**_SUBMISSION, "data": ParamSpec(ParamKind.BYTES)},
        "Add data to the message. Answered when the daemon can take more.",
        mutating=True,
        ordered_by="submission",
    ),
    MethodSpec(
        "send.close",
        _SUBMISSION,
        "End the message. Answered when it is stored for good: from then on it is never lost or taken back.",
        mutating=True,
        ordered_by="submission",
    ),
    MethodSpec("send.abort", _SUBMISSION, "Drop the message that was begun.", mutating=True, ordered_by="submission"),
    MethodSpec(
        "message.wait",
        {"message": _text(), "state": _text(choices=WAIT_STATES), "timeout_s": _SECONDS},
        "Wait until a message has reached the state, or one that it never leaves (expired, refused).",
    ),
    MethodSpec(
        "recv.open",
        {"endpoint": _text(DEFAULT_ENDPOINT)},
        "Register as the receiver of an application endpoint of this node.",
        mutating=True,
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
        mutating=True,
    ),
    MethodSpec(
        "recv.read",
        {**_MESSAGE, "offset": _integer(), "size_bytes": _integer(maximum=DATA_SIZE_MAX_BYTES)},
        "Read a piece of the message.",
        mutating=True,
    ),
    MethodSpec(
        "recv.confirm",
        _MESSAGE,
        "Say that the message is safe with the application; the daemon forgets it and reports it delivered.",
        mutating=True,
    ),
    MethodSpec("recv.close", _RECEIVER, "Stop receiving; what is unconfirmed waits.", mutating=True),
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
    MethodSpec("bundles.cancel", _BUNDLE, "Delete a bundle or all parts of a message here.", mutating=True),
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
        mutating=True,
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
        mutating=True,
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
        mutating=True,
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
        {"profile": _text(), "for_s": _SECONDS, "reason": _text(nullable=True)},
        "Order an emission control profile, for a time or until further notice.",
        mutating=True,
    ),
    MethodSpec(
        "events.subscribe",
        {
            "kinds": ParamSpec(ParamKind.TEXTS, None, nullable=True),
            "replay": _integer(0, maximum=EVENTS_REPLAYED_MAX),
        },
        "Send `event` notifications from now on: of these kinds or all, after the last few recent ones.",
    ),
    MethodSpec("reload", {}, "Read the configuration again.", mutating=True),
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
                "mutating": row.mutating,
                "doc": row.doc,
            }
            for row in METHODS.values()
        ],
        "errors": [{"name": row.name, "code": row.code, "doc": row.doc} for row in ERRORS.values()],
    }
