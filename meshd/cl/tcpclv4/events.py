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
    IDLE_TIMEOUT = "idle timeout"
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
class TransfersAcknowledged:
    """The peer has acknowledged the last segment of these."""

    transfer_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class TransferRefused:
    """The peer does not take this one, or could not (larger than its transfer MRU)."""

    transfer_id: int
    reason: RefuseReason


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Nothing more comes. Transfers that were neither acknowledged nor refused have failed (section 6.1)."""

    reason: EndReason
    text: str
    is_peer_fault: bool
    """The peer broke the protocol; False for time-outs and clean ends."""


Event = SessionEstablished | TransfersReceived | TransfersAcknowledged | TransferRefused | SessionEnded
