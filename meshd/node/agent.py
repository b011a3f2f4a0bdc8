# SPDX-License-Identifier: Apache-2.0
"""The bundle protocol agent (RFC 9171 section 5) as a decision object: events in, commands out, nothing else.

Reception (5.6), forwarding (5.4), applications (5.2, 5.7) are its parts; here stand dispatching (5.3), expiration
(5.5), deletion (5.10), the answers of the store, and the one timer.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import structs

from meshd.base.limits import PART_SIZE_BYTES
from meshd.bundle.dtn_time import CreationClock
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, bundle_id_text, bundle_ref
from meshd.link.link_table import LinkTable
from meshd.link.settings import BearerSettings, NeighbourSettings
from meshd.node import events as ev
from meshd.node.applications import Applications
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.commands import Command, WakeAt
from meshd.node.forwarding import Forwarding
from meshd.node.reception import Reception
from meshd.node.sent_messages import MessageState, SentMessages, message_id_of
from meshd.node.settings import NodeSettings
from meshd.node.state import CREATION_NOTE, NodeState
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
        self.forwarding = Forwarding(self._state, router)
        self._applications = Applications(self._state, mission_nodes, part_size_bytes)
        self._reception = Reception(self._state, self._applications.administer)
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
        self._applications.set_mission_nodes(mission_nodes)

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
        self._expire(now)
        for entry in entries:
            if state.table.get(entry.record.id) is entry:
                self._dispatch(entry, now)

    def _on_link_up(self, event: ev.LinkUp, now: float) -> None:
        self._state.links.mark_up(event.link, now)
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
        for row in event.rows:
            entry = state.table.get(row.id)
            if entry is None:
                continue
            state.table.became_durable(entry, row.payload)
            for link_id, transfer in entry.transfers:
                state.accept(link_id, transfer)
            entry.transfers = []
            ready = self._applications.stored(entry) if entry.is_own else (entry,)
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
                self._applications.storing_failed(entry, event.reason)
        state.report("store.failed", bundles=len(event.ids), reason=event.reason)

    def _on_link_writable(self, event: ev.LinkWritable, now: float) -> None:
        self.forwarding.writable(event.link, event.credit_bytes)

    def _on_transfers_acknowledged(self, event: ev.TransfersAcknowledged, now: float) -> None:
        self.forwarding.acknowledged(event.link, event.ids, now)

    def _on_data_unreadable(self, event: ev.DataUnreadable, now: float) -> None:
        for bundle in event.ids:
            entry = self._state.table.get(bundle)
            if entry is not None:
                self._delete(entry, MessageState.REFUSED, event.reason, now)

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
                self._delete(entry, MessageState.REFUSED, reason, now)

    def _on_timer_fired(self, event: ev.TimerFired, now: float) -> None:
        self._wake_at = None
        self._expire(now)
        self.forwarding.retry_due(now)
        if now >= self._sweep_at:
            self._state.known.expire(self._state.dtn_ms(now))
            self._sweep_at = now + KNOWN_SWEEP_S

    # Steps

    def _dispatch(self, entry: Entry, now: float) -> None:
        """Section 5.3: to an application here, or onwards."""
        if entry.record.destination.node == self._state.settings.id:
            self._applications.deliver(entry)
        else:
            self.forwarding.forward(entry, now)

    def _expire(self, now: float) -> None:
        """Section 5.5."""
        for entry in self._state.table.pop_expired(self._state.dtn_ms(now)):
            self._delete(entry, MessageState.EXPIRED, "lifetime expired", now)

    def _delete(self, entry: Entry, message_state: MessageState, reason: str, now: float) -> None:
        """Section 5.10: give a bundle up before its purpose is fulfilled."""
        state, record = self._state, entry.record
        if state.table.get(record.id) is not entry:
            return  # It belonged to a submission that ended with another of its bundles a moment ago.
        self.forwarding.withdraw(entry)
        if entry.state is BundleState.FOR_DELIVERY:
            self._applications.offer(state.delivery.remove(record))
        state.delete(entry)
        state.report("bundle.deleted", bundle=bundle_ref(record.id), reason=reason)
        if entry.is_own and not self._applications.lost(entry, reason):
            message_id = message_id_of(record.id, record.part)
            self._applications.advance(bundle_id_text(message_id), message_state, reason, now)

    def _next_wake(self) -> float | None:
        expiry_ms = self._state.table.next_expiry_ms()
        times = [self.forwarding.next_retry()]
        if expiry_ms is not None:
            times.append(self._state.monotonic(expiry_ms) + 0.001)
        if len(self._state.known):
            times.append(self._sweep_at)
        return min((at for at in times if at is not None), default=None)
