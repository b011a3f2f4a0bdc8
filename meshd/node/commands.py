# SPDX-License-Identifier: Apache-2.0
"""What the bundle protocol agent wants done. The shell executes commands in order; results come back as events."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from meshd.bundle.eid import Eid
from meshd.bundle.header import BundleHeader
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.link.identity import LinkId


class ForgottenRow(msgspec.Struct, frozen=True, gc=False):
    """A bundle that is gone from here; its ID is remembered until then so that it is not taken twice."""

    id: BundleId
    remember_until_ms: int
    """DTN time in ms; 0: need not be remembered."""


@dataclass(frozen=True, slots=True)
class Report:
    """Something operators want to see: goes to the journal and to `meshctl events`."""

    kind: str
    """Such as `bundle.forwarded`."""
    fields: dict[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class WriteStore:
    """One atomic group of changes to the store: all of it is durable, or none.

    Answered by BundlesStored or StoringFailed for `puts`; deletions, releases and notes are answered by nothing (the
    next start simply finds them undone if power fails first).
    """

    puts: Sequence[BundleRecord] = ()
    """Records with `payload.inline` filled."""
    deletes: Sequence[ForgottenRow] = ()
    releases: Sequence[BundleId] = ()
    """Held bundles whose submission is complete: they survive a crash from here on."""
    notes: dict[str, bytes] = field(default_factory=dict)
    """Small facts of ours, newest wins; an empty value deletes."""
    tells: Sequence[Report] = ()
    """What may be told once the group is durable, so that nothing told is ever taken back."""


@dataclass(frozen=True, slots=True)
class AcceptTransfers:
    """Acknowledge these: what they carried is durable here, or was already."""

    link: LinkId
    transfers: Sequence[object]


@dataclass(frozen=True, slots=True)
class RefuseTransfer:
    """Tell the neighbour that we don't take this one."""

    link: LinkId
    transfer: object
    retriable: bool
    """True: no resources at the moment; False: not acceptable as it is."""
    completed: bool
    """True: we have had it before (RFC 9174: "Completed")."""
    text: str


@dataclass(frozen=True, slots=True)
class BeginStream:
    """A large bundle comes in pieces: the store makes a place for it. A piece that is written gives its room back to
    the link; what goes wrong is answered by StreamFailed.
    """

    stream: int
    """Number never used before: the agent counts up from 1, the shell down from -1 for what it joins."""
    link: LinkId | None
    """None: it does not arrive, it is joined here of fragments."""
    transfer: object
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WritePiece:
    """Its next bytes."""

    stream: int
    link: LinkId | None
    transfer: object
    data: bytes


@dataclass(frozen=True, slots=True)
class FinishStream:
    """All of it came: make it durable and commit this record, whose payload's place the store fills in. Answered like a
    WriteStore.
    """

    stream: int
    record: BundleRecord


@dataclass(frozen=True, slots=True)
class AbortStream:
    """Nothing of it is kept."""

    stream: int


StreamCommand = BeginStream | WritePiece | FinishStream | AbortStream


class SendRow(msgspec.Struct, frozen=True, gc=False):
    """A bundle to transmit. Its extension blocks are patched at the moment of transmission."""

    id: BundleId
    payload: PayloadRef
    """Where the shell reads it from the store."""
    inline: bytes | None
    """Its bytes while they are still in memory."""
    header: BundleHeader | None
    """Of these bytes, while it is still in memory."""
    received_ms: int
    """DTN time at which it came: now minus this is added to its bundle age block."""
    is_own: bool
    """True: this node is its source, nothing is to be patched but the age."""


@dataclass(frozen=True, slots=True)
class SendBundles:
    """Transmit these on the link, in order."""

    link: LinkId
    rows: Sequence[SendRow]
    is_urgent: bool = False
    """FLASH or above: they must not wait long behind a transfer that is under way, whatever the link's credit."""


@dataclass(frozen=True, slots=True)
class FragmentBundle:
    """Cut this bundle into fragments; answered by BundleFragmented, or by DataUnreadable. Of one that is too large for
    memory only the first ones are made.
    """

    id: BundleId
    payload: PayloadRef
    """With `inline` filled while the bytes are still in memory."""
    size_max_bytes: int
    """Of each encoded fragment."""
    first_max_bytes: int
    """Of the first one: what its link can still carry, at most the same."""
    position: int = 0
    """The byte of its payload at which the first one begins."""


@dataclass(frozen=True, slots=True)
class ReassembleBundle:
    """Join these fragments; answered by BundleReassembled, or by BundleJoined or JoiningFailed when the whole is too
    large for memory; and by DataUnreadable where one could not be read.
    """

    id: BundleId
    """Of the whole."""
    fragments: Sequence[BundleId]
    payloads: Sequence[PayloadRef]
    """Of the fragments, in the same order."""


class MessagePart(msgspec.Struct, frozen=True, gc=False):
    """One bundle of a message that is complete."""

    id: BundleId
    payload: PayloadRef
    offset_bytes: int
    """Of its payload in the message, as its part block says."""
    data: bytes | None = None
    """The encoded bundle, when it has only just come, and is the only one."""
    header: BundleHeader | None = None
    """Of that."""


@dataclass(frozen=True, slots=True)
class DeliverMessage:
    """Offer a whole message to a waiting application: the ADU is the payloads of these bundles, in order."""

    receiver: int
    message: BundleId
    source: Eid
    destination: Eid
    precedence: int
    created_ms: int
    """DTN time, 0 where the source had no clock."""
    expiry_ms: int
    parts: Sequence[MessagePart]


@dataclass(frozen=True, slots=True)
class SubmissionAccepted:
    """All parts of this submission are durable: the application may be told "queued"."""

    submission: int
    message: BundleId


@dataclass(frozen=True, slots=True)
class SubmissionRefused:
    """This submission can't be taken; nothing of it is kept."""

    submission: int
    code: str
    """A name of meshd.control.errors, such as `store_full`."""
    text: str


@dataclass(frozen=True, slots=True)
class PartAccepted:
    """This part of the submission is durable; the next one may come (back-pressure)."""

    submission: int


@dataclass(frozen=True, slots=True)
class NeighbourFallsSilent:
    """By its plan of emission control: over these links it is sent to blind, for so many seconds; 0: not known."""

    links: Sequence[LinkId]
    for_s: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send TimerFired at this monotonic time; replaces the earlier wish. None: no timer."""

    at: float | None


Command = (
    WriteStore
    | StreamCommand
    | AcceptTransfers
    | RefuseTransfer
    | SendBundles
    | FragmentBundle
    | ReassembleBundle
    | DeliverMessage
    | SubmissionAccepted
    | SubmissionRefused
    | PartAccepted
    | NeighbourFallsSilent
    | WakeAt
    | Report
)
