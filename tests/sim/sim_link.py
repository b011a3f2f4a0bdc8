# SPDX-License-Identifier: Apache-2.0
"""A virtual wire between two nodes: two real TCPCLv4 sessions, bytes that take time, arrive in pieces, and stop.

The wire behaves as TCP over a bad bearer: bytes arrive in order or not at all. While it is cut they wait; a reset loses
whatever was under way, at a different moment for each side.
"""

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role, SessionSettings
from tests.sim.virtual_time import VirtualTime

PIECE_MAX_BYTES: Final = 4096
KEEPALIVE_S: Final = 5


class End(Protocol):
    """Who owns one end: a bearer of a node that is alive."""

    def attach(self, connection: "Connection") -> None:
        """A new connection is there."""

    def process(self, connection: "Connection") -> None:
        """The session may have events."""


class Connection:
    """One end of a wire with its session."""

    def __init__(self, wire: "Wire", session: Session, owner: End) -> None:
        self.wire = wire
        self.session = session
        self.owner = owner
        self.peer: Connection | None = None
        self.is_open = True
        self.inbox: deque[bytes] = deque()
        self.is_delivering = False
        self.timer_at: float | None = None

    def flush(self) -> None:
        """Put what the session has to say on the wire, in pieces."""
        time, rng = self.wire.time, self.wire.rng
        data = b"".join(bytes(piece) for piece in self.session.data_to_send(time.now))
        while data:
            cut = rng.randint(1, PIECE_MAX_BYTES)
            if self.peer is not None and self.is_open:
                self.peer.inbox.append(data[:cut])
            data = data[cut:]
        if self.peer is not None:
            self.peer.schedule()
        self._arm()

    def schedule(self) -> None:
        """Have the next piece arrive after the wire's delay."""
        if self.is_delivering or not self.inbox or self.wire.is_cut or not self.is_open:
            return
        self.is_delivering = True
        self.wire.time.call_later(self.wire.delay_s * self.wire.rng.uniform(0.5, 1.5), self._deliver)

    def lose(self, text: str) -> None:
        """The connection is gone for this side."""
        if not self.is_open:
            return
        self.is_open = False
        self.session.connection_lost(text)
        self.owner.process(self)

    def _deliver(self) -> None:
        self.is_delivering = False
        if not self.is_open or self.wire.is_cut or not self.inbox:
            return
        for _ in range(min(len(self.inbox), self.wire.rng.randint(1, 64))):
            self.session.receive_data(self.inbox.popleft(), self.wire.time.now)
        self.owner.process(self)
        if self.is_open:
            self.flush()
        self.schedule()

    def _arm(self) -> None:
        at = self.session.get_timer()
        if at is not None and at != self.timer_at and self.is_open:
            self.timer_at = at
            self.wire.time.call_at(at, self._tick)

    def _tick(self) -> None:
        at = self.session.get_timer()
        if not self.is_open or at is None or at > self.wire.time.now:
            self.timer_at = None
            self._arm()
            return
        self.timer_at = None
        self.session.handle_timer(self.wire.time.now)
        self.owner.process(self)
        if self.is_open:
            self.flush()


class Wire:
    """One bearer between two nodes; it dials by itself whenever both are alive and it is not cut."""

    def __init__(self, name: str, time: VirtualTime, rng: random.Random, delay_s: float) -> None:
        self.name = name
        self.time = time
        self.rng = rng
        self.delay_s = delay_s
        self.is_cut = False
        self.transfer_mru_bytes = INLINE_SIZE_MAX_BYTES
        self.inline_max_bytes = INLINE_SIZE_MAX_BYTES
        self.nodes: list[Eid] = []
        self.ends: list[Callable[[], End | None]] = []
        self._connections: list[Connection] = []

    def connect(self, node: Eid, end: Callable[[], End | None]) -> None:
        """Plug in one node; `end` gives its bearer while it is alive."""
        self.nodes.append(node)
        self.ends.append(end)

    def dial(self) -> None:
        """Keep trying to have one live connection."""
        self.time.call_later(self.rng.uniform(0.2, 2.0), self.dial)
        if self.is_cut or any(connection.is_open for connection in self._connections):
            return
        owners = [end() for end in self.ends]
        if any(owner is None for owner in owners):
            return
        roles = [Role.ACTIVE, Role.PASSIVE]
        self.rng.shuffle(roles)
        self._connections = []
        for index, owner in enumerate(owners):
            assert owner is not None
            settings = SessionSettings(
                self.nodes[index],
                frozenset({self.nodes[1 - index]}),
                KEEPALIVE_S,
                segment_bytes=self.rng.choice((200, 5000, 10**6)),
                transfer_mru_bytes=self.transfer_mru_bytes,
                inline_max_bytes=self.inline_max_bytes,
                piece_bytes=self.inline_max_bytes,
            )
            self._connections.append(Connection(self, Session(settings, roles[index], self.time.now), owner))
        first, second = self._connections
        first.peer, second.peer = second, first
        for connection in self._connections:
            connection.owner.attach(connection)
        for connection in self._connections:
            connection.flush()

    def cut(self) -> None:
        """Nothing arrives any more; nobody is told."""
        self.is_cut = True

    def restore(self) -> None:
        """What waited goes on."""
        self.is_cut = False
        for connection in self._connections:
            connection.schedule()

    def reset(self) -> None:
        """Both sides lose the connection, each at its own time; bytes under way are gone."""
        for connection in self._connections:
            connection.inbox = deque(list(connection.inbox)[: self.rng.randint(0, len(connection.inbox))])
            self.time.call_later(self.rng.uniform(0.0, 3.0), partial(connection.lose, "reset by the simulation"))

    def node_died(self, owner: End) -> None:
        """One node crashed: its end is gone at once, the other side finds out later."""
        for connection in self._connections:
            if connection.owner is owner:
                connection.is_open = False
                if connection.peer is not None:
                    self.time.call_later(self.rng.uniform(0.0, 2.0), partial(connection.peer.lose, "peer crashed"))
