# SPDX-License-Identifier: Apache-2.0
"""Answers about bundles and messages: `bundles.*` and `message.wait` of the control protocol.

A look-up by short reference goes through everything that is here, with pauses for the rest of the daemon.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import trio

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.errors import BundleError
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleId, BundleRecord, bundle_id_text, bundle_ref, parse_bundle_id_text
from meshd.control.errors import ControlError
from meshd.daemon.dtn_clock import unix_ms
from meshd.daemon.event_hub import EventHub
from meshd.node.agent import Agent
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.events import BundleCancelled, Event
from meshd.node.sent_messages import Message, MessageState, message_id_of

REF_DIGITS_MIN: Final = 4
PAUSE_EVERY: Final = 500
"""Bundles looked at between two pauses."""

_RANK: Final = {MessageState.QUEUED: 0, MessageState.FORWARDED: 1, MessageState.DELIVERED: 2}


class Queries:
    """Serves questions about bundles and messages from the agent's tables and the recent events."""

    def __init__(
        self,
        agent: Agent,
        hub: EventHub,
        dispatch: Callable[[Event], None],
        explain_ways: Callable[[Entry], Sequence[str]] = lambda _: (),
    ) -> None:
        """`explain_ways` says in words which ways a bundle has."""
        self._explain_ways = explain_ways
        self._agent = agent
        self._hub = hub
        self._dispatch = dispatch
        self._message_changed = trio.Event()

    def message_changed(self) -> None:
        """Wake those that wait for a message's state."""
        self._message_changed.set()
        self._message_changed = trio.Event()

    async def list_bundles(self, params: dict[str, Any]) -> dict[str, Any]:
        """`bundles.list`."""
        destination, state = params["destination"], params["state"]
        states = [each.value for each in BundleState]
        if state is not None and state not in states:
            raise ControlError("bad_params", f"state {state!r} is none of {', '.join(states)}")
        rows: list[dict[str, Any]] = []
        total = 0
        async for entry in self._entries():
            uri = entry.record.destination.uri
            if destination is not None and destination not in (uri, entry.record.destination.node.uri):
                continue
            if state is not None and entry.state.value != state:
                continue
            total += 1
            if len(rows) < params["limit"]:
                rows.append(_row(entry))
        return {"bundles": rows, "total": total}

    async def show(self, params: dict[str, Any]) -> dict[str, Any]:
        """`bundles.show`: a bundle that is here, or what is known of a message that was sent from here."""
        entry, message = await self._find(params["bundle"])
        if entry is None:
            assert message is not None, "one of the two was found"
            return _message_row(message) | {"history": _message_history(message)}
        record = entry.record
        return _row(entry) | {
            "flags": [flag.name for flag in BundleFlag if record.flags & flag],
            "lifetime_ms": record.expiry_ms - record.received_ms,
            "previous_node": record.previous_node.uri if record.previous_node else None,
            "next_hops": [str(entry.link)] if entry.link else [],
            "waiting_for": entry.reason or None,
            "attempts": entry.attempts,
            "history": self._history(record.id, message),
        }

    async def explain(self, params: dict[str, Any]) -> dict[str, Any]:
        """`bundles.explain`."""
        entry, message = await self._find(params["bundle"])
        if entry is None:
            assert message is not None, "one of the two was found"
            bundle = parse_bundle_id_text(message.id_text)
            return {
                "id": message.id_text,
                "ref": bundle_ref(bundle),
                "state": message.state.value,
                "summary": _explain_message(message),
                "steps": [f"sent from here to {message.destination} in {message.parts} bundle(s)"],
                "history": self._history(bundle, message),
            }
        record = entry.record
        return {
            "id": bundle_id_text(record.id),
            "ref": bundle_ref(record.id),
            "state": entry.state.value,
            "summary": _explain_entry(entry),
            "steps": [*_steps(entry), *self._explain_ways(entry)],
            "history": self._history(record.id, message),
        }

    async def cancel(self, params: dict[str, Any], by: str) -> dict[str, Any]:
        """`bundles.cancel`: one bundle, or every part of a message that is still here."""
        entry, message = await self._find(params["bundle"])
        if entry is None:
            assert message is not None, "one of the two was found"
            raise ControlError(
                "not_found", f"message {message.id_text} has left this node: it is {message.state.value}"
            )
        before = self._agent.bundle_count
        self._dispatch(BundleCancelled(message_id_of(entry.record.id, entry.record.part), by))
        return {"cancelled": before - self._agent.bundle_count}

    async def wait(self, params: dict[str, Any]) -> dict[str, Any]:
        """`message.wait`."""
        message = await self._find_message(params["message"])
        wanted = _RANK[MessageState(params["state"])]
        timeout_s = params["timeout_s"]
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            while _RANK.get(message.state, wanted) < wanted:
                await self._message_changed.wait()
        if _RANK.get(message.state, wanted) < wanted:
            raise ControlError("timeout", f"message {message.id_text} is {message.state.value} after {timeout_s:g} s")
        bundle = parse_bundle_id_text(message.id_text)
        return {
            "message": message.id_text,
            "ref": bundle_ref(bundle),
            "state": message.state.value,
            "reason": message.reason or None,
        }

    async def _entries(self) -> AsyncIterator[Entry]:
        for index, bundle in enumerate(self._agent.bundle_ids()):
            if index % PAUSE_EVERY == PAUSE_EVERY - 1:
                await trio.lowlevel.checkpoint()
            entry = self._agent.entry(bundle)
            if entry is not None:
                yield entry

    async def find_bundle(self, text: str) -> Entry:
        """The bundle here that this ID or reference means. Errors: ControlError."""
        entry, _ = await self._find(text)
        if entry is None:
            raise ControlError("not_found", f"bundle {text} is not here any more")
        return entry

    async def _find(self, text: str) -> tuple[Entry | None, Message | None]:
        """The bundle and the message that this ID or reference means; at least one of them."""
        bundle = _parse(text)
        if bundle is not None:
            entry, message = self._agent.entry(bundle), self._agent.messages.get(bundle_id_text(bundle))
            if entry is None and message is None:
                raise ControlError("not_found", f"no bundle {text} here, and no message of that ID was sent from here")
            return entry, message
        entries = [entry async for entry in self._entries() if bundle_ref(entry.record.id).startswith(text)]
        messages = await self._messages_by_ref(text)
        ids = {bundle_id_text(entry.record.id) for entry in entries} | {message.id_text for message in messages}
        if not ids:
            raise ControlError("not_found", f"no bundle here has a reference that begins with {text}")
        if len(ids) > 1:
            raise ControlError(
                "ambiguous", f"{len(ids)} bundles have references that begin with {text}; give more digits"
            )
        return (entries[0] if entries else None), (messages[0] if messages else None)

    async def _find_message(self, text: str) -> Message:
        bundle = _parse(text)
        if bundle is not None:
            message = self._agent.messages.get(bundle_id_text(bundle))
            messages = [message] if message else []
        else:
            messages = await self._messages_by_ref(text)
        if not messages:
            raise ControlError("not_found", f"no message {text} was sent from here")
        if len(messages) > 1:
            raise ControlError("ambiguous", f"{len(messages)} messages begin with {text}; give more digits")
        return messages[0]

    async def _messages_by_ref(self, text: str) -> list[Message]:
        found = []
        for index, message in enumerate(list(self._agent.messages.all())):
            if index % PAUSE_EVERY == PAUSE_EVERY - 1:
                await trio.lowlevel.checkpoint()
            if bundle_ref(parse_bundle_id_text(message.id_text)).startswith(text):
                found.append(message)
        return found

    def _history(self, bundle: BundleId, message: Message | None) -> list[dict[str, Any]]:
        """What recent events say of it, with the states of its message; oldest first."""
        ref = bundle_ref(bundle)
        rows = [
            {"time_ms": event.time_ms, "what": _event_text(event.kind, event.fields)}
            for event in self._hub.recent()
            if event.fields.get("bundle") == ref
        ]
        if message is not None:
            rows.extend(_message_history(message))
        return sorted(rows, key=lambda row: row["time_ms"])


def _parse(text: str) -> BundleId | None:
    """A full ID; None for a reference."""
    if "@" not in text:
        if len(text) < REF_DIGITS_MIN or not all(digit in "0123456789abcdef" for digit in text):
            raise ControlError(
                "bad_params",
                f"{text!r} is neither a bundle ID nor the first {REF_DIGITS_MIN} or more digits of a reference",
            )
        return None
    try:
        return parse_bundle_id_text(text)
    except BundleError as error:
        raise ControlError("bad_params", str(error)) from error


def _row(entry: Entry) -> dict[str, Any]:
    record: BundleRecord = entry.record
    part = record.part
    return {
        "id": bundle_id_text(record.id),
        "ref": bundle_ref(record.id),
        "source": record.id.source.uri,
        "destination": record.destination.uri,
        "precedence": Precedence(record.precedence).name,
        "size_bytes": record.size_bytes,
        "state": entry.state.value,
        "expiry_ms": unix_ms(record.expiry_ms),
        "received_ms": unix_ms(record.received_ms),
        "part": {"index": part.index, "last": part.is_last} if part else None,
        "message_ref": bundle_ref(message_id_of(record.id, part)),
    }


def _message_row(message: Message) -> dict[str, Any]:
    bundle = parse_bundle_id_text(message.id_text)
    ref = bundle_ref(bundle)
    return {
        "id": message.id_text,
        "ref": ref,
        "source": bundle.source.uri,
        "destination": message.destination,
        "precedence": Precedence(message.precedence).name,
        "size_bytes": message.size_bytes,
        "state": message.state.value,
        "expiry_ms": unix_ms(message.expiry_ms),
        "received_ms": unix_ms(message.created_ms),
        "part": None,
        "message_ref": ref,
        "flags": [],
        "lifetime_ms": message.expiry_ms - message.created_ms,
        "previous_node": None,
        "next_hops": [],
        "waiting_for": message.reason or None,
    }


def _message_history(message: Message) -> list[dict[str, Any]]:
    return [{"time_ms": unix_ms(time_ms), "what": f"message {what}"} for time_ms, what in message.history]


def _event_text(kind: str, fields: dict[str, Any]) -> str:
    details = " ".join(f"{key}={value}" for key, value in fields.items() if key != "bundle")
    return f"{kind} {details}".rstrip()


def _explain_message(message: Message) -> str:
    match message.state:
        case MessageState.QUEUED:
            return "stored here; not all of its bundles have been taken by a next hop yet"
        case MessageState.FORWARDED:
            return "every bundle of it is safe with a next hop; its destination has not reported delivery yet"
        case MessageState.DELIVERED:
            return "its destination's application has confirmed it"
        case MessageState.EXPIRED:
            return f"its lifetime ended before it was delivered ({message.reason})"
        case MessageState.REFUSED:
            return f"given up: {message.reason}"


def _explain_entry(entry: Entry) -> str:
    match entry.state:
        case BundleState.STORING:
            return "being written to the store; nobody has been told that it is here"
        case BundleState.HELD:
            return "part of a message that its application has not finished"
        case BundleState.WAITING:
            return f"kept until something changes: {entry.reason}"
        case BundleState.QUEUED:
            return f"in the out-queue of {entry.link}, to go when the link has room"
        case BundleState.IN_FLIGHT:
            return f"handed to {entry.link}, not acknowledged by the neighbour yet"
        case BundleState.FRAGMENTING:
            return "being cut into fragments that the next link can take"
        case BundleState.REPLICATING:
            left = entry.copies.left if entry.copies is not None else ()
            return f"to be brought to {', '.join(sorted(node.uri for node in left))} {entry.reason}".rstrip()
        case BundleState.REASSEMBLING:
            return "a fragment at its destination; waits for the other fragments of its bundle"
        case BundleState.FOR_DELIVERY:
            return f"at its destination; waits for an application to receive and confirm {entry.record.destination.uri}"


def _steps(entry: Entry) -> list[str]:
    record = entry.record
    came = f"came from {record.previous_node.uri}" if record.previous_node else "was made here"
    steps = [f"{came} with precedence {Precedence(record.precedence).name}, {record.size_bytes} bytes"]
    if entry.state is not BundleState.STORING:
        steps.append("is durable in the store")
    if entry.attempts:
        steps.append(f"was returned {entry.attempts} time(s)")
    steps.append(_explain_entry(entry))
    return steps
