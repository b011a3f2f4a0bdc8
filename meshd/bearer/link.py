# SPDX-License-Identifier: Apache-2.0
"""What a bearer knows of one link: its sessions, its counters and how much the node may still send on it."""

from collections.abc import Iterable, Sequence
from typing import Final

from meshd.bearer.connection import Connection
from meshd.bundle.record import BundleId
from meshd.cl.tcpclv4.outgoing import IN_FLIGHT_MAX
from meshd.link.identity import LinkId
from meshd.link.settings import BearerSettings, NeighbourSettings

WINDOW_MIN_BYTES: Final = 64 * 1024
WINDOW_MAX_BYTES: Final = 1024 * 1024
"""Bytes kept ready beyond the socket: about a second of the bearer's rate, within these limits."""
IN_FLIGHT_HIGH: Final = 32768
"""No credit is given while so many transfers of a session wait for their answer."""
STALE_KEEPALIVES: Final = 1.5
"""A session not heard for so many keepalive intervals sends only when there is no livelier one."""

URGENT_WAIT_S: Final = 1
"""An urgent bundle waits no longer behind what was handed over before; else another session is opened for it."""

Row = tuple[BundleId, Sequence[bytes | memoryview]]
"""A bundle to send, as chunks."""
Figure = str | int | float | None


class Link:
    """One neighbour on one bearer. Up while it has a session."""

    def __init__(self, bearer: BearerSettings, settings: NeighbourSettings, now: float) -> None:
        self.id = LinkId(bearer.name, settings.node)
        self.settings = settings
        self.sessions: list[Connection] = []
        """Established, oldest first."""
        self.is_wanted = True
        """False: no neighbour of ours any more; its sessions are ending."""
        self.reason = "no session yet"
        """Why it is down; empty while it is up."""
        self._since = now
        self._stale_s = STALE_KEEPALIVES * bearer.keepalive_s if bearer.keepalive_s else float("inf")
        self._window_bytes = min(max(bearer.rate_bps // 8, WINDOW_MIN_BYTES), WINDOW_MAX_BYTES)
        self._credit_bytes = 0
        self._prompt_bytes = bearer.rate_bps // 8 * URGENT_WAIT_S
        self.held: list[Row] = []
        """Urgent bundles for which another session is being opened; bounded by what the node hands over urgently."""
        self._last_heard: float | None = None
        self._address: str | None = settings.address
        self.sent_bundles = 0
        self.sent_bytes = 0
        self.received_bundles = 0
        self.received_bytes = 0
        """Since the start; bundles sent are counted when acknowledged, their bytes when handed over."""

    def add(self, connection: Connection, now: float) -> bool:
        """A session is established; True when the link comes up by it."""
        self.sessions.append(connection)
        self._address = connection.address
        if len(self.sessions) > 1:
            return False
        self._since, self.reason, self._credit_bytes = now, "", 0
        return True

    def remove(self, connection: Connection, reason: str, now: float) -> bool:
        """A session has ended; True when the link goes down by it."""
        self.sessions.remove(connection)
        self._last_heard = connection.last_heard
        if self.sessions:
            return False
        self._since, self.reason, self._credit_bytes = now, reason, 0
        return True

    def choose_sender(self, now: float) -> Connection | None:
        """The oldest session that can send and was heard lately; else the youngest; None when the link can't send."""
        ready = [connection for connection in self.sessions if connection.session.can_send]
        lively = [connection for connection in ready if now - connection.last_heard < self._stale_s]
        return lively[0] if lively else ready[-1] if ready else None

    def choose_prompt_sender(self) -> Connection | None:
        """The session that is free soonest, if that is within URGENT_WAIT_S at the bearer's rate; None: none is."""
        ready = [connection for connection in self.sessions if connection.session.can_send]
        sender = min(ready, key=lambda connection: connection.pending_bytes, default=None)
        return sender if sender is not None and sender.pending_bytes <= self._prompt_bytes else None

    def hand_over(self, sender: Connection | None, rows: Iterable[Row]) -> list[BundleId]:
        """Give these to a session; what it can't take."""
        failed: list[BundleId] = []
        for bundle_id, chunks in rows:
            if sender is None or not sender.session.can_send or sender.session.in_flight >= IN_FLIGHT_MAX:
                failed.append(bundle_id)
                continue
            size_bytes = sum(map(len, chunks))
            sender.sent[sender.session.send_transfer(chunks, size_bytes)] = bundle_id
            sender.transfers += 1
            self.sent_bytes += size_bytes
            self._credit_bytes = max(self._credit_bytes - size_bytes, 0)
        if sender is not None:
            sender.wake()
        return failed

    def take_held(self) -> list[Row]:
        """What waits for a session of its own; none does any more."""
        held, self.held = self.held, []
        return held

    def grant(self, now: float) -> int:
        """Credit to announce now, in all; 0: what the node knows is still about right.

        Credit is absolute: the announced figure replaces what was left. It is announced when it has grown by a quarter
        of the window, so once for many bundles; a node that lets it lie is not asked again.
        """
        sender = self.choose_sender(now)
        if sender is None or sender.session.in_flight >= IN_FLIGHT_HIGH:
            return 0
        credit_bytes = self._window_bytes - sender.pending_bytes
        if credit_bytes - self._credit_bytes < self._window_bytes // 4:
            return 0
        self._credit_bytes = credit_bytes
        return credit_bytes

    def describe(self, now: float) -> dict[str, Figure]:
        """Figures for people."""
        heard = [connection.last_heard for connection in self.sessions]
        last_heard = max(heard) if heard else self._last_heard
        return {
            "link": str(self.id),
            "bearer": self.id.bearer,
            "neighbour": self.id.neighbour.uri,
            "state": "up" if self.sessions else "down",
            "since_s": now - self._since,
            "address": self._address,
            "sessions": len(self.sessions),
            "tls": self.sessions[0].security if self.sessions else None,
            "in_flight_bundles": sum(len(connection.sent) for connection in self.sessions),
            "pending_bytes": sum(connection.pending_bytes for connection in self.sessions),
            "sent_bundles": self.sent_bundles,
            "sent_bytes": self.sent_bytes,
            "received_bundles": self.received_bundles,
            "received_bytes": self.received_bytes,
            "last_heard_s": None if last_heard is None else now - last_heard,
            "reason": self.reason,
        }
