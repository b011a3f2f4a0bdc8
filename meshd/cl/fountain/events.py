# SPDX-License-Identifier: Apache-2.0
"""What the fountain machine tells its owner, and the rows that go in and out."""

import enum
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from meshd.bundle.eid import Eid
from meshd.cl.fountain.object_format import Chunks
from meshd.security.replay_window import Mark


class OutgoingRow(msgspec.Struct, frozen=True):
    """A bundle to send, as chunks."""

    bundle: Hashable
    """How the owner names it; what comes back names it the same way."""
    chunks: Chunks
    precedence: int
    expires_at: float
    """Monotonic seconds; it is given up then."""
    tier: int | None = None
    """Of a live bundle, which is of no use when it is late; 0 goes first."""


class TransferRow(msgspec.Struct, frozen=True, gc=False):
    """One bundle that arrived whole, to be accepted or refused by its number."""

    transfer: int
    data: bytes
    nodes: tuple[int, ...] = ()
    """Indexes of all that the object which brought it is for."""


class Datagram(msgspec.Struct, frozen=True, gc=False):
    """One datagram to send at once."""

    node: Eid | None
    """To whom; None: to the bearer's multicast group."""
    data: bytes


class FailureReason(enum.Enum):
    """Why a bundle was given up."""

    LINK_DOWN = "the node is not heard any more"
    ONE_WAY = "the node does not hear us"
    EXPIRED = "it expired on the way"
    LATE = "it would arrive too late"
    REFUSED = "the node does not take it"
    REFUSED_FOR_NOW = "the node can't take it now"
    TOO_MANY = "too much is under way already"


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A node is heard, or will be sent to blind: bundles can be sent to it."""

    node: Eid
    is_blind: bool
    silent_s: int | None = None
    """It has just said that it falls silent on order for so long; 0: for how long was not said."""


@dataclass(frozen=True, slots=True)
class PeerDown:
    """A node is not heard any more, or does not hear us.

    What it already has is remembered: nothing is sent again from the beginning.
    """

    node: Eid
    reason: FailureReason = FailureReason.LINK_DOWN


@dataclass(frozen=True, slots=True)
class PeerFound:
    """A member that was not configured is heard: it is a neighbour from now on; comes before its PeerUp."""

    node: Eid
    source: object
    """Where its datagram came from, as the owner named it; None: it was not said."""


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A node that was found has not been heard for so long that it is a neighbour no more."""

    node: Eid


@dataclass(frozen=True, slots=True)
class TransfersReceived:
    """Bundles that arrived whole, in the order of their completion. Each waits for `accept` or `refuse`."""

    node: Eid
    rows: Sequence[TransferRow]


@dataclass(frozen=True, slots=True)
class TransfersAcknowledged:
    """The node has these on its disk."""

    node: Eid
    bundles: Sequence[Hashable]


@dataclass(frozen=True, slots=True)
class TransfersSent:
    """All passes of these have left for a node that will never answer: more can't be known."""

    node: Eid
    bundles: Sequence[Hashable]


@dataclass(frozen=True, slots=True)
class TransfersFailed:
    """These are given up for this node."""

    node: Eid
    bundles: Sequence[Hashable]
    reason: FailureReason


@dataclass(frozen=True, slots=True)
class WorkRequested:
    """Call `work` in a thread and bring its result to `handle_work_done`; it touches nothing of the machine."""

    job: int
    work: Callable[[], object]


@dataclass(frozen=True, slots=True)
class MarksToSave:
    """Put these on the disk, then say `marks_saved`: datagrams wait for it."""

    marks: Mapping[Eid, Mark]


@dataclass(frozen=True, slots=True)
class StateCloned:
    """Somebody has seen datagrams of ours that we did not send: stop this bearer (see `sealer.py`)."""


Event = (
    PeerUp
    | PeerDown
    | PeerFound
    | PeerGone
    | TransfersReceived
    | TransfersAcknowledged
    | TransfersSent
    | TransfersFailed
    | WorkRequested
    | MarksToSave
    | StateCloned
)
