# SPDX-License-Identifier: Apache-2.0
"""What a bearer knows of one link: its connections, its counters and how much the node may still send on it.

The same for all convergence layers; `tcp_link.py` and `mtcp_link.py` say which connection sends.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

from meshd.bearer.connection import Connection, Row
from meshd.bundle.record import BundleId
from meshd.link.identity import LinkId
from meshd.link.settings import BearerSettings, NeighbourSettings

WINDOW_MIN_BYTES: Final = 64 * 1024
WINDOW_MAX_BYTES: Final = 1024 * 1024
"""Bytes kept ready beyond the socket: about a second of the bearer's rate, within these limits."""
IN_FLIGHT_HIGH: Final = 32768
"""No credit is given while so many transfers of a session wait for their answer."""

Figure = str | int | float | None
ConnectionT = TypeVar("ConnectionT", bound=Connection[Any])


class Link(ABC, Generic[ConnectionT]):
    """One neighbour on one bearer."""

    def __init__(self, bearer: BearerSettings, settings: NeighbourSettings, now: float) -> None:
        self.id = LinkId(bearer.name, settings.node)
        self.settings = settings
        self.is_wanted = True
        """False: no neighbour of ours any more; its sessions are ending."""
        self.reason = "no session yet"
        """Why it is down; empty while it is up."""
        self.address: str | None = settings.address
        """Of the neighbour, for people."""
        self._since = now
        self._window_bytes = min(max(bearer.rate_bps // 8, WINDOW_MIN_BYTES), WINDOW_MAX_BYTES)
        self._credit_bytes = 0
        self._last_heard: float | None = None
        self.sent_bundles = 0
        self.sent_bytes = 0
        self.received_bundles = 0
        self.received_bytes = 0
        """Since the start; bundles sent are counted when acknowledged, their bytes when handed over."""

    @property
    @abstractmethod
    def connections(self) -> Sequence[ConnectionT]:
        """All that belong to it, oldest first."""

    @property
    @abstractmethod
    def is_up(self) -> bool:
        """The node may send on it."""

    @property
    def state(self) -> str:
        """For people."""
        return "up" if self.is_up else "down"

    @property
    def needs_dialling(self) -> bool:
        """A connection is wanted, and there is none."""
        return not self.is_up

    @abstractmethod
    def choose_sender(self, now: float) -> ConnectionT | None:
        """The connection to send on; None when the link can't send."""

    def hand_over(self, sender: ConnectionT | None, rows: Sequence[Row]) -> list[BundleId]:
        """Give these to a connection; what it can't take."""
        if sender is not None:
            size_bytes, rows = sender.hand_over(rows)
            self.sent_bytes += size_bytes
            self._credit_bytes = max(self._credit_bytes - size_bytes, 0)
        return [bundle_id for bundle_id, _ in rows]

    def grant(self, now: float) -> int:
        """Credit to announce now, in all; 0: what the node knows is still about right.

        Credit is absolute: the announced figure replaces what was left. It is announced when it has grown by a quarter
        of the window, so once for many bundles; a node that lets it lie is not asked again.
        """
        sender = self.choose_sender(now)
        if sender is None or len(sender.sent) >= IN_FLIGHT_HIGH:
            return 0
        return self._raise_credit(self._window_bytes - sender.pending_bytes)

    def _raise_credit(self, credit_bytes: int) -> int:
        """It has grown to this; what is to be announced of that."""
        if credit_bytes - self._credit_bytes < self._window_bytes // 4:
            return 0
        self._credit_bytes = credit_bytes
        return credit_bytes

    def note_received(self, rows: int, size_bytes: int) -> None:
        """So many bundles arrived, of this size in all."""
        self.received_bundles += rows
        self.received_bytes += size_bytes

    def _change(self, reason: str, now: float) -> None:
        """It has come up, or down for this reason."""
        self._since, self.reason, self._credit_bytes = now, reason, 0

    def describe(self, now: float) -> dict[str, Figure]:
        """Figures for people."""
        connections = self.connections
        last_heard = max((each.last_heard for each in connections), default=self._last_heard)
        return {
            "link": str(self.id),
            "bearer": self.id.bearer,
            "neighbour": self.id.neighbour.uri,
            "state": self.state,
            "since_s": now - self._since,
            "address": self.address,
            "sessions": len(connections),
            "tls": connections[0].security if connections else None,
            "in_flight_bundles": sum(len(each.sent) for each in connections),
            "pending_bytes": sum(each.pending_bytes for each in connections),
            "sent_bundles": self.sent_bundles,
            "sent_bytes": self.sent_bytes,
            "received_bundles": self.received_bundles,
            "received_bytes": self.received_bytes,
            "last_heard_s": None if last_heard is None else now - last_heard,
            "reason": self.reason,
        }
