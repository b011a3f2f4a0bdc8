# SPDX-License-Identifier: Apache-2.0
"""What the two TCPCLv4 targets share: feed a session, note everything it did, hold it to its bounds."""

from dataclasses import dataclass, field
from typing import Final

from meshd.cl.tcpclv4.arriving import PIECE_MIN_BYTES
from meshd.cl.tcpclv4.events import (
    EndReason,
    SessionEnded,
    SessionEstablished,
    TransferRefused,
    TransfersAcknowledged,
    TransfersReceived,
)
from meshd.cl.tcpclv4.messages import RefuseReason
from meshd.cl.tcpclv4.session import Session
from tests.unit.cl.tcpclv4_pair import drain, feed, written

MRU_BYTES: Final = 100_000
"""Above STREAM_MIN_BYTES, so that segments are received into their final place too."""
ANSWER_BYTES_CONSTANT: Final = 512


@dataclass
class Outcome:
    """What came out of a session, however its input was cut."""

    received: list[tuple[int, bytes]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    refused: list[tuple[int, int | None]] = field(default_factory=list)
    others: list[object] = field(default_factory=list)
    endings: list[tuple[EndReason, bool]] = field(default_factory=list)
    written: bytes = b""
    has_received_term: bool = False

    def agrees_with(self, other: "Outcome") -> bool:
        """True when both are the same. What a peer says after its SESS_TERM may find the session ended or not."""
        transfers = (self.received, self.acknowledged, self.refused, self.others)
        if transfers != (other.received, other.acknowledged, other.refused, other.others):
            return False
        return self.has_received_term or (self.endings, self.written) == (other.endings, other.written)


def run(session: Session, pieces: list[bytes]) -> Outcome:
    """Feed, then answer every transfer: odd ones are acknowledged, even ones refused."""
    outcome = Outcome()
    for piece in pieces:
        feed(session, piece)
        _assert_bounded(session)
    _note(session, outcome)
    session.acknowledge([transfer_id for transfer_id, _ in outcome.received if transfer_id % 2])
    for transfer_id, _ in outcome.received:
        session.refuse(transfer_id, RefuseReason.NO_RESOURCES)
    outcome.written = written(session)
    _note(session, outcome)
    timer = session.get_timer()
    if timer is not None:
        session.handle_timer(timer)
        outcome.written += written(session)
    session.connection_lost("the input is at its end")
    _note(session, outcome)
    outcome.has_received_term = session._has_received_term
    return outcome


def _note(session: Session, outcome: Outcome) -> None:
    for event in drain(session):
        match event:
            case TransfersReceived(rows):
                outcome.received += [(row.transfer_id, row.data) for row in rows]
            case TransfersAcknowledged(transfer_ids):
                outcome.acknowledged += transfer_ids
            case TransferRefused(transfer_id, reason):
                outcome.refused.append((transfer_id, reason))
            case SessionEstablished():
                outcome.others.append(event)
            case SessionEnded(reason, _, is_peer_fault):  # the text may quote what had arrived
                outcome.endings.append((reason, is_peer_fault))


def _assert_bounded(session: Session) -> None:
    arriving = session._incoming._arriving
    if arriving is not None:
        held_bytes = sum(map(len, arriving._pieces)) + len(arriving._gathered)
        assert held_bytes <= MRU_BYTES, "a transfer holds more than its MRU"
        assert len(arriving._pieces) <= 2 + 2 * (held_bytes // PIECE_MIN_BYTES), "it is held in too many pieces"


def assert_in_proportion(outcome: Outcome, stream: bytes, own_bytes: int = 0) -> None:
    """What came out is no more than went in; of answers twice as much (an 18-byte one to the smallest segment)."""
    assert sum(len(data) for _, data in outcome.received) <= len(stream)
    assert len(outcome.written) <= 2 * len(stream) + own_bytes + ANSWER_BYTES_CONSTANT
    assert len(outcome.endings) == 1, "it ends exactly once"
