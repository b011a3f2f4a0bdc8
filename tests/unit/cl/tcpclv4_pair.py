# SPDX-License-Identifier: Apache-2.0
"""Two TCPCLv4 sessions fed to each other in memory, for the tests of the machine."""

import random
from collections.abc import Sequence

from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.events import Event, SessionEstablished
from meshd.cl.tcpclv4.messages import CONTACT_HEADER, SessionInit, pack_session_init
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role, SessionSettings

ALPHA = Eid("dtn://alpha/")
BRAVO = Eid("dtn://bravo/")
CHARLIE = Eid("dtn://charlie/")


def make_settings(
    node: Eid,
    peer: Eid | None,
    *,
    keepalive_s: int = 15,
    segment_mru_bytes: int = 1 << 20,
    transfer_mru_bytes: int = 1 << 20,
    segment_bytes: int = 1 << 20,
) -> SessionSettings:
    """Settings of one side; peer None: anybody is welcome."""
    peers = None if peer is None else frozenset({peer})
    return SessionSettings(node, peers, keepalive_s, segment_mru_bytes, transfer_mru_bytes, segment_bytes)


def drain(session: Session) -> list[Event]:
    """All events that wait."""
    events = []
    while (event := session.next_event()) is not None:
        events.append(event)
    return events


def written(session: Session, now: float = 0.0) -> bytes:
    """All bytes that the session wants to write."""
    out = b""
    while buffers := session.data_to_send(now):
        out += b"".join(buffers)
    return out


class Pair:
    """An active and a passive session with a perfect wire between them, cut by chance if there is some."""

    def __init__(
        self, active: SessionSettings | None = None, passive: SessionSettings | None = None, seed: int | None = None
    ) -> None:
        self.now = 0.0
        self.active = Session(active or make_settings(ALPHA, BRAVO), Role.ACTIVE, self.now)
        self.passive = Session(passive or make_settings(BRAVO, ALPHA), Role.PASSIVE, self.now)
        self.rng = None if seed is None else random.Random(seed)
        self.active_events: list[Event] = []
        self.passive_events: list[Event] = []

    def exchange(self) -> None:
        """Carry bytes in both directions until nobody has any."""
        moved = True
        while moved:
            to_passive, to_active = written(self.active, self.now), written(self.passive, self.now)
            moved = bool(to_passive or to_active)
            self._feed(self.passive, to_passive)
            self._feed(self.active, to_active)
            self.active_events += drain(self.active)
            self.passive_events += drain(self.passive)

    def _feed(self, session: Session, data: bytes) -> None:
        for piece in self._cut(data):
            feed(session, piece, self.now)

    def _cut(self, data: bytes) -> Sequence[bytes]:
        if self.rng is None:
            return [data] if data else []
        pieces, pos = [], 0
        while pos < len(data):
            size = min(self.rng.choice((1, 2, 7, 19, 100, 1000, 70_000)), len(data) - pos)
            pieces.append(data[pos : pos + size])
            pos += size
        return pieces

    def take(self) -> tuple[list[Event], list[Event]]:
        """Events of active and passive side since the last call, after an exchange."""
        self.exchange()
        events = self.active_events, self.passive_events
        self.active_events, self.passive_events = [], []
        return events

    def establish(self) -> "Pair":
        """Both sides are established and have said so."""
        active, passive = self.take()
        assert [type(event) for event in active + passive] == [SessionEstablished, SessionEstablished]
        return self


def feed(session: Session, data: bytes, now: float = 0.0) -> None:
    """Give bytes to a session the way a shell does: no more at a time than it asks for."""
    while data:
        size = session.receive_max_bytes or len(data)
        session.receive_data(data[:size], now)
        data = data[size:]


def make_established(settings: SessionSettings | None = None, *, keepalive_s: int = 15, mru: int = 1 << 20) -> Session:
    """A passive session whose peer is the test itself; what it wrote so far is dropped."""
    session = Session(settings or make_settings(BRAVO, None), Role.PASSIVE, 0.0)
    offer = pack_session_init(SessionInit(keepalive_s, mru, mru, ALPHA))
    session.receive_data(CONTACT_HEADER + offer, 0.0)
    assert [type(event) for event in drain(session)] == [SessionEstablished]
    assert written(session)
    return session
