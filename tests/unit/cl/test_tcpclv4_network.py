# SPDX-License-Identifier: Apache-2.0
"""Two TCPCLv4 sessions fed to each other through a terrible network, replayed from a seed.

The byte stream is cut into pieces anywhere, each direction is late by its own chance, keepalives fall between, the
receiver refuses some transfers, and in the end, or in the middle, the connection breaks or the session is ended.
Whatever happens: every transfer arrives exactly once and in order, and for each the sender learns exactly one fate: it
was acknowledged only if the receiver said so, refused with the receiver's reason, or it failed with the session.
"""

import random

import pytest

from meshd.cl.tcpclv4.events import (
    EndReason,
    SessionEnded,
    SessionEstablished,
    TransferRefused,
    TransfersAcknowledged,
    TransfersReceived,
)
from meshd.cl.tcpclv4.messages import RefuseReason, TermReason
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role
from meshd.cl.tcpclv4.states import State
from tests.unit.cl.tcpclv4_pair import ALPHA, BRAVO, drain, feed, make_settings, written

SIZES = (0, 1, 17, 63, 64, 65, 4096, 65_535, 65_536, 65_537, 200_000)
REASONS = tuple(RefuseReason)


class Side:
    """One session, what it sent, and what became of it."""

    def __init__(self, session: Session, rng: random.Random) -> None:
        self.session = session
        self.rng = rng
        self.in_transit = bytearray()
        """Bytes that this side wrote and the other has not received."""
        self.sent: dict[int, bytes] = {}
        self.fates: dict[int, object] = {}
        self.received: dict[int, bytes] = {}
        self.answers: dict[int, object] = {}
        """What this side said of each transfer that it received."""
        self.unanswered: list[int] = []
        self.end: SessionEnded | None = None
        self.is_established = False

    def take_events(self) -> None:
        for event in drain(self.session):
            assert self.end is None, "nothing comes after the end"
            match event:
                case SessionEstablished():
                    self.is_established = True
                case TransfersReceived(rows):
                    for row in rows:
                        assert row.transfer_id not in self.received, "a transfer arrives once"
                        self.received[row.transfer_id] = row.data
                        self.unanswered.append(row.transfer_id)
                case TransfersAcknowledged(ids):
                    for transfer_id in ids:
                        self._settle(transfer_id, "acknowledged")
                case TransferRefused(transfer_id, reason):
                    self._settle(transfer_id, reason)
                case SessionEnded():
                    self.end = event

    def _settle(self, transfer_id: int, fate: object) -> None:
        assert transfer_id in self.sent
        assert transfer_id not in self.fates, "a transfer has one fate"
        self.fates[transfer_id] = fate

    def act(self, now: float) -> None:
        """Do something by chance: send, answer."""
        rng, session = self.rng, self.session
        if session.can_send and len(self.sent) < 25 and rng.random() < 0.4:
            body = rng.randbytes(rng.choice(SIZES))
            cut = rng.randrange(len(body) + 1)
            self.sent[session.send_transfer([body[:cut], memoryview(body)[cut:]], len(body))] = body
        while self.unanswered and rng.random() < 0.6 and session.state is not State.ENDED:
            transfer_id = self.unanswered.pop(rng.randrange(len(self.unanswered)))
            if rng.random() < 0.8:
                session.acknowledge([transfer_id])
                self.answers[transfer_id] = "acknowledged"
            else:
                reason = rng.choice(REASONS)
                session.refuse(transfer_id, reason)
                self.answers[transfer_id] = reason
        self.in_transit += written(session, now)
        self.take_events()


class Network:
    """Two sides and what is under way between them."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.now = 0.0
        mru = rng.choice((64, 1000, 1 << 20))
        segment = rng.choice((64, 700, 1 << 20))
        active = make_settings(ALPHA, BRAVO, keepalive_s=rng.choice((0, 1, 15)), segment_mru_bytes=mru)
        passive = make_settings(BRAVO, ALPHA, keepalive_s=15, segment_bytes=segment)
        self.a = Side(Session(active, Role.ACTIVE, 0.0), rng)
        self.b = Side(Session(passive, Role.PASSIVE, 0.0), rng)

    @property
    def sides(self) -> tuple[tuple[Side, Side], tuple[Side, Side]]:
        return (self.a, self.b), (self.b, self.a)

    def step(self, *, is_acting: bool = True) -> None:
        self.now += self.rng.choice((0.0, 0.001, 0.3))
        for side, other in self.sides:
            if is_acting:
                side.act(self.now)
            side.session.handle_timer(self.now)
            side.in_transit += written(side.session, self.now)
            side.take_events()
            if side.in_transit and self.rng.random() < 0.8:
                size = min(len(side.in_transit), self.rng.choice((1, 2, 5, 6, 7, 18, 31, 400, 66_000, 1 << 20)))
                piece = bytes(side.in_transit[:size])
                del side.in_transit[:size]
                feed(other.session, piece, self.now)
                other.take_events()

    def settle(self) -> None:
        """Carry everything that is left; answer what is unanswered."""
        for _ in range(10_000):
            for side, _ in self.sides:
                side.session.acknowledge(side.unanswered)
                side.answers |= dict.fromkeys(side.unanswered, "acknowledged")
                side.unanswered.clear()
            self.step(is_acting=False)
            for side, _ in self.sides:
                side.in_transit += written(side.session, self.now)
            if not any(side.in_transit or side.unanswered for side, _ in self.sides) and self._is_quiet():
                return
        pytest.fail("the two never come to rest")

    def _is_quiet(self) -> bool:
        return all(len(side.fates) == len(side.sent) or side.end is not None for side, _ in self.sides)

    def check(self) -> None:
        """What has to hold at any time."""
        for side, other in self.sides:
            for transfer_id, body in other.received.items():
                assert side.sent[transfer_id] == body
            assert list(other.received) == sorted(other.received), "transfers arrive in their order"
            for transfer_id, fate in side.fates.items():
                if other.answers.get(transfer_id) is not None:
                    assert fate == other.answers[transfer_id]
                else:  # refused by the machine itself: it was ending
                    assert fate is RefuseReason.SESSION_TERMINATING
                    assert transfer_id not in other.received


@pytest.mark.parametrize("seed", range(30))
def test_everything_arrives_once_whatever_the_pieces(seed: int) -> None:
    network = Network(seed)
    for _ in range(250):
        network.step()
    network.settle()
    network.check()
    for side, other in network.sides:
        assert side.end is None
        assert side.is_established
        assert set(side.fates) == set(side.sent) == set(other.received)


@pytest.mark.parametrize("seed", range(30))
def test_a_cut_ends_both_and_acknowledges_nothing_that_was_not(seed: int) -> None:
    network = Network(1000 + seed)
    for _ in range(network.rng.randrange(1, 250)):
        network.step()
    for side, _ in network.sides:
        side.session.connection_lost("cut")
        side.take_events()
        assert side.end is not None
        assert side.end.reason is EndReason.CONNECTION_LOST
        assert written(side.session) == b""
    network.check()


@pytest.mark.parametrize("seed", range(30))
def test_a_clean_end_finishes_what_is_under_way(seed: int) -> None:
    network = Network(2000 + seed)
    for _ in range(network.rng.randrange(40, 250)):
        network.step()
    first, _ = network.sides[seed % 2]
    first.session.terminate(TermReason.UNKNOWN, "enough", network.now)
    network.settle()
    for side, _ in network.sides:
        assert side.end is not None
        assert side.end.reason is EndReason.TERMINATED
        assert not side.end.is_peer_fault
    network.check()
    for side, other in network.sides:  # what the receiver acknowledged, the sender knows
        said = {transfer_id for transfer_id, answer in other.answers.items() if answer == "acknowledged"}
        assert {transfer_id for transfer_id, fate in side.fates.items() if fate == "acknowledged"} == said
