# SPDX-License-Identifier: Apache-2.0
"""Bundles that this node makes itself (RFC 9171 section 5.2): messages, answers, administrative records."""

from typing import Final

from meshd.bundle.codec import build
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, BundleRecord, Part, PayloadRef
from meshd.bundle.supersession import Supersession
from meshd.node.bundle_table import Entry
from meshd.node.state import NodeState

HOP_LIMIT: Final = 32
"""Of bundles made here; far above any path in a mesh of seven, low enough to end a loop."""


def next_timestamp(state: NodeState, now: float) -> tuple[int, int]:
    """A creation timestamp of our own: (DTN time in ms, 0 without a clock; sequence number)."""
    return state.creation.next(state.dtn_ms(now) if state.has_clock else None)


def originate(
    state: NodeState,
    source: Eid,
    destination: Eid,
    payload: bytes,
    now: float,
    *,
    lifetime_ms: int,
    precedence: int,
    flags: int = 0,
    timestamp: tuple[int, int] | None = None,
    part: Part | None = None,
    supersession: Supersession | None = None,
    held: bool = False,
) -> Entry:
    """Make a bundle and its entry; nothing is taken in yet. `timestamp` is a new one by default."""
    time_ms, sequence = timestamp or next_timestamp(state, now)
    data = build(
        source,
        destination,
        state.settings.id,
        flags,
        time_ms,
        sequence,
        lifetime_ms,
        payload,
        precedence=precedence,
        part=part,
        supersession=supersession,
        hop_limit=HOP_LIMIT,
        age_ms=0,
    )
    now_ms = state.dtn_ms(now)
    record = BundleRecord(
        BundleId(source, time_ms, sequence),
        destination,
        precedence,
        now_ms + lifetime_ms,
        now_ms,
        len(data),
        int(flags),
        not time_ms,
        None,
        part,
        held,
        PayloadRef(-1, 0, len(data), data),
        supersession=supersession,
    )
    return Entry(record, None, data, is_own=True)
