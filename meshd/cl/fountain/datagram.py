# SPDX-License-Identifier: Apache-2.0
"""What a sealed datagram looks like, and what comes of opening one (DESIGN section 5).

    12 bytes  header, masked: sender's index 16 bits, boot number 32, counter 48
     n bytes  frames, encrypted
    16 bytes  authentication tag

The header is the nonce of AES-256-GCM, hence authenticated without being named as such. No byte of it is in plain
text, neither is the epoch: who listens sees no node, no count and no key change. The mask needs 16 bytes behind the
header, which the tag alone provides.
"""

import enum
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from meshd.base.errors import RemoteProtocolError
from meshd.bundle.eid import Eid

HEADER: Final = struct.Struct("!HIHI")
"""Index, boot number, counter in 16 and 32 bits."""
COUNTER_LOW_MASK: Final = (1 << 32) - 1
INDEX_BYTES: Final = 2
HEADER_BYTES: Final = HEADER.size
MASK_SAMPLE_BYTES: Final = 16
SEAL_BYTES: Final = HEADER_BYTES + 16
"""What sealing adds to the frames."""
DATAGRAM_MAX_BYTES: Final = 65_507
"""UDP over IPv4 carries no more."""


class Opened(msgspec.Struct, frozen=True, gc=False):
    """An authentic datagram of another member, met for the first time."""

    sender: Eid
    index: int
    """The sender's, as frames name nodes."""
    boot: int
    counter: int
    epoch: int
    is_old_epoch: bool
    """It may carry nothing but re-key bundles."""
    plaintext: bytes


class Fault(enum.Enum):
    """Why a datagram is dropped."""

    SIZE = "size"
    """Too short to be one, or too long."""
    UNKNOWN = "unknown"
    """In no epoch that we accept does its header name a member."""
    FORGED = "forged"
    """Not sealed by whom it names, or damaged on the way."""
    REPLAYED = "replayed"
    TOO_OLD = "too_old"
    """Behind the replay window, or of an earlier start of the sender."""
    OWN = "own"
    """We sent it ourselves."""
    CLONED = "cloned"
    """Sealed as if by us, but ahead of us: our state was restored from a copy, or somebody else has our keys."""
    CROWDED = "crowded"
    """Too many datagrams wait for the replay mark to be on the disk."""


class Sifted(NamedTuple):
    """What is left of datagrams that came together when those are dropped that can be dropped cheaply."""

    datagrams: Sequence[bytes]
    """In their order."""
    dropped: Mapping[Fault, int] = MappingProxyType({})
    """How many of the others for which reason."""


class DatagramError(RemoteProtocolError):
    """The datagram is dropped; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        # Exception has kept `fault` as its text already; there may be 100 000 of these in a second.
        self.fault = fault
