# SPDX-License-Identifier: Apache-2.0
"""What an MTCP session tells its owner."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


class EndReason(enum.Enum):
    """Why a session ended."""

    TERMINATED = "terminated"
    """By us."""
    STALLED = "stalled"
    """The peer went silent in the middle of a bundle, or its TCP acknowledges nothing any more."""
    CONNECTION_LOST = "connection lost"
    PROTOCOL_ERROR = "protocol error"


class BundleRow(msgspec.Struct, frozen=True, gc=False):
    """One bundle that arrived whole, to be released by its number."""

    number: int
    data: bytes
    """A copy of its own."""


@dataclass(frozen=True, slots=True)
class BundlesArrived:
    """Bundles that arrived whole, in their order. Each counts as held until `release`."""

    rows: Sequence[BundleRow]


@dataclass(frozen=True, slots=True)
class BundlesCarried:
    """The peer's TCP has acknowledged the last byte of these."""

    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Nothing more comes. Bundles that were not carried by now are to be sent again."""

    reason: EndReason
    text: str
    is_peer_fault: bool


Event = BundlesArrived | BundlesCarried | SessionEnded
