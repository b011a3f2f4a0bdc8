# SPDX-License-Identifier: Apache-2.0
"""What the bundle protocol agent is told. What happens per bundle comes as rows of a batch event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.eid import Eid
from meshd.bundle.header import BundleHeader
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.bundle.supersession import Supersession
from meshd.emcon.schedule import Schedule
from meshd.link.identity import LinkId
from meshd.link.metric import LinkSample
from meshd.link.settings import Posture
from meshd.node.commands import Report


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """The only source of wall time in the core: DTN time in ms = now * 1000 + utc_offset_ms."""

    utc_offset_ms: int
    uncertainty_ms: int | None
    """None: the clock is not to be trusted, creation times are 0 and bundles carry their age."""


@dataclass(frozen=True, slots=True)
class StoreRecovered:
    """What the store holds after a start: live bundles, IDs to remember, and our own notes."""

    records: Sequence[BundleRecord]
    known: Sequence[tuple[BundleId, int]]
    """Duplicate memory: (ID, DTN time in ms until which it is remembered), live bundles included."""
    notes: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A session with this neighbour can carry bundles now."""

    link: LinkId
    transfer_mtu_bytes: int = INLINE_SIZE_MAX_BYTES
    """The neighbour takes no larger bundle; what is larger is fragmented."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The last session of this link has ended, and with it all transfers under way."""

    link: LinkId
    reason: str


@dataclass(frozen=True, slots=True)
class LinkMeasured:
    """A bearer has something new to say of how well a link carries."""

    link: LinkId
    sample: LinkSample


@dataclass(frozen=True, slots=True)
class PosturesChanged:
    """What may leave each bearer from now on; a bearer that is not named is OPEN."""

    postures: dict[str, Posture]
    until_ms: int | None = None
    """DTN time in ms at which the order for them ends; None: no end is known."""
    floors: Mapping[str, int] = field(default_factory=dict)
    """Bundles below this precedence wait, by bearer."""
    let_through: BundleId | None = None
    """This one waits for no floor."""
    plan: Schedule | None = None
    """When what radiates is silent, as `emcon.silence_plan` has it, while a schedule decides; None: none does."""


@dataclass(frozen=True, slots=True)
class NeighbourSilent:
    """It falls silent on order: it still receives."""

    node: Eid
    for_s: int
    """For so long; 0: not said."""


@dataclass(frozen=True, slots=True)
class NeighbourSpeaks:
    """It is silent no more."""

    node: Eid


@dataclass(frozen=True, slots=True)
class ContactsChanged:
    """The contact plan is another one."""


class ReceivedRow(msgspec.Struct, frozen=True, gc=False):
    """One transfer that arrived whole."""

    transfer: object
    """What the bearer needs to accept or refuse it; opaque to the node."""
    data: bytes
    """The encoded bundle, a copy of its own."""
    served: tuple[Eid, ...] = ()
    """Neighbours of ours to whom the sender brings it with the same transmission, and goes on until they have it."""


@dataclass(frozen=True, slots=True)
class BundlesReceived:
    """Transfers that arrived from a neighbour, not acknowledged yet, in their order."""

    link: LinkId
    rows: Sequence[ReceivedRow]


@dataclass(frozen=True, slots=True)
class TransferBegun:
    """A transfer has begun that is too large to be held in memory: its bytes come as TransferPiece."""

    link: LinkId
    transfer: object
    size_bytes: int | None
    """In all, as far as the neighbour has said."""


@dataclass(frozen=True, slots=True)
class TransferPiece:
    """Its next bytes; the first piece has FRONT_SIZE_MAX_BYTES at least, or all."""

    link: LinkId
    transfer: object
    data: bytes


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """Nothing more comes of it."""

    link: LinkId
    transfer: object
    is_whole: bool
    """False: its session ended first, or it was not what had been announced."""


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The store could not take this large bundle: nothing of it is kept."""

    stream: int
    reason: str


class StoredRow(msgspec.Struct, frozen=True, gc=False):
    """A bundle that is durable now, and where it lies (without inline bytes)."""

    id: BundleId
    payload: PayloadRef


@dataclass(frozen=True, slots=True)
class BundlesStored:
    """The store has synced these."""

    rows: Sequence[StoredRow]


@dataclass(frozen=True, slots=True)
class StoringBegun:
    """The store is about to write this bundle, and answers before anything else happens."""

    id: BundleId


@dataclass(frozen=True, slots=True)
class StoringFailed:
    """The store could not take these: nothing of them is durable, nobody may be told otherwise."""

    ids: Sequence[BundleId]
    reason: str
    notes: Sequence[str] = ()
    """Names of the notes that went with them."""
    tells: Sequence[Report] = ()
    """What had to wait for them to be told."""


@dataclass(frozen=True, slots=True)
class LinkWritable:
    """The CL pulls: it would like this many more bytes of bundles."""

    link: LinkId
    credit_bytes: int


@dataclass(frozen=True, slots=True)
class TransfersAcknowledged:
    """The neighbour has these (and, being a meshd, has them on its disk)."""

    link: LinkId
    ids: Sequence[BundleId]


class RefusalReason(msgspec.Struct, frozen=True, gc=False):
    """Why a neighbour refused a bundle (RFC 9174 section 5.2.4), reduced to what the node does about it."""

    completed: bool
    """The neighbour already has it."""
    retriable: bool
    """The same neighbour may be tried again later."""
    session_ended: bool
    """It was not refused: its session ended before it was acknowledged."""
    text: str
    is_late: bool = False
    """It was not sent, for it would have arrived after its lifetime."""


@dataclass(frozen=True, slots=True)
class TransfersFailed:
    """These did not get through: refused, or the session ended first."""

    link: LinkId
    ids: Sequence[BundleId]
    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class DataUnreadable:
    """The store could not read these back: a damaged bundle is reported and dropped, never sent wrong."""

    ids: Sequence[BundleId]
    reason: str


@dataclass(frozen=True, slots=True)
class BundleFragmented:
    """The fragments of a bundle, or why there are none."""

    id: BundleId
    fragments: Sequence[bytes]
    problem: str = ""
    next_position: int = 0
    """Above 0: these are the first ones; from this byte of its payload on it has to be cut when they are durable."""


@dataclass(frozen=True, slots=True)
class BundleReassembled:
    """A bundle joined from its fragments. Without data: why not; without a problem: a fragment was unreadable."""

    id: BundleId
    data: bytes | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BundleJoined:
    """The same of one that is too large for memory: it lies in the store's stream, which has to be finished."""

    id: BundleId
    stream: int
    header: BundleHeader
    """Of the fragment at offset 0."""
    size_bytes: int
    """Of the whole."""


@dataclass(frozen=True, slots=True)
class JoiningFailed:
    """The store could not take it; its fragments are as they were."""

    id: BundleId
    reason: str


@dataclass(frozen=True, slots=True)
class MessageSubmitted:
    """An application hands over one part of a message. Parts of one submission come in order."""

    submission: int
    """Number that the control server chose; unique while the daemon runs."""
    source: Eid
    destination: Eid
    precedence: int
    lifetime_ms: int
    report_delivery: bool
    data: bytes
    """Of this part; every part but the last is exactly PART_SIZE_BYTES long."""
    is_last: bool
    supersession: Supersession | None = None
    """Only of a message of one part."""
    is_followed: bool = True
    """False: nobody asks what becomes of it, and it takes no place among the messages that can be asked for."""


@dataclass(frozen=True, slots=True)
class MessagesSubmitted:
    """Several at once, whole messages: the store gets them in one group."""

    messages: Sequence[MessageSubmitted]


@dataclass(frozen=True, slots=True)
class SubmissionAborted:
    """The application went away before the last part: what it handed over is forgotten."""

    submission: int


@dataclass(frozen=True, slots=True)
class ReceiverAttached:
    """An application waits for messages to this endpoint, one at a time until it confirms."""

    receiver: int
    endpoint: Eid


@dataclass(frozen=True, slots=True)
class ReceiverDetached:
    """It is gone; what it had not confirmed stays."""

    receiver: int


@dataclass(frozen=True, slots=True)
class DeliveryConfirmed:
    """The application has the message on its own disk."""

    receiver: int
    message: BundleId


@dataclass(frozen=True, slots=True)
class BundleCancelled:
    """An operator deletes a bundle (or all parts of a message that is still here)."""

    id: BundleId
    by: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time that the last WakeAt named has come."""


Event = (
    ClockStepped
    | StoreRecovered
    | LinkUp
    | LinkDown
    | LinkMeasured
    | PosturesChanged
    | NeighbourSilent
    | NeighbourSpeaks
    | ContactsChanged
    | BundlesReceived
    | TransferBegun
    | TransferPiece
    | TransferEnded
    | StreamFailed
    | BundlesStored
    | StoringBegun
    | StoringFailed
    | LinkWritable
    | TransfersAcknowledged
    | TransfersFailed
    | DataUnreadable
    | BundleFragmented
    | BundleReassembled
    | BundleJoined
    | JoiningFailed
    | MessageSubmitted
    | MessagesSubmitted
    | SubmissionAborted
    | ReceiverAttached
    | ReceiverDetached
    | DeliveryConfirmed
    | BundleCancelled
    | TimerFired
)
