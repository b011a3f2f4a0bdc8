# SPDX-License-Identifier: Apache-2.0
"""What the node knows of a stored bundle: the rows that agent, routing and store exchange.

A row is a `msgspec.Struct` without garbage collection (it refers to nothing that refers back) because one is made for
each bundle. Times here are DTN time in milliseconds (RFC 9171 section 4.2.6) under the node's own reckoning; the
agent converts to and from its monotonic clock.
"""

import hashlib
import re
from typing import Final, NamedTuple

import msgspec

from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.errors import BundleError
from meshd.bundle.supersession import Supersession


class BundleId(NamedTuple):
    """What makes two bundles the same bundle (RFC 9171 section 4.2.7 and 5.9).

    `fragment_offset` and `fragment_bytes` are -1 for a bundle that is not a fragment. A bundle with an anonymous
    source (`dtn:none`) carries a digest of its primary block in `digest`, for all others this is empty.
    """

    source: Eid
    time_ms: int
    sequence: int
    fragment_offset: int = -1
    fragment_bytes: int = -1
    digest: bytes = b""


REF_DIGITS: Final = 12
"""Hexadecimal digits of a bundle's short name."""

_ID_TEXT: Final = re.compile(
    r"(.+)@([0-9]{1,20})\.([0-9]{1,20})(?:\+([0-9]{1,20})-([0-9]{1,20}))?(?:~((?:[0-9a-f]{2})+))?"
)


def bundle_id_text(bundle_id: BundleId) -> str:
    """A bundle ID as people see it: `dtn://dpop1/inbox@820454400123.0`.

    Source, creation time in ms and sequence number; a fragment adds `+offset-length` in bytes, an anonymous bundle
    `~digest` in hexadecimal.
    """
    text = f"{bundle_id.source.uri}@{bundle_id.time_ms}.{bundle_id.sequence}"
    if bundle_id.fragment_offset >= 0:
        text += f"+{bundle_id.fragment_offset}-{bundle_id.fragment_bytes}"
    if bundle_id.digest:
        text += f"~{bundle_id.digest.hex()}"
    return text


def parse_bundle_id_text(text: str) -> BundleId:
    """The reverse of `bundle_id_text`.

    Errors:
        BundleError: `bundle-id` when the text has another form, EidError when the source is no EID.
    """
    match = _ID_TEXT.fullmatch(text)
    if match is None:
        raise BundleError("bundle-id", f"{text[:80]!a} is no bundle ID: write SOURCE@MILLISECONDS.SEQUENCE")
    source, time_ms, sequence, offset, size_bytes, digest = match.groups()
    return BundleId(
        parse_eid(source),
        int(time_ms),
        int(sequence),
        -1 if offset is None else int(offset),
        -1 if size_bytes is None else int(size_bytes),
        bytes.fromhex(digest or ""),
    )


def bundle_ref(bundle_id: BundleId) -> str:
    """A bundle's short name: the first 12 hexadecimal digits of the SHA-256 of its text."""
    return hashlib.sha256(bundle_id_text(bundle_id).encode()).hexdigest()[:REF_DIGITS]


def adu_of(fragment: BundleId) -> BundleId:
    """The bundle that a fragment was cut from; a bundle that is no fragment is its own."""
    if fragment.fragment_offset < 0:
        return fragment
    return BundleId(fragment.source, fragment.time_ms, fragment.sequence)


class Part(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Which piece of a message a bundle carries (private block 202); all parts have one source and destination."""

    first_time_ms: int
    """Creation timestamp of part 0: with the source it identifies the message."""
    first_sequence: int
    index: int
    offset_bytes: int
    is_last: bool


class PayloadRef(msgspec.Struct, frozen=True, gc=False):
    """Where the encoded bundle lies in the store, and its bytes while they are still in memory.

    `inline` is the whole encoded bundle as it arrived (never a view of a receive buffer), or None once it was let go.
    `segment` is -1 until the store has committed it.
    """

    segment: int
    offset: int
    size_bytes: int
    inline: bytes | None = None


class BundleRecord(msgspec.Struct, gc=False):
    """A stored bundle: what dispatching and forwarding need, so that the bundle itself need not be read.

    Only `payload` ever changes, once: when the store says where the bundle lies.
    """

    id: BundleId
    destination: Eid
    precedence: int
    """0 DEFERRED to 5 OVERRIDE."""
    expiry_ms: int
    """DTN time at which it is deleted."""
    received_ms: int
    """DTN time at which it came into this node."""
    size_bytes: int
    """Of the encoded bundle."""
    flags: int
    """Bundle processing control flags."""
    by_age: bool
    """True when expiry was reckoned from the bundle age block (creation time 0): a step of the clock moves it along.
    """
    previous_node: Eid | None
    """The neighbour that brought it (as its session proved, not as its block claims); None: made here."""
    part: Part | None
    held: bool
    """Part of a message whose submission is not finished yet: a crash before its release forgets it."""
    payload: PayloadRef
    report_to: Eid | None = None
    """Who gets status reports about it; None where its flags ask for none."""
    total_adu_bytes: int = 0
    """Of the ADU of which a fragment carries an extent; 0 when it is not a fragment."""
    supersession: Supersession | None = None
    """What it supersedes."""
