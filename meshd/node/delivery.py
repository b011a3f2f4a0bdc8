# SPDX-License-Identifier: Apache-2.0
"""Delivery to applications: parts are gathered into messages, messages are offered one at a time, and confirmed.

A message for an application that is not there waits for it, until it expires.
"""

from collections import OrderedDict
from typing import Final

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, BundleRecord, Part
from meshd.node.sent_messages import message_id_of

_WHOLE: Final = Part(0, 0, 0, 0, is_last=True)
"""Stands for the part block that a message of one bundle does without."""


class IncomingMessage:
    """One message on its way together; `parts` by index."""

    __slots__ = ("destination", "id", "last_index", "parts", "receiver")

    def __init__(self, message: BundleId, destination: Eid) -> None:
        self.id = message
        self.destination = destination
        self.parts: dict[int, BundleId] = {}
        self.last_index: int | None = None
        self.receiver: int | None = None
        """Whom it is offered to at the moment."""

    @property
    def is_complete(self) -> bool:
        """All parts are here."""
        return self.last_index is not None and len(self.parts) == self.last_index + 1

    def has_place_for(self, part: Part) -> bool:
        """False for a part that is here already, lies behind the last one, or would be a last one among others."""
        if part.index in self.parts:
            return False
        if self.last_index is not None:
            return part.index < self.last_index and not part.is_last
        return not part.is_last or all(index < part.index for index in self.parts)

    def part_ids(self) -> list[BundleId]:
        """In order."""
        return [self.parts[index] for index in sorted(self.parts)]


class Offer:
    """A message that a receiver shall get now."""

    __slots__ = ("message", "receiver")

    def __init__(self, receiver: int, message: IncomingMessage) -> None:
        self.receiver = receiver
        self.message = message


class Delivery:
    """Owns incoming messages and the receivers that wait for them."""

    def __init__(self) -> None:
        self._messages: dict[tuple[BundleId, Eid], IncomingMessage] = {}
        self._incomplete: dict[BundleId, None] = {}
        """Messages that lack a part, oldest first."""
        self._ready: dict[Eid, OrderedDict[BundleId, IncomingMessage]] = {}
        self._receivers: dict[int, Eid] = {}
        self._idle: dict[Eid, OrderedDict[int, None]] = {}
        self._offered: dict[int, IncomingMessage] = {}

    def has_place_for(self, record: BundleRecord) -> bool:
        """False when the bundle contradicts what is here of its message: the first one to say something wins."""
        message = self._messages.get((message_id_of(record.id, record.part), record.destination))
        return message is None or message.has_place_for(record.part or _WHOLE)

    def add(self, record: BundleRecord) -> Offer | None:
        """A durable bundle that has a place is at its destination; returns an offer when it completes a message that
        is waited for.
        """
        part = record.part
        message_id = message_id_of(record.id, part)
        key = (message_id, record.destination)
        message = self._messages.get(key)
        if message is None:
            message = self._messages[key] = IncomingMessage(message_id, record.destination)
        message.parts[part.index if part else 0] = record.id
        if part is None:
            message.last_index = 0
        elif part.is_last:
            message.last_index = part.index
        if not message.is_complete:
            self._incomplete.setdefault(message_id)
            return None
        self._incomplete.pop(message_id, None)
        self._ready.setdefault(record.destination, OrderedDict())[message_id] = message
        return self._match(record.destination)

    def may_grow(self, message: BundleId) -> bool:
        """Whether this message is the oldest of those that lack a part, or there is none."""
        return next(iter(self._incomplete), message) == message

    def lacks_a_part(self, message: BundleId) -> None:
        """A message, or an ADU in fragments, is not complete."""
        self._incomplete.setdefault(message)

    def lacks_no_fragment(self, message: BundleId, destination: Eid) -> None:
        """No fragments are waited for any more: if it has no parts here that wait for others, it is gone."""
        if (message, destination) not in self._messages:
            self._incomplete.pop(message, None)

    def attach(self, receiver: int, endpoint: Eid) -> Offer | None:
        """An application waits for messages to this endpoint."""
        self._receivers[receiver] = endpoint
        self._idle.setdefault(endpoint, OrderedDict())[receiver] = None
        return self._match(endpoint)

    def detach(self, receiver: int) -> Offer | None:
        """It is gone; what it had not confirmed is offered to the next one at once."""
        endpoint = self._receivers.pop(receiver, None)
        if endpoint is None:
            return None
        idle = self._idle.get(endpoint)
        if idle is not None:
            idle.pop(receiver, None)
            if not idle:
                del self._idle[endpoint]
        message = self._offered.pop(receiver, None)
        if message is None:
            return None
        message.receiver = None
        ready = self._ready.setdefault(endpoint, OrderedDict())
        ready[message.id] = message
        ready.move_to_end(message.id, last=False)
        return self._match(endpoint)

    def confirm(self, receiver: int, message_id: BundleId) -> IncomingMessage | None:
        """The application has it; the message's bundles may go. None when it was not offered to this receiver."""
        message = self._offered.get(receiver)
        if message is None or message.id != message_id:
            return None
        del self._offered[receiver]
        del self._messages[(message.id, message.destination)]
        return message

    def next_for(self, receiver: int) -> Offer | None:
        """The receiver is free again."""
        endpoint = self._receivers.get(receiver)
        if endpoint is None:
            return None
        self._idle.setdefault(endpoint, OrderedDict())[receiver] = None
        return self._match(endpoint)

    def remove(self, record: BundleRecord) -> Offer | None:
        """A bundle has expired or was cancelled: its message can't be completed any more."""
        message_id = message_id_of(record.id, record.part)
        message = self._messages.get((message_id, record.destination))
        if message is None:
            return None
        message.parts = {index: bundle for index, bundle in message.parts.items() if bundle != record.id}
        ready = self._ready.get(record.destination)
        if ready is not None:
            ready.pop(message_id, None)
            if not ready:
                del self._ready[record.destination]
        if message.receiver is not None:
            self._offered.pop(message.receiver, None)
            self._idle.setdefault(message.destination, OrderedDict())[message.receiver] = None
            message.receiver = None
        if message.parts:
            self._incomplete.setdefault(message_id)
        else:
            self._incomplete.pop(message_id, None)
            del self._messages[(message_id, record.destination)]
        return self._match(record.destination)

    def _match(self, endpoint: Eid) -> Offer | None:
        ready, idle = self._ready.get(endpoint), self._idle.get(endpoint)
        if not ready or not idle:
            return None
        receiver, _ = idle.popitem(last=False)
        _, message = ready.popitem(last=False)
        if not idle:
            del self._idle[endpoint]
        if not ready:
            del self._ready[endpoint]
        message.receiver = receiver
        self._offered[receiver] = message
        return Offer(receiver, message)
