# SPDX-License-Identifier: Apache-2.0
"""The bundle protocol agent (RFC 9171 section 5) as a decision object: events in, commands out, nothing else.

Reception (5.6), forwarding (5.4), applications (5.2, 5.7) are its parts; here stand dispatching (5.3), expiration
(5.5), deletion (5.10), the answers of the store, and the one timer.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import structs

from meshd.base.limits import PART_SIZE_BYTES
from meshd.bundle.admin_record import ReportReason
from meshd.bundle.dtn_time import CreationClock
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, bundle_id_text, bundle_ref
from meshd.bundle.scan import scan_untrusted
from meshd.link.link_table import LinkTable
from meshd.link.settings import BearerSettings, NeighbourSettings
from meshd.node import events as ev
from meshd.node.applications import Applications
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.commands import Command, WakeAt
from meshd.node.echo import Echo
from meshd.node.forwarding import Forwarding
from meshd.node.fragmentation import Fragmentation
from meshd.node.reassembly import Reassembly
from meshd.node.reception import Reception
from meshd.node.replication import NOTE_PREFIX as COPIES_PREFIX
from meshd.node.replication import Copies, begin, note_key, resume
from meshd.node.sent_messages import MessageState, SentMessages, message_id_of
from meshd.node.settings import NodeSettings
from meshd.node.state import CREATION_NOTE, NodeState
from meshd.node.status_reports import StatusReports
from meshd.routing.decision import Router

KNOWN_SWEEP_S: Final = 60.0
"""How often expired IDs are forgotten."""


class Agent:
    """One node's bundle protocol agent."""

    def __init__(
        self,
        settings: NodeSettings,
        bearers: Sequence[BearerSettings],
        neighbours: Sequence[NeighbourSettings],
        router: Router,
        mission_nodes: frozenset[Eid],
        now: float,
        part_size_bytes: int = PART_SIZE_BYTES,
    ) -> None:
        """`part_size_bytes` is what messages are cut into; only the simulation wishes for another size."""
        self._state = NodeState(settings, LinkTable(bearers, neighbours, now))
        self._reports = StatusReports(self._state, mission_nodes, now)
        self._fragmentation = Fragmentation(self._state)
        self._reassembly = Reassembly(self._state)
        self._echo = Echo(self._state)
        self.forwarding = Forwarding(self._state, router, self._reports, self._fragmentation)
        self._applications = Applications(self._state, self._reports, self.forwarding.confirmed, part_size_bytes)
        self._reception = Reception(
            self._state, self._reports, self._echo, self._reassembly, self.forwarding.neighbour_has
        )
        self._resumed: dict[BundleId, Copies] = {}
        self._wake_at: float | None = None
        self._sweep_at = now + KNOWN_SWEEP_S
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            ev.ClockStepped: self._on_clock_stepped,
            ev.StoreRecovered: self._on_store_recovered,
            ev.LinkUp: self._on_link_up,
            ev.LinkDown: self._on_link_down,
            ev.PosturesChanged: self._on_postures_changed,
            ev.BundlesReceived: self._reception.receive,
            ev.BundlesStored: self._on_bundles_stored,
            ev.StoringFailed: self._on_storing_failed,
            ev.LinkWritable: self._on_link_writable,
            ev.TransfersAcknowledged: self._on_transfers_acknowledged,
            ev.TransfersFailed: self.forwarding.failed,
            ev.DataUnreadable: self._on_data_unreadable,
            ev.BundleFragmented: self._on_bundle_fragmented,
            ev.BundleReassembled: self._on_bundle_reassembled,
            ev.MessageSubmitted: self._applications.submit,
            ev.SubmissionAborted: self._on_submission_aborted,
            ev.ReceiverAttached: self._on_receiver_attached,
            ev.ReceiverDetached: self._on_receiver_detached,
            ev.DeliveryConfirmed: self._on_delivery_confirmed,
            ev.BundleCancelled: self._on_bundle_cancelled,
            ev.TimerFired: self._on_timer_fired,
        }

    def handle(self, event: ev.Event, now: float) -> list[Command]:
        """Decide. `now` is monotonic seconds and never goes back."""
        self._handlers[type(event)](event, now)
        sends = self.forwarding.pump()
        commands = self._state.take_commands()
        commands.extend(sends)
        wake_at = self._next_wake()
        if wake_at != self._wake_at:
            self._wake_at = wake_at
            commands.append(WakeAt(wake_at))
        return commands

    # What the shell may look at, and change on a reload

    @property
    def links(self) -> LinkTable:
        """The neighbour table."""
        return self._state.links

    @property
    def messages(self) -> SentMessages:
        """What became of our messages."""
        return self._state.messages

    @property
    def known_count(self) -> int:
        """IDs in the duplicate memory."""
        return len(self._state.known)

    @property
    def stored_bytes(self) -> int:
        """Encoded bundles here."""
        return self._state.table.size_bytes

    def entries(self) -> list[Entry]:
        """Every bundle that is here."""
        return list(self._state.table)

    def entry(self, bundle: BundleId) -> Entry | None:
        """One bundle that is here."""
        return self._state.table.get(bundle)

    def dtn_ms(self, now: float) -> int:
        """The node's reckoning of DTN time."""
        return self._state.dtn_ms(now)

    def reconfigure(
        self,
        settings: NodeSettings,
        neighbours: Sequence[NeighbourSettings],
        router: Router,
        mission_nodes: frozenset[Eid],
        now: float,
    ) -> None:
        """Take over what can be reloaded; follow it with an event, so that what waits is decided anew."""
        state = self._state
        state.settings = settings
        state.table.quota_bytes, state.table.bundles_max = settings.quota_bytes, settings.bundles_max
        state.known.known_max = settings.known_max
        state.links.configure(neighbours, now)
        self.forwarding.router = router
        state.set_groups(settings)
        self._reports.configure(settings, mission_nodes)

    # Events

    def _on_clock_stepped(self, event: ev.ClockStepped, now: float) -> None:
        state = self._state
        step_ms = event.utc_offset_ms - state.utc_offset_ms
        state.utc_offset_ms, state.uncertainty_ms = event.utc_offset_ms, event.uncertainty_ms
        if not step_ms:
            return
        state.known.clock_stepped(step_ms, all_by_age=not state.has_clock)
        for entry in state.table:
            record = entry.record
            expiry_ms = record.expiry_ms + step_ms if record.by_age else record.expiry_ms
            entry.record = structs.replace(record, expiry_ms=expiry_ms, received_ms=record.received_ms + step_ms)
        state.table.reschedule()
        self._expire(now)

    def _on_store_recovered(self, event: ev.StoreRecovered, now: float) -> None:
        state = self._state
        state.creation = CreationClock(event.notes.get(CREATION_NOTE))
        for bundle, until_ms in event.known:
            state.known.add(bundle, until_ms)
        own = state.settings.id
        messages = []
        entries = []
        for record in event.records:
            entry = Entry(record, None, None, is_own=record.previous_node is None)
            state.table.add(entry)
            state.known.add(record.id, record.expiry_ms)
            entries.append(entry)
            if record.id.source.node == own:
                messages.append(message_id_of(record.id, record.part))
        state.messages.recover(event.notes, messages)
        self._resume_copies(event.notes)
        self._expire(now)
        for entry in entries:
            if state.table.get(entry.record.id) is entry:
                self._dispatch(entry, now)

    def _resume_copies(self, notes: dict[str, bytes]) -> None:
        """Where bundles to groups have been; notes of bundles that are gone go too."""
        state = self._state
        self._resumed = {entry.record.id: copies for entry in state.table if (copies := resume(entry.record, notes))}
        kept = {note_key(bundle) for bundle in self._resumed}
        state.notes |= dict.fromkeys((key for key in notes if key.startswith(COPIES_PREFIX) and key not in kept), b"")

    def _on_link_up(self, event: ev.LinkUp, now: float) -> None:
        self._state.links.mark_up(event.link, now, event.transfer_mtu_bytes)
        self._state.report("link.up", link=str(event.link))
        self.forwarding.reconsider(now)

    def _on_link_down(self, event: ev.LinkDown, now: float) -> None:
        self._state.links.mark_down(event.link, event.reason, now)
        self._state.report("link.down", link=str(event.link), reason=event.reason)
        self.forwarding.link_down(event.link, now)

    def _on_postures_changed(self, event: ev.PosturesChanged, now: float) -> None:
        self._state.links.set_postures(event.postures)
        self.forwarding.reconsider(now)

    def _on_bundles_stored(self, event: ev.BundlesStored, now: float) -> None:
        state = self._state
        is_cutting = self._fragmentation.is_storing
        for row in event.rows:
            entry = state.table.get(row.id)
            if entry is None:
                continue
            state.table.became_durable(entry, row.payload)
            for link_id, transfer in entry.transfers:
                state.accept(link_id, transfer)
            entry.transfers = []
            ready: Sequence[Entry] = (entry,)
            if entry.is_own:
                self._echo.settled(row.id, is_durable=True)
                ready = self._applications.stored(entry)
            if is_cutting:
                self._fragmentation.settle(row.id)
            for each in ready:
                self._dispatch(each, now)

    def _on_storing_failed(self, event: ev.StoringFailed, now: float) -> None:
        state = self._state
        for bundle in event.ids:
            entry = state.table.get(bundle)
            if entry is None:
                continue
            state.table.remove(entry)
            state.known.discard(bundle)
            for link_id, transfer in entry.transfers:
                state.refuse(link_id, transfer, f"the store can't take it: {event.reason}", retriable=True)
            if entry.is_own:
                self._echo.settled(bundle, is_durable=False)
                self._applications.storing_failed(entry, event.reason)
            original = self._fragmentation.storing_failed(bundle)
            if original is not None:
                self.forwarding.postpone(original, f"its fragments can't be stored: {event.reason}", now)
            self._reassembly.storing_failed(bundle, now)
        state.report("store.failed", bundles=len(event.ids), reason=event.reason)

    def _on_link_writable(self, event: ev.LinkWritable, now: float) -> None:
        self.forwarding.writable(event.link, event.credit_bytes)

    def _on_transfers_acknowledged(self, event: ev.TransfersAcknowledged, now: float) -> None:
        self.forwarding.acknowledged(event.link, event.ids, now)

    def _on_data_unreadable(self, event: ev.DataUnreadable, now: float) -> None:
        for bundle in event.ids:
            entry = self._state.table.get(bundle)
            if entry is not None:
                self._delete(entry, MessageState.REFUSED, event.reason, ReportReason.NO_INFORMATION, now)

    def _on_bundle_fragmented(self, event: ev.BundleFragmented, now: float) -> None:
        original = self._fragmentation.done(event)
        if original is not None:
            self.forwarding.postpone(original, event.problem or "it can't be fragmented", now)

    def _on_bundle_reassembled(self, event: ev.BundleReassembled, now: float) -> None:
        entry = self._reassembly.joined(event, now)
        if entry is not None and entry.inline is not None and entry.header is not None and entry.header.is_admin_record:
            self._reports.administer(entry.inline, entry.header, now)

    def _on_submission_aborted(self, event: ev.SubmissionAborted, now: float) -> None:
        self._applications.abort(event.submission)

    def _on_receiver_attached(self, event: ev.ReceiverAttached, now: float) -> None:
        self._applications.offer(self._state.delivery.attach(event.receiver, event.endpoint))

    def _on_receiver_detached(self, event: ev.ReceiverDetached, now: float) -> None:
        self._applications.offer(self._state.delivery.detach(event.receiver))

    def _on_delivery_confirmed(self, event: ev.DeliveryConfirmed, now: float) -> None:
        self._applications.confirmed(event.receiver, event.message, now)

    def _on_bundle_cancelled(self, event: ev.BundleCancelled, now: float) -> None:
        reason = f"cancelled by {event.by}"
        for entry in self.entries():
            record = entry.record
            if event.id in (record.id, message_id_of(record.id, record.part)):
                self._delete(entry, MessageState.REFUSED, reason, ReportReason.TRANSMISSION_CANCELED, now)

    def _on_timer_fired(self, event: ev.TimerFired, now: float) -> None:
        self._wake_at = None
        self._expire(now)
        self.forwarding.retry_due(now)
        self._reassembly.retry_due(now)
        if now >= self._sweep_at:
            self._state.known.expire(self._state.dtn_ms(now))
            self._sweep_at = now + KNOWN_SWEEP_S

    # Steps

    def _dispatch(self, entry: Entry, now: float) -> None:
        """Section 5.3: to an application here, to the members of a group, or onwards."""
        state, destination = self._state, entry.record.destination
        if destination.node == state.settings.id:
            self._arrived(entry, now)
        elif state.groups and destination in state.groups:
            self._replicate(entry, state.groups[destination], now)
        else:
            self.forwarding.forward(entry, now)

    def _arrived(self, entry: Entry, now: float) -> None:
        """It is where it is going: a fragment waits for the others, the rest is delivered."""
        record = entry.record
        if record.id.fragment_offset >= 0:
            self._reassembly.add(entry)
            return
        if self._reassembly:
            self._reassembly.settle(record.id)
        if record.destination != self._echo.endpoint:
            self._applications.deliver(entry)
        elif entry.inline is not None:
            self._echo.answer_entry(entry, entry.inline, entry.header or scan_untrusted(entry.inline), now)
        else:
            reason = "an echo request that is not in memory any more is not answered"
            self._delete(entry, MessageState.REFUSED, reason, ReportReason.NO_INFORMATION, now)

    def _replicate(self, entry: Entry, members: frozenset[Eid], now: float) -> None:
        """To an application here, if this node is a member, and onwards to the other members."""
        record = entry.record
        copies = self._resumed.pop(record.id, None) or begin(record, members, self._state.settings.id)
        if not copies.is_delivered:
            self._applications.deliver(entry)
        if self._state.table.get(record.id) is entry:
            self.forwarding.replicate(entry, copies, now)

    def _expire(self, now: float) -> None:
        """Section 5.5."""
        for entry in self._state.table.pop_expired(self._state.dtn_ms(now)):
            self._delete(entry, MessageState.EXPIRED, "lifetime expired", ReportReason.LIFETIME_EXPIRED, now)

    def _delete(self, entry: Entry, message_state: MessageState, reason: str, code: ReportReason, now: float) -> None:
        """Section 5.10: give a bundle up before its purpose is fulfilled."""
        state, record = self._state, entry.record
        if state.table.get(record.id) is not entry:
            return  # It belonged to a submission that ended with another of its bundles a moment ago.
        self.forwarding.withdraw(entry)
        if entry.state is BundleState.FOR_DELIVERY:
            self._applications.offer(state.delivery.remove(record))
        elif entry.state is BundleState.REASSEMBLING:
            self._reassembly.remove(record.id)
        state.delete(entry)
        self._reports.deleted(record, code, now)
        state.report("bundle.deleted", bundle=bundle_ref(record.id), reason=reason)
        if entry.is_own and not self._applications.lost(entry, reason):
            message_id = message_id_of(record.id, record.part)
            state.advance(bundle_id_text(message_id), message_state, reason, now)

    def _next_wake(self) -> float | None:
        expiry_ms = self._state.table.next_expiry_ms()
        times = [self.forwarding.next_retry(), self._reassembly.next_retry()]
        if expiry_ms is not None:
            times.append(self._state.monotonic(expiry_ms) + 0.001)
        if len(self._state.known):
            times.append(self._sweep_at)
        return min((at for at in times if at is not None), default=None)
