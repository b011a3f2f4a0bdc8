# SPDX-License-Identifier: Apache-2.0
"""What became of the messages that applications of this node have sent.

A message's state only moves forward: queued, forwarded, then one of delivered, expired, refused. The table is kept in
the store as notes, so that a restart forgets nothing that a user was told.
"""

import enum
from collections.abc import Iterable
from typing import Final

import msgspec

from meshd.bundle.record import BundleId, Part, bundle_id_text

MESSAGES_MAX: Final = 10_000
"""Messages remembered; the oldest that are final go first, then the oldest."""

NOTE_PREFIX: Final = "message/"


class MessageState(enum.Enum):
    """How far a message has come."""

    QUEUED = "queued"
    FORWARDED = "forwarded"
    DELIVERED = "delivered"
    EXPIRED = "expired"
    REFUSED = "refused"


_FINAL: Final = frozenset({MessageState.DELIVERED, MessageState.EXPIRED, MessageState.REFUSED})
_NEXT: Final = {
    MessageState.QUEUED: _FINAL | {MessageState.FORWARDED},
    MessageState.FORWARDED: _FINAL,
    # A delivery report that arrives after our own copy ran out of time tells the truth: it was delivered.
    MessageState.EXPIRED: frozenset({MessageState.DELIVERED}),
    MessageState.REFUSED: frozenset({MessageState.DELIVERED}),
    MessageState.DELIVERED: frozenset(),
}


class Message(msgspec.Struct):
    """One message of ours; also the form of its note in the store."""

    id_text: str
    destination: str
    destination_node: str
    """Only this node may say that it was delivered."""
    precedence: int
    size_bytes: int
    parts: int
    created_ms: int
    """DTN time."""
    expiry_ms: int
    report_on: str
    """ID of the bundle whose delivery report means that the message was delivered: its last part."""
    state: MessageState = MessageState.QUEUED
    reason: str = ""
    history: list[tuple[int, str]] = []
    """(DTN time in ms, what happened)."""
    members: list[str] = []
    """Of a group: the nodes that have not delivered it yet."""

    def may_be_reported_by(self, node: str) -> bool:
        """Whether this node may say what became of the message."""
        return node == self.destination_node or node in self.members

    @property
    def is_final(self) -> bool:
        """Nothing more is expected."""
        return self.state in _FINAL


class SentMessages:
    """Owns the messages and says which notes the store has to keep."""

    def __init__(self) -> None:
        self._messages: dict[str, Message] = {}
        self._left: dict[str, int] = {}
        self._by_report: dict[str, str] = {}
        self._changed: dict[str, bytes] = {}

    def add(self, message: Message) -> None:
        """A submission is complete."""
        message.history.append((message.created_ms, "queued"))
        self._messages[message.id_text] = message
        self._by_report[message.report_on] = message.id_text
        self._left[message.id_text] = message.parts
        self._note(message)
        while len(self._messages) > MESSAGES_MAX:
            self._forget_oldest()

    def recover(self, notes: dict[str, bytes], live: Iterable[BundleId]) -> None:
        """Take over the notes of the last run; `live` are the message IDs of bundles of ours still here."""
        kept = [
            msgspec.msgpack.decode(note, type=Message) for key, note in notes.items() if key.startswith(NOTE_PREFIX)
        ]
        # The store keeps notes in the order of their last change.
        for message in sorted(kept, key=lambda message: message.created_ms):
            self._messages[message.id_text] = message
            self._by_report[message.report_on] = message.id_text
            self._left[message.id_text] = 0
        for bundle in live:
            text = bundle_id_text(bundle)
            if text in self._left:
                self._left[text] += 1

    def get(self, id_text: str) -> Message | None:
        """By the text form of its ID."""
        return self._messages.get(id_text)

    def reported_by(self, bundle: BundleId) -> Message | None:
        """The message whose last part this bundle was."""
        text = self._by_report.get(bundle_id_text(bundle))
        return self._messages.get(text) if text is not None else None

    def forget(self, id_text: str) -> None:
        """The submission failed after all: nobody was told of it."""
        message = self._messages.pop(id_text, None)
        if message is not None:
            self._left.pop(id_text, None)
            self._by_report.pop(message.report_on, None)
            self._changed[NOTE_PREFIX + id_text] = b""

    def all(self) -> Iterable[Message]:
        """Oldest first."""
        return self._messages.values()

    def part_gone(self, message_id: BundleId, now_ms: int) -> Message | None:
        """A neighbour has taken a part. Returns the message when that was its last one here."""
        text = bundle_id_text(message_id)
        left = self._left.get(text)
        if left is None:
            return None
        self._left[text] = left - 1
        if left > 1:
            return None
        return self.advance(text, MessageState.FORWARDED, "", now_ms)

    def part_split(self, message_id: BundleId, more: int) -> None:
        """A part was fragmented: there are so many more bundles of the message here."""
        text = bundle_id_text(message_id)
        if text in self._left:
            self._left[text] += more

    def delivered_at(self, id_text: str, node: str) -> bool:
        """A node has delivered a message. True when that makes it delivered: it was the last member, or no group."""
        message = self._messages.get(id_text)
        if message is None or not message.members:
            return True
        if node in message.members:
            message.members = [member for member in message.members if member != node]
            self._note(message)
        return not message.members

    def advance(self, id_text: str, state: MessageState, reason: str, now_ms: int) -> Message | None:
        """Move a message forward; None when it is unknown or has been there or further."""
        message = self._messages.get(id_text)
        if message is None or state not in _NEXT[message.state]:
            return None
        message.state, message.reason = state, reason
        message.history.append((now_ms, f"{state.value}: {reason}" if reason else state.value))
        self._note(message)
        return message

    def take_notes(self) -> dict[str, bytes]:
        """Notes that changed since the last call, for the store; empty values delete."""
        notes, self._changed = self._changed, {}
        return notes

    def note_again(self, name: str) -> None:
        """The store could not take this note."""
        message = self._messages.get(name.removeprefix(NOTE_PREFIX))
        if message is None:
            self._changed[name] = b""
        else:
            self._note(message)

    def _note(self, message: Message) -> None:
        self._changed[NOTE_PREFIX + message.id_text] = msgspec.msgpack.encode(message)

    def _forget_oldest(self) -> None:
        oldest = next((m for m in self._messages.values() if m.is_final), None) or next(iter(self._messages.values()))
        self.forget(oldest.id_text)


def message_id_of(bundle: BundleId, part: Part | None) -> BundleId:
    """The message that a bundle belongs to: itself, or the bundle that carried part 0."""
    if part is None:
        return bundle if bundle.fragment_offset < 0 else BundleId(bundle.source, bundle.time_ms, bundle.sequence)
    return BundleId(bundle.source, part.first_time_ms, part.first_sequence)
