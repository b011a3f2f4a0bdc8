# SPDX-License-Identifier: Apache-2.0
"""The methods of the control protocol: one table that drives checking, authorisation, `introspect` and the manual.

A row says what a method takes, which role may call it, whether a call goes to the audit log, and what it does. The rows
say nothing about how: that is the daemon's, behind its ControlHandler. Times are Unix milliseconds, sizes bytes.
A bundle or message is named by its full ID or by a unique beginning (4 digits or more) of its short reference.
"""

from types import MappingProxyType
from typing import Any, Final

from meshd.base.limits import LIFETIME_MAX_MS, MESSAGE_SIZE_MAX_BYTES
from meshd.base.version import CONTROL_VERSION
from meshd.control.emission_methods import EMISSION_METHODS
from meshd.control.errors import ERRORS
from meshd.control.method_spec import SECONDS, MethodSpec, integer, text
from meshd.control.params import ParamKind, ParamSpec
from meshd.control.roles import Role
from meshd.control.words import (
    AUDIT_LISTED_MAX,
    DATA_SIZE_MAX_BYTES,
    DEFAULT_ENDPOINT,
    PRECEDENCE_NAMES,
    STREAM_TIERS,
    WAIT_STATES,
)

BUNDLES_LISTED_MAX: Final = 10_000
BUNDLES_LISTED_DEFAULT: Final = 1000
CONTACTS_LISTED_MAX: Final = 10_000
CONTACTS_LISTED_DEFAULT: Final = 1000
ROUTES_TO_MAX: Final = 100
"""Nodes to which routes are told at a time."""
ROUTES_LIFETIME_MS: Final = 24 * 3_600_000
"""Of the bundle that routes are asked for, where no other is named."""
AUDIT_LISTED_DEFAULT: Final = 100
PLAN_FORMS: Final = ("toml", "ion")
EVENTS_REPLAYED_MAX: Final = 1024
STREAM_LATENCY_MAX_MS: Final = 60_000
STREAM_WINDOW_MAX_MS: Final = 366 * 24 * 3_600_000
SUPPORTED_VERSIONS: Final = (CONTROL_VERSION,)

_BUNDLE: Final = {"bundle": text()}
_SUBMISSION: Final = {"submission": integer()}
_RECEIVER: Final = {"receiver": integer()}
_NEW_MESSAGE: Final = {
    "destination": text(),
    "precedence": text("ROUTINE", choices=PRECEDENCE_NAMES),
    "lifetime_ms": integer(nullable=True, maximum=LIFETIME_MAX_MS),
    "report": ParamSpec(ParamKind.SWITCH, default=True),
    "endpoint": text(DEFAULT_ENDPOINT),
}
_MESSAGE: Final = {**_RECEIVER, "message": text()}

_PLAN_FORM: Final = {
    "form": text("toml", choices=PLAN_FORMS),
    "nodes": ParamSpec(ParamKind.TEXTS, None, nullable=True),
}
_NEW_NODES: Final = {"new_nodes": ParamSpec(ParamKind.SWITCH, default=False)}

_ROWS: Final = (
    MethodSpec(
        "hello",
        {"version": integer(), "client": text("")},
        "Begin the session. Answers with the version in use, the node, the daemon's version, the methods and the"
        " limit of a frame. Has to be the first request.",
    ),
    MethodSpec("introspect", {}, "List the methods with their parameters, the errors and the version."),
    MethodSpec("status", {}, "Tell how the node is: clock, store, links, queues, emission control, memory."),
    MethodSpec("peers", {}, "List the neighbours with their state (up, down, silent) and what waits for them."),
    MethodSpec(
        "peers.set_silent",
        {"node": text(), "until_ms": integer(nullable=True)},
        "Say that a neighbour is silent on order: it is not dead, is sent to blind, and nothing is routed through it.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec("peers.clear_silent", {"node": text()}, "Say that it is not.", role=Role.OPERATOR, audited=True),
    MethodSpec("links", {}, "List the links with their state, posture, counters, score, and why they ended last."),
    MethodSpec(
        "send.message",
        {**_NEW_MESSAGE, "data": ParamSpec(ParamKind.BYTES)},
        "Send a message that fits into one request. Answered when it is stored for good, as `send.close` is.",
        role=Role.OPERATOR,
    ),
    MethodSpec(
        "send.open",
        {**_NEW_MESSAGE, "size_bytes": integer(nullable=True, maximum=MESSAGE_SIZE_MAX_BYTES)},
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
        {"message": text(), "state": text(choices=WAIT_STATES), "timeout_s": SECONDS},
        "Wait until a message has reached the state, or one that it never leaves (expired, refused).",
    ),
    MethodSpec(
        "recv.open",
        {"endpoint": text(DEFAULT_ENDPOINT)},
        "Register as the receiver of an application endpoint of this node.",
        role=Role.OPERATOR,
    ),
    MethodSpec(
        "recv.next",
        {
            **_RECEIVER,
            "timeout_s": SECONDS,
            "data_max_bytes": integer(0, maximum=DATA_SIZE_MAX_BYTES),
        },
        "Wait for a message; the same one again until it is confirmed. Content of one bundle up to `data_max_bytes`"
        " comes along as `data`; other content has to be read.",
        role=Role.OPERATOR,
    ),
    MethodSpec(
        "recv.read",
        {**_MESSAGE, "offset": integer(), "size_bytes": integer(maximum=DATA_SIZE_MAX_BYTES)},
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
            "limit": integer(BUNDLES_LISTED_DEFAULT, maximum=BUNDLES_LISTED_MAX),
            "destination": text(nullable=True),
            "state": text(nullable=True),
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
            "limit": integer(CONTACTS_LISTED_DEFAULT, maximum=CONTACTS_LISTED_MAX),
            "from": text(nullable=True),
            "to": text(nullable=True),
        },
        "List the contact plan, by start.",
    ),
    MethodSpec(
        "contacts.add",
        {
            "from": text(),
            "to": text(),
            "bearer": text(nullable=True),
            "start": text("+0 s"),
            "end": text(nullable=True),
            "rate": text(),
            "delay": text("0 s"),
            "loss": text("0 %"),
            "confidence": text("100 %"),
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
            "from": text(nullable=True),
            "to": text(nullable=True),
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
            "name": text("plan"),
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
        {**_PLAN_FORM, "offset": integer(0)},
        "The plan as text from this byte on, in pieces; `size_bytes` is all of it.",
    ),
    MethodSpec(
        "routes.list",
        {
            "to": text(nullable=True),
            "size_bytes": integer(1024, maximum=MESSAGE_SIZE_MAX_BYTES),
            "precedence": text("ROUTINE", choices=PRECEDENCE_NAMES),
            "at": text(nullable=True),
            "lifetime_ms": integer(ROUTES_LIFETIME_MS, maximum=LIFETIME_MAX_MS),
        },
        "Every way that a bundle of this size, precedence and lifetime could take from here, to one node or to all, now"
        " or at a time to come, with its arithmetic hop by hop.",
    ),
    MethodSpec(
        "streams.publish",
        {
            "name": text(),
            "input": text(nullable=True),
            "to": ParamSpec(ParamKind.TEXTS),
            "latency_ms": integer(1000, maximum=STREAM_LATENCY_MAX_MS),
            "tiers": text("auto", choices=STREAM_TIERS),
            "window_ms": integer(2 * 3_600_000, maximum=STREAM_WINDOW_MAX_MS),
            "precedence": text("PRIORITY", choices=PRECEDENCE_NAMES),
            "label": text(""),
        },
        "Begin a stream to groups (`dtn://GROUP/~stream`) and nodes. `input` is an address; without one this session"
        " feeds the stream, which ends with it.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "streams.feed",
        {
            "feed": integer(),
            "data": ParamSpec(ParamKind.BYTES),
            "is_last": ParamSpec(ParamKind.SWITCH, default=False),
        },
        "Feed a stream as it comes, at its pace. Answered when the daemon can take more.",
        role=Role.OPERATOR,
        ordered_by="feed",
    ),
    MethodSpec("streams.list", {"name": text(nullable=True)}, "Tell of all streams, or of one, with its figures."),
    MethodSpec(
        "streams.watch",
        {"name": text(), "output": text(), "latency_ms": integer(nullable=True, maximum=STREAM_LATENCY_MAX_MS)},
        "Put a stream out to a UDP address from now on, also after a restart, and also one that will be published.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "streams.open",
        {"name": text(), "latency_ms": integer(nullable=True, maximum=STREAM_LATENCY_MAX_MS)},
        "Have a stream played to this session.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "streams.next",
        {"reader": integer(), "timeout_s": SECONDS},
        "What was played meanwhile; it is waited for. What is not read in time is lost.",
        role=Role.OPERATOR,
        ordered_by="reader",
    ),
    MethodSpec(
        "streams.read",
        {"name": text(), "span": integer(), "offset": integer(0)},
        "Read a span of the archive from this byte on, as it was ingested, if it is here and bit-identical.",
        role=Role.OPERATOR,
    ),
    MethodSpec(
        "streams.stop",
        {"name": text(), "output": text(nullable=True)},
        "End a stream of this node and all its outputs, or one output.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec("streams.remove", {"name": text()}, "Delete the archive of a stream.", role=Role.OPERATOR, audited=True),
    *EMISSION_METHODS,
    MethodSpec(
        "audit.list",
        {
            "limit": integer(AUDIT_LISTED_DEFAULT, maximum=AUDIT_LISTED_MAX),
            "before": integer(nullable=True),
            "since_ms": integer(nullable=True),
        },
        "Entries of the audit log, the newest first: those below the number `before`, not older than `since_ms`."
        " `more` says whether there are more to ask for.",
        role=Role.SECURITY,
    ),
    MethodSpec(
        "audit.verify",
        {"head": text(nullable=True)},
        "Check the hash chain of the audit log, and that the row that `head` names is in it unchanged.",
        role=Role.SECURITY,
    ),
    MethodSpec(
        "events.subscribe",
        {
            "kinds": ParamSpec(ParamKind.TEXTS, None, nullable=True),
            "replay": integer(0, maximum=EVENTS_REPLAYED_MAX),
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
