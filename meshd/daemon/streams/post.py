# SPDX-License-Identifier: Apache-2.0
"""Bundles of streams in and out of this node: numbers of submissions and receivers, and whether a bundle has left.

What arrives is confirmed at once: what a crash loses before it is archived is missing by the manifests, and asked for.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from meshd.base.errors import StoreError
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.bundle.supersession import Supersession
from meshd.daemon.receivers import PartPayload, ReadPiece
from meshd.node.commands import DeliverMessage
from meshd.node.events import (
    DataUnreadable,
    DeliveryConfirmed,
    Event,
    MessagesSubmitted,
    MessageSubmitted,
    ReceiverAttached,
    ReceiverDetached,
)
from meshd.stream.endpoints import fill_endpoint, live_endpoint
from meshd.stream.manifest import MANIFEST_MAX_BYTES
from meshd.stream.piece import PIECE_MAX_BYTES

FIRST_NUMBER: Final = 1 << 40
"""Numbers of submissions and receivers from here on are those of streams."""
PAYLOAD_MAX_BYTES: Final = max(PIECE_MAX_BYTES, MANIFEST_MAX_BYTES)


@dataclass(frozen=True, slots=True)
class Letter:
    """The payload of one bundle of a stream, and how it is to travel."""

    destination: Eid
    data: bytes
    precedence: int
    lifetime_ms: int
    live: Supersession | None = None
    """None: it has to arrive, however late."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came."""

    source: Eid
    data: bytes
    is_live: bool
    """To the live endpoint or a group."""


class StreamPost:
    """Between the streams and the engine."""

    def __init__(
        self,
        dispatch: Callable[[Event], None],
        read_piece: ReadPiece,
        is_here: Callable[[BundleId], bool],
        own_node: Eid,
        take: Callable[[Arrival], None],
    ) -> None:
        """Args: `is_here`: whether the node holds a bundle; `take` gets what arrives."""
        self._dispatch = dispatch
        self._read_piece = read_piece
        self.is_here = is_here
        self.live_endpoint, self.fill_endpoint = live_endpoint(own_node), fill_endpoint(own_node)
        self._take = take
        self._numbers = FIRST_NUMBER
        self._sent: dict[int, Callable[[BundleId | None], None] | None] = {}
        self._receivers: dict[int, Eid] = {}

    @property
    def waiting(self) -> int:
        """Bundles that wait for the node to take them."""
        return len(self._sent)

    def attach(self, groups: Collection[Eid]) -> None:
        """Receive for the endpoints of this node and of these groups, and for no others any more."""
        wanted = {self.live_endpoint, self.fill_endpoint, *groups}
        for number, endpoint in list(self._receivers.items()):
            if endpoint not in wanted:
                del self._receivers[number]
                self._dispatch(ReceiverDetached(number))
        for endpoint in sorted(wanted - set(self._receivers.values()), key=lambda each: each.uri):
            self._numbers += 1
            self._receivers[self._numbers] = endpoint
            self._dispatch(ReceiverAttached(self._numbers, endpoint))

    def send(self, letter: Letter, sent: Callable[[BundleId | None], None] | None = None) -> None:
        """Have the node send it. `sent` is told the bundle when the node has taken it; None: it was refused."""
        self._dispatch(self._submission(letter, sent))

    def send_all(self, letters: Sequence[Letter]) -> None:
        """Have the node send these: one write to the disk for all."""
        if letters:
            self._dispatch(MessagesSubmitted([self._submission(letter, None) for letter in letters]))

    def _submission(self, letter: Letter, sent: Callable[[BundleId | None], None] | None) -> MessageSubmitted:
        self._numbers += 1
        self._sent[self._numbers] = sent
        source = self.live_endpoint if letter.live is not None else self.fill_endpoint
        return MessageSubmitted(
            self._numbers,
            source,
            letter.destination,
            letter.precedence,
            letter.lifetime_ms,
            False,
            letter.data,
            True,
            letter.live,
            is_followed=False,
        )

    # Of ApplicationPort

    def accepted(self, number: int, bundle: BundleId) -> None:
        """The node has taken it."""
        sent = self._sent.pop(number, None)
        if sent is not None:
            sent(bundle)

    def refused(self, number: int) -> None:
        """It has not."""
        sent = self._sent.pop(number, None)
        if sent is not None:
            sent(None)

    def deliver(self, message: DeliverMessage) -> None:
        """A bundle has arrived for one of the endpoints."""
        endpoint = self._receivers.get(message.receiver)
        if endpoint is None:
            return
        data = self._content(message)
        self._dispatch(DeliveryConfirmed(message.receiver, message.message))
        if data is not None:
            self._take(Arrival(message.source, data, endpoint != self.fill_endpoint))

    def _content(self, message: DeliverMessage) -> bytes | None:
        """None: it can't be of a stream, or can't be read."""
        if len(message.parts) != 1:
            return None
        part = message.parts[0]
        try:
            payload = PartPayload(self._read_piece, part.payload, part.data, part.header)
            return payload.read(0, payload.size_bytes) if payload.size_bytes <= PAYLOAD_MAX_BYTES else None
        except StoreError as error:
            self._dispatch(DataUnreadable([part.id], str(error)))
            return None
