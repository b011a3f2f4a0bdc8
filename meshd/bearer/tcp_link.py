# SPDX-License-Identifier: Apache-2.0
"""What a bearer knows of one TCPCLv4 neighbour: its sessions, and which of them sends. Up while it has a session.

Where the settings want it, the last session is ended when it carried nothing for a while, and the link is *dormant*: up
for the node, which keeps its credit; what it hands over is held until the neighbour is dialled. Only when no session is
to be had the link goes down.
"""

from collections.abc import Sequence
from typing import Final

from meshd.bearer.connection import Row
from meshd.bearer.link import Link
from meshd.bearer.tcp_connection import TcpConnection
from meshd.link.settings import BearerSettings, NeighbourSettings

STALE_KEEPALIVES: Final = 1.5
"""A session not heard for so many keepalive intervals sends only when there is no livelier one."""
URGENT_WAIT_S: Final = 1
"""An urgent bundle waits no longer behind what was handed over before; else another session is opened for it."""


class TcpLink(Link[TcpConnection]):
    """One TCPCLv4 neighbour on one bearer."""

    def __init__(self, bearer: BearerSettings, settings: NeighbourSettings, now: float) -> None:
        super().__init__(bearer, settings, now)
        self.sessions: list[TcpConnection] = []
        """Established, oldest first."""
        self.held: list[Row] = []
        """Bundles for which a session is being opened; bounded by the credit, and by what is urgent."""
        self._held_bytes = 0
        """Of those that are held because the link is dormant, or about to be."""
        self.is_dormant = False
        self._is_idling_wanted = bearer.link_idle_s > 0
        self._transfer_mtu_bytes = 0
        self._stale_s = STALE_KEEPALIVES * bearer.keepalive_s if bearer.keepalive_s else float("inf")
        self._prompt_bytes = bearer.rate_bps // 8 * URGENT_WAIT_S

    @property
    def connections(self) -> Sequence[TcpConnection]:
        """See Link."""
        return self.sessions

    @property
    def is_up(self) -> bool:
        """See Link."""
        return bool(self.sessions) or self.is_dormant

    @property
    def state(self) -> str:
        """See Link."""
        return "dormant" if self.is_dormant else super().state

    @property
    def needs_dialling(self) -> bool:
        """See Link."""
        return bool(self.held) if self.is_dormant else not self.sessions

    @property
    def may_rest(self) -> bool:
        """It is to be dormant when its last session ends because it was idle."""
        return self._is_idling_wanted and self.is_wanted and self.settings.address is not None

    @property
    def is_resting(self) -> bool:
        """It is dormant, or about to be: what comes up is held."""
        return self.is_dormant or (
            self.may_rest and bool(self.sessions) and all(each.session.is_retiring for each in self.sessions)
        )

    def add(self, connection: TcpConnection, now: float) -> bool:
        """A session is established; True when the link comes up by it, or wakes to a peer that takes other sizes."""
        is_new = not self.is_up or (self.is_dormant and connection.transfer_mtu_bytes != self._transfer_mtu_bytes)
        if self.is_dormant:
            self.is_dormant, self._since = False, now
        if not self.sessions:
            self._transfer_mtu_bytes = connection.transfer_mtu_bytes
        self.sessions.append(connection)
        self.address = connection.address
        if is_new:
            self._change("", now)
        return is_new

    def remove(self, connection: TcpConnection, reason: str, now: float, *, was_idle: bool) -> bool:
        """A session has ended; True when the link goes down by it."""
        self.sessions.remove(connection)
        self._last_heard = connection.last_heard
        if self.sessions:
            return False
        if was_idle and self.may_rest:
            self.is_dormant, self._since = True, now
            return False
        self._change(reason, now)
        return True

    def fall(self, reason: str, now: float) -> list[Row]:
        """It is dormant no more, but down; what was held."""
        self.is_dormant = False
        self._change(reason, now)
        return self.take_held()

    def hold(self, rows: Sequence[Row]) -> None:
        """Keep these until there is a session for them."""
        self.held.extend(rows)
        size_bytes = sum(len(chunk) for _, chunks in rows for chunk in chunks)
        self._credit_bytes = max(self._credit_bytes - size_bytes, 0)
        self._held_bytes += size_bytes

    def grant(self, now: float) -> int:
        """See Link."""
        return self._raise_credit(self._window_bytes - self._held_bytes) if self.is_dormant else super().grant(now)

    def choose_sender(self, now: float) -> TcpConnection | None:
        """The oldest session that can send and was heard lately; else the youngest; None when the link can't send."""
        ready = [connection for connection in self.sessions if connection.session.can_send]
        lively = [connection for connection in ready if now - connection.last_heard < self._stale_s]
        return lively[0] if lively else ready[-1] if ready else None

    def choose_prompt_sender(self) -> TcpConnection | None:
        """The session that is free soonest, if that is within URGENT_WAIT_S at the bearer's rate; None: none is."""
        ready = [connection for connection in self.sessions if connection.session.can_send]
        sender = min(ready, key=lambda connection: connection.pending_bytes, default=None)
        return sender if sender is not None and sender.pending_bytes <= self._prompt_bytes else None

    def take_held(self) -> list[Row]:
        """What waits for a session of its own; none does any more."""
        held, self.held, self._held_bytes = self.held, [], 0
        return held
