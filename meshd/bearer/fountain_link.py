# SPDX-License-Identifier: Apache-2.0
"""What a fountain bearer knows of one neighbour: its counters, and how much the node may still send to it."""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from meshd.bearer.link import Figure
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.link.identity import LinkId
from meshd.link.settings import NeighbourSettings

SECURITY: Final = "sealed datagrams, AES-256-GCM"


class Answerer(Protocol):
    """Takes the node's answers to what arrived."""

    def answer_accepted(self, node: Eid, transfers: Sequence[int]) -> None:
        """These are durable."""

    def answer_refused(self, node: Eid, transfer: int, *, is_retriable: bool) -> None:
        """This is not taken."""


class FountainLink:
    """One neighbour. What arrived from it is answered by way of it: `accept` and `refuse` of a connection."""

    def __init__(self, bearer: str, settings: NeighbourSettings, answerer: Answerer, now: float) -> None:
        self.id = LinkId(bearer, settings.node)
        self.settings = settings
        self.is_up = False
        self.is_blind = False
        self.sent: dict[BundleId, int] = {}
        """Bundles handed to the machine and not answered, and their sizes."""
        self.known_credit_bytes = 0
        self._answerer: Answerer | None = answerer
        self._reason = "not heard yet"
        self._since = now
        self.sent_bundles = 0
        self.sent_bytes = 0
        self.received_bundles = 0
        self.received_bytes = 0

    def accept(self, numbers: Iterable[int]) -> None:
        """These bundles of the neighbour are durable."""
        if self._answerer is not None:
            self._answerer.answer_accepted(self.id.neighbour, list(numbers))

    def refuse(self, number: int, *, retriable: bool, completed: bool) -> None:
        """This one is not taken; had before means that there is nothing to send."""
        if self._answerer is None:
            return
        if completed:
            self._answerer.answer_accepted(self.id.neighbour, [number])
        else:
            self._answerer.answer_refused(self.id.neighbour, number, is_retriable=retriable)

    def detach(self) -> None:
        """The machine that brought what has not been answered is gone."""
        self._answerer = None

    def come_up(self, *, is_blind: bool, now: float) -> bool:
        """The node may send; True when it could not before."""
        self.is_blind = is_blind
        if self.is_up:
            return False
        self.is_up, self._reason, self._since, self.known_credit_bytes = True, "", now, 0
        return True

    def go_down(self, reason: str, now: float) -> bool:
        """The node may not send any more; True when it could before."""
        if not self.is_up:
            return False
        self.is_up, self._reason, self._since, self.known_credit_bytes = False, reason, now, 0
        return True

    @property
    def since(self) -> float:
        """When it came up or went down."""
        return self._since

    @property
    def reason(self) -> str:
        """Why it is down."""
        return self._reason

    def note_acknowledged(self, ids: Iterable[BundleId]) -> None:
        """The neighbour has these."""
        for bundle in ids:
            size_bytes = self.sent.pop(bundle, None)
            if size_bytes is not None:
                self.sent_bundles += 1
                self.sent_bytes += size_bytes

    def grant(self, credit_bytes: int, window_bytes: int) -> bool:
        """True when so much credit is worth an announcement: it has grown by a quarter of the window."""
        if not self.is_up or credit_bytes - self.known_credit_bytes < window_bytes // 4:
            return False
        self.known_credit_bytes = credit_bytes
        return True

    def describe(self, now: float) -> dict[str, Figure]:
        """Figures for people."""
        return {
            "link": str(self.id),
            "bearer": self.id.bearer,
            "neighbour": self.id.neighbour.uri,
            "state": "up" if self.is_up else "down",
            "since_s": now - self._since,
            "address": self.settings.address,
            "sessions": int(self.is_up),
            "tls": SECURITY,
            "in_flight_bundles": len(self.sent),
            "pending_bytes": sum(self.sent.values()),
            "sent_bundles": self.sent_bundles,
            "sent_bytes": self.sent_bytes,
            "received_bundles": self.received_bundles,
            "received_bytes": self.received_bytes,
            "last_heard_s": None,
            "reason": self._reason,
        }
