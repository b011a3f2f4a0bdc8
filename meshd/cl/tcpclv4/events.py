# SPDX-License-Identifier: Apache-2.0
"""What a TCPCLv4 session tells its owner (the indications of RFC 9174 section 3.1), transfers many at a time."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.messages import RefuseReason


class EndReason(enum.Enum):
    """Why a session ended."""

    TERMINATED = "terminated"
    """By SESS_TERM, ours or the peer's, all transfers under way done."""
    IDLE = "idle"
    """The same, because the session carried nothing: whoever needs one dials again."""
    IDLE_TIMEOUT = "idle timeout"
    """The peer was not heard."""
    HANDSHAKE_TIMEOUT = "handshake timeout"
    CONNECTION_LOST = "connection lost"
    VERSION_MISMATCH = "version mismatch"
    CONTACT_FAILURE = "contact failure"
    """Contact header or SESS_INIT can't be accepted."""
    TLS_FAILURE = "TLS failure"
    """No TLS could be agreed on, the handshake failed, or the peer's certificate is not accepted."""
    UNWANTED_PEER = "unwanted peer"
    """The peer is not one of those welcome."""
    PROTOCOL_ERROR = "protocol error"
    UNREADABLE = "unreadable bundle"
    """What we were sending can't be read any more, and a transfer can't be broken off in any other way."""


class TransferRow(msgspec.Struct, frozen=True, gc=False):
    """One transfer that arrived whole, to be acknowledged or refused by its ID."""

    transfer_id: int
    data: bytes
    """A copy of its own."""


@dataclass(frozen=True, slots=True)
class SessionEstablished:
    """Both sides have agreed (section 4.7): transfers can begin."""

    peer: Eid | None
    """None: the peer did not say who it is."""
    keepalive_s: int
    segment_bytes: int
    """Largest segment that we send."""
    transfer_mtu_bytes: int
    """Largest transfer that the peer takes."""


@dataclass(frozen=True, slots=True)
class TransfersReceived:
    """Transfers that arrived whole, in their order. Each waits for `acknowledge` or `refuse`."""

    rows: Sequence[TransferRow]


@dataclass(frozen=True, slots=True)
class TransferBegun:
    """A transfer too large to be given out whole has begun; its bytes follow as TransferPiece. It may be refused at any
    time.
    """

    transfer_id: int
    size_bytes: int | None
    """In all, as far as the peer has said."""


@dataclass(frozen=True, slots=True)
class TransferPiece:
    """The next bytes of such a transfer, to be answered by `release`."""

    transfer_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """Such a transfer has ended: it arrived whole and waits for `acknowledge` or `refuse`, or it never will."""

    transfer_id: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class TransferUnreadable:
    """What we were sending can't be read any more; the session ends by that."""

    transfer_id: int
    text: str


@dataclass(frozen=True, slots=True)
class TransfersAcknowledged:
    """The peer has acknowledged the last segment of these."""

    transfer_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class TransferRefused:
    """The peer does not take this one."""

    transfer_id: int
    reason: RefuseReason | None
    """None: it is larger than the peer's transfer MRU, and was not sent."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Nothing more comes. Transfers that were neither acknowledged nor refused have failed (section 6.1)."""

    reason: EndReason
    text: str
    is_peer_fault: bool
    """The peer broke the protocol; False for time-outs and clean ends."""


PieceEvent = TransferBegun | TransferPiece | TransferEnded
Event = (
    SessionEstablished
    | TransfersReceived
    | PieceEvent
    | TransferUnreadable
    | TransfersAcknowledged
    | TransferRefused
    | SessionEnded
)
