# SPDX-License-Identifier: Apache-2.0
"""Settings of one TCPCLv4 session: what this node offers in SESS_INIT and how long it waits (RFC 9174 section 4.6)."""

import enum
from dataclasses import dataclass
from typing import Final

from meshd.base.limits import BUNDLE_SIZE_MAX_BYTES, INLINE_SIZE_MAX_BYTES, PIECE_SIZE_BYTES
from meshd.bundle.eid import Eid
from meshd.link.settings import TlsPolicy

SEGMENT_DEFAULT_BYTES: Final = 1024 * 1024 + 64 * 1024
"""Largest segment sent by default: a part of a message with its headers (1 MiB and a little) still fits one segment."""

HANDSHAKE_TIMEOUT_S: Final = 30.0
"""From the connection to the established session (section 4.1 asks for no more than 60 s)."""

ENDING_TIMEOUT_S: Final = 10.0
"""From the first SESS_TERM until the transfers under way are given up."""


class Role(enum.Enum):
    """Who opened the TCP connection (section 3.3)."""

    ACTIVE = "active"
    PASSIVE = "passive"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a session needs to know before its first byte."""

    node: Eid
    """Our own node ID."""
    peers: frozenset[Eid] | None
    """Node IDs that are welcome; None: anybody. An active session names the one that it dialled."""
    keepalive_s: int
    """Offered; the smaller of both offers counts, 0 disables (section 4.7)."""
    segment_mru_bytes: int = INLINE_SIZE_MAX_BYTES
    """Largest segment that we take."""
    transfer_mru_bytes: int = BUNDLE_SIZE_MAX_BYTES
    """Largest transfer that we take."""
    segment_bytes: int = SEGMENT_DEFAULT_BYTES
    """Largest segment that we send; on a slow bearer small enough that nothing else waits long behind it."""
    tls: TlsPolicy = TlsPolicy.NEVER
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S
    ending_timeout_s: float = ENDING_TIMEOUT_S
    inline_max_bytes: int = INLINE_SIZE_MAX_BYTES
    """A transfer up to this is given out whole, a larger one in pieces."""
    piece_bytes: int = PIECE_SIZE_BYTES
    """Pieces are about so large."""
