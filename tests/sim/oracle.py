# SPDX-License-Identifier: Apache-2.0
"""What must hold in every simulation, whatever happens: nothing acknowledged is lost, nothing delivered twice or wrong.

The oracle also is the applications: it makes up the messages, and it keeps what receivers have on their own disks.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, bundle_id_text
from meshd.node.commands import DeliverMessage, WriteStore
from meshd.node.events import MessageSubmitted

if TYPE_CHECKING:
    from tests.sim.sim_node import SimNode

GROUP: Final = Eid("dtn://all/~inbox")
_ORDER: Final = {"message.queued": 0, "message.forwarded": 1, "message.delivered": 2}


class Wish:
    """A message that an application wants to send."""

    def __init__(self, number: int, source: Eid, destination: Eid, content: bytes, precedence: int) -> None:
        self.number = number
        self.source = source
        self.destination = destination
        self.content = content
        self.precedence = precedence
        self.sent_bytes = 0
        self.message: BundleId | None = None
        self.is_refused = False


class Oracle:
    """Watches all nodes of one simulation; raises AssertionError the moment something is wrong."""

    def __init__(self, rng: random.Random, part_size_bytes: int) -> None:
        self._rng = rng
        self._part_size_bytes = part_size_bytes
        self.nodes: list[Eid] = []
        self._wishes: dict[int, Wish] = {}
        self._received: dict[str, bytes] = {}
        self._deleted: dict[Eid, set[BundleId]] = {}
        self._states: dict[str, int] = {}
        self.sizes: tuple[int, ...] = (0, 1, 50, 700, 1200, 1600, 1996, 1999, 2000, 2001, 9000, 30_000)
        self.lifetime_ms = 10**8
        self.trace = hashlib.sha256()
        self.crashes = 0
        self.offers = 0
        self.offers_to_groups = 0
        self.streamed = 0
        """Transfers that arrived in pieces, whole in the end."""
        self.fragmented = 0
        self.departures = 0
        """Bundles that left while they were being written."""

    # Applications

    def wish(self, node: "SimNode", destination: Eid) -> None:
        """An application of this node begins to send a message."""
        number = len(self._wishes) + 1
        size_bytes = self._rng.choice(self.sizes)
        content = number.to_bytes(4) + self._rng.randbytes(size_bytes)
        wish = Wish(number, Eid(f"{node.id.uri}app"), destination, content, self._rng.randint(0, 5))
        self._wishes[number] = wish
        self.next_part(node, number)

    def next_part(self, node: "SimNode", number: int) -> None:
        """Hand over the next part."""
        wish = self._wishes[number]
        start = wish.sent_bytes
        data = wish.content[start : start + self._part_size_bytes]
        wish.sent_bytes += len(data)
        is_last = wish.sent_bytes == len(wish.content)
        node.dispatch(
            MessageSubmitted(
                number, wish.source, wish.destination, wish.precedence, self.lifetime_ms, True, data, is_last
            )
        )

    def accepted(self, node: Eid, number: int, message: BundleId) -> None:
        """The user was told "queued"."""
        self._wishes[number].message = message
        self._note("accepted", node.uri, bundle_id_text(message))

    def refused(self, number: int) -> None:
        """The user was told why not."""
        assert self._wishes[number].message is None, "a message that was accepted was refused later"
        self._wishes[number].is_refused = True

    # What nodes do

    def committed(self, node: Eid, group: WriteStore) -> None:
        """These deletions are durable."""
        self._deleted.setdefault(node, set()).update(row.id for row in group.deletes)

    def accepted_transfer(self, node: Eid) -> None:
        """For the trace."""
        self._note("transfer", node.uri)

    def recovered(self, node: Eid, damage: Sequence[str]) -> None:
        """A disk that only forgets unsynced data is never damaged."""
        assert not damage, f"{node.uri}: {damage}"
        self._note("started", node.uri)

    def crashed(self, node: Eid) -> None:
        """Count it."""
        self.crashes += 1
        self._note("crashed", node.uri)

    def offered(self, node: Eid, message: DeliverMessage, content: bytes) -> None:
        """A message is offered to its application."""
        self.offers += 1
        self.offers_to_groups += message.destination == GROUP
        text = bundle_id_text(message.message)
        self._note("offered", node.uri, text)
        assert message.destination in (GROUP, Eid(f"{node.uri}inbox")), f"{text} was delivered at the wrong node"
        gone = self._deleted.get(node, set())
        assert not any(part.id in gone for part in message.parts), f"{text} came back after it was forgotten for good"
        wish = self._wishes.get(int.from_bytes(content[:4]))
        assert wish is not None, f"{text} was never sent"
        assert content == wish.content, f"{text} was delivered wrong"
        assert wish.message in (None, message.message), f"{text} has the content of another message"
        assert not wish.is_refused, f"{text} was refused to its sender"

    def confirmed(self, node: Eid, message: DeliverMessage, content: bytes) -> None:
        """The application has it under a name derived from its ID: the same message again is the same file."""
        text = bundle_id_text(message.message)
        self._note("confirmed", node.uri, text)
        receipt = _receipt(text, node, message.destination)
        assert self._received.setdefault(receipt, content) == content, f"{text} was delivered with two contents"

    def reported(self, node: Eid, kind: str, fields: Mapping[str, object]) -> None:
        """A message's state only moves forward at its source, and none of these is ever given up."""
        self.fragmented += kind == "bundle.fragmented"
        text = fields.get("message")
        if not isinstance(text, str) or not text.startswith(node.uri):
            return
        assert kind in _ORDER, f"{text}: {kind} {dict(fields)}"
        self._note(kind, text)
        rank = _ORDER[kind]
        assert rank > self._states.get(text, -1), f"{text} went back to {kind}"
        self._states[text] = rank

    def asked(self, node: Eid, states: Mapping[str, str]) -> None:
        """After a start its applications ask what became of their messages: nothing that was told is taken back."""
        for text, rank in self._states.items():
            if text.startswith(node.uri):
                assert text in states, f"{text} was forgotten"
                assert _ORDER[f"message.{states[text]}"] >= rank, f"{text} is only {states[text]} after a start"
        self._states.update((text, _ORDER[f"message.{state}"]) for text, state in states.items())

    # The end

    def accepted_messages(self) -> int:
        """Messages whose senders were told "queued"."""
        return sum(wish.message is not None for wish in self._wishes.values())

    def is_satisfied(self) -> bool:
        """Every accepted message is with its application, and its sender knows."""
        return not self.missing() and all(
            self._is_reported(bundle_id_text(wish.message))
            for wish in self._wishes.values()
            if wish.message is not None
        )

    def missing(self) -> list[str]:
        """Accepted messages that no application has."""
        receipts = [
            _receipt(bundle_id_text(wish.message), node, wish.destination)
            for wish in self._wishes.values()
            for node in (self.nodes if wish.destination == GROUP else self.nodes[:1])
            if wish.message is not None
        ]
        return [receipt for receipt in receipts if receipt not in self._received]

    def unreported(self) -> list[str]:
        """Accepted messages whose sender does not know that they were delivered."""
        texts = [bundle_id_text(wish.message) for wish in self._wishes.values() if wish.message is not None]
        return [text for text in texts if not self._is_reported(text)]

    def _is_reported(self, text: str) -> bool:
        return self._states.get(text) == _ORDER["message.delivered"]

    def _note(self, *words: str) -> None:
        self.trace.update((" ".join(words) + "\n").encode())


def _receipt(text: str, node: Eid, destination: Eid) -> str:
    """A message to a group has to arrive at each node, any other anywhere (it is checked that this is right)."""
    return f"{text} at {node.uri}" if destination == GROUP else text
