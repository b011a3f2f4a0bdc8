# SPDX-License-Identifier: Apache-2.0
"""What a bearer knows of one MTCP neighbour: the connection to it, and those from it.

Such a link is up while our connection to the neighbour stands; that it can reach us is another matter.
"""

from collections.abc import Sequence

from meshd.bearer.link import Link
from meshd.bearer.mtcp_connection import MtcpConnection
from meshd.link.settings import BearerSettings, NeighbourSettings


class MtcpLink(Link[MtcpConnection]):
    """One MTCP neighbour on one bearer."""

    def __init__(self, bearer: BearerSettings, settings: NeighbourSettings, now: float) -> None:
        super().__init__(bearer, settings, now)
        self.outgoing: MtcpConnection | None = None
        self.incoming: list[MtcpConnection] = []
        """Oldest first."""

    @property
    def connections(self) -> Sequence[MtcpConnection]:
        """See Link."""
        return [*self.incoming, *([self.outgoing] if self.outgoing else [])]

    @property
    def is_up(self) -> bool:
        """See Link."""
        return self.outgoing is not None

    def connect(self, connection: MtcpConnection, now: float) -> None:
        """Our connection to it stands."""
        self.outgoing = connection
        self._change("", now)

    def disconnect(self, reason: str, now: float) -> None:
        """It does not stand any more."""
        self.outgoing = None
        self._change(reason, now)

    def remove(self, connection: MtcpConnection) -> None:
        """A connection from it has ended."""
        self.incoming.remove(connection)
        self._last_heard = max(connection.last_heard, self._last_heard or connection.last_heard)

    def choose_sender(self, now: float) -> MtcpConnection | None:
        """See Link."""
        del now
        return self.outgoing if self.outgoing is not None and self.outgoing.room else None
