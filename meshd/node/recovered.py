# SPDX-License-Identifier: Apache-2.0
"""What the store brought back at the start becomes the node's state again; and which of it only waits (is parked).

Dispatching what does not wait is left to the agent.
"""

from collections.abc import Mapping, Sequence

from meshd.bundle.dtn_time import CreationClock
from meshd.bundle.eid import NULL_EID
from meshd.bundle.record import BundleId, BundleRecord, parse_bundle_id_text
from meshd.node.bundle_table import Entry
from meshd.node.events import StoreRecovered
from meshd.node.parked_bundles import Kind
from meshd.node.replication import NOTE_PREFIX as COPIES_PREFIX
from meshd.node.replication import Copies, note_key, resume
from meshd.node.sent_messages import message_id_of
from meshd.node.state import CREATION_NOTE, NodeState
from meshd.routing.decision import Forward, LinkView, Router


def take_over(event: StoreRecovered, state: NodeState, router: Router, view: LinkView, now: float) -> list[Entry]:
    """Fill the tables; returns the bundles that are to be dispatched."""
    state.creation = CreationClock(event.notes.get(CREATION_NOTE))
    table = state.table
    unparked = _park(event.records, state, router, view, now)
    entries = [Entry(record, None, None, record.previous_node is None) for record in unparked]
    for entry in entries:
        table.add(entry)
    for bundle, until_ms in event.known:
        if bundle not in table:
            state.known.add(bundle, until_ms, may_return=True)  # the store does not know what became of it
    state.messages.recover(event.notes, _messages(event.records, state))
    return entries


def resume_copies(state: NodeState, notes: Mapping[str, bytes]) -> dict[BundleId, Copies]:
    """Where bundles to groups have been; notes of bundles that are gone go too."""
    names = [name for name in notes if name.startswith(COPIES_PREFIX)]
    noted = [state.table.look_at(parse_bundle_id_text(name.removeprefix(COPIES_PREFIX))) for name in names]
    records = [entry.record for entry in noted if entry is not None]
    resumed = {record.id: copies for record in records if (copies := resume(record, notes))}
    kept = {note_key(bundle) for bundle in resumed}
    state.notes |= dict.fromkeys((name for name in names if name not in kept), b"")
    return resumed


def unpark(state: NodeState, router: Router, view: LinkView, now: float) -> list[Entry]:
    """Decide anew for all kinds of parked bundles; returns those that need not wait any more."""
    table = state.table
    kinds: list[Kind] = []
    table.parked.wake_at = None
    for kind, sample in table.parked.samples.items():
        reason = _reason_to_park(sample, state, router, view, now)
        if reason is None:
            kinds.append(kind)
        else:
            table.parked.reasons[kind] = reason
    return table.unpark(kinds) if kinds else []


def _park(
    records: Sequence[BundleRecord], state: NodeState, router: Router, view: LinkView, now: float
) -> list[BundleRecord]:
    """Let those wait without an entry each that only can wait; returns the others."""
    kinds: dict[Kind, str | None] = {}
    parked: list[BundleRecord] = []
    others: list[BundleRecord] = []
    samples: dict[Kind, BundleRecord] = {}
    destination, previous_node = NULL_EID, None  # of the record before; its EIDs are the same objects
    take = others.append
    for record in records:  # a hot loop at a start
        if record.destination is not destination or record.previous_node is not previous_node:
            kind = destination, previous_node = record.destination, record.previous_node
            if kind not in kinds:
                kinds[kind] = _reason_to_park(record, state, router, view, now)
                samples[kind] = record
            take = others.append if kinds[kind] is None else parked.append
        if record.supersession is None:
            take(record)
        else:
            others.append(record)  # it may be dropped for a newer one
    reasons = {kind: reason for kind, reason in kinds.items() if reason is not None}
    state.table.park(parked, reasons, {kind: samples[kind] for kind in reasons})
    return others


def _reason_to_park(record: BundleRecord, state: NodeState, router: Router, view: LinkView, now: float) -> str | None:
    """Why all bundles of its kind wait; None: they need not, or not all of them."""
    if record.destination.node == state.settings.id or record.destination in state.groups:
        return None
    decision = router.choose_next_hops(record, view, now)
    if isinstance(decision, Forward) or not decision.is_for_all:
        return None
    parked = state.table.parked
    if decision.wake_at is not None:
        parked.wake_at = decision.wake_at if parked.wake_at is None else min(parked.wake_at, decision.wake_at)
    return decision.reason


def _messages(records: Sequence[BundleRecord], state: NodeState) -> list[BundleId]:
    """The messages of ours to which these belong, one for each bundle of theirs."""
    made_here = [record for record in records if record.previous_node is None]
    own = {source for source in {record.id[0] for record in made_here} if source.node == state.settings.id}
    return [message_id_of(each.id, each.part) for each in made_here if each.id[0] in own] if own else []
