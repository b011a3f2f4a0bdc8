# SPDX-License-Identifier: Apache-2.0
"""What a bearer knows of one MTCP neighbour: the connection to it, those from it, and how much may still be sent.

Such a link is up while our connection to the neighbour stands; that it can reach us is another matter.
"""

from meshd.bearer.link import IN_FLIGHT_HIGH, WINDOW_MAX_BYTES, WINDOW_MIN_BYTES, Figure
from meshd.bearer.mtcp_connection import MtcpConnection
from meshd.cl.mtcp.sender import SendingSession
from meshd.link.identity import LinkId
from meshd.link.settings import BearerSettings, NeighbourSettings


class MtcpLink:
    """One neighbour on one bearer."""

    def __init__(self, bearer: BearerSettings, settings: NeighbourSettings, now: float) -> None:
        self.id = LinkId(bearer.name, settings.node)
        self.settings = settings
        self.outgoing: MtcpConnection | None = None
        self.incoming: list[MtcpConnection] = []
        """Oldest first."""
        self.is_wanted = True
        """False: no neighbour of ours any more."""
        self._since = now
        self._reason = "no connection yet"
        self._last_heard: float | None = None
        self._window_bytes = min(max(bearer.rate_bps // 8, WINDOW_MIN_BYTES), WINDOW_MAX_BYTES)
        self._credit_bytes = 0
        self.sent_bundles = 0
        self.received_bundles = 0
        self.received_bytes = 0
        self._sent_bytes = 0

    @property
    def connections(self) -> list[MtcpConnection]:
        """All of them."""
        return [*self.incoming, *([self.outgoing] if self.outgoing else [])]

    def connect(self, connection: MtcpConnection, now: float) -> None:
        """Our connection to it stands."""
        self.outgoing, self._since, self._reason, self._credit_bytes = connection, now, "", 0

    def disconnect(self, reason: str, now: float) -> None:
        """It does not stand any more."""
        self.outgoing, self._since, self._reason, self._credit_bytes = None, now, reason, 0

    def remove(self, connection: MtcpConnection) -> None:
        """A connection from it has ended."""
        self.incoming.remove(connection)
        self._last_heard = max(connection.last_heard, self._last_heard or connection.last_heard)

    def spend(self, size_bytes: int) -> None:
        """The node has handed over a bundle of this size."""
        self._sent_bytes += size_bytes
        self._credit_bytes = max(self._credit_bytes - size_bytes, 0)

    def grant(self) -> int:
        """Credit to announce now, in all; 0: what the node knows is still about right. As `Link.grant`."""
        connection = self.outgoing
        if connection is None or not isinstance(connection.session, SendingSession):
            return 0
        if connection.session.is_ended or connection.session.in_flight >= IN_FLIGHT_HIGH:
            return 0
        credit_bytes = self._window_bytes - connection.pending_bytes
        if credit_bytes - self._credit_bytes < self._window_bytes // 4:
            return 0
        self._credit_bytes = credit_bytes
        return credit_bytes

    def describe(self, now: float) -> dict[str, Figure]:
        """Figures for people, named as those of other links."""
        heard = [connection.last_heard for connection in self.incoming]
        last_heard = max(heard) if heard else self._last_heard
        return {
            "link": str(self.id),
            "bearer": self.id.bearer,
            "neighbour": self.id.neighbour.uri,
            "state": "up" if self.outgoing else "down",
            "since_s": now - self._since,
            "address": self.settings.address,
            "sessions": len(self.connections),
            "in_flight_bundles": len(self.outgoing.sent) if self.outgoing else 0,
            "pending_bytes": self.outgoing.pending_bytes if self.outgoing else 0,
            "sent_bundles": self.sent_bundles,
            "sent_bytes": self._sent_bytes,
            "received_bundles": self.received_bundles,
            "received_bytes": self.received_bytes,
            "last_heard_s": None if last_heard is None else now - last_heard,
            "reason": self._reason,
        }
