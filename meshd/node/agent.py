# SPDX-License-Identifier: Apache-2.0
"""The bundle protocol agent (RFC 9171 section 5) as a decision object: events in, commands out, nothing else.

Reception (5.6), forwarding (5.4), applications (5.2, 5.7) are its parts; here stand dispatching (5.3), expiration
(5.5), deletion (5.10), the answers of the store, and the one timer.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from meshd.base.limits import PART_SIZE_BYTES
from meshd.bundle.admin_record import ReportReason
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, bundle_id_text, bundle_ref
from meshd.bundle.scan import scan_untrusted
from meshd.link.link_table import LinkTable
from meshd.link.settings import BearerSettings, NeighbourSettings
from meshd.node import events as ev
from meshd.node.advertising import Advertising
from meshd.node.applications import Applications
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.commands import Command, WakeAt
from meshd.node.departure import Departure
from meshd.node.echo import Echo
from meshd.node.forwarding import Forwarding
from meshd.node.fragmentation import Fragmentation
from meshd.node.large_reception import LargeReception
from meshd.node.link_changes import LinkChanges
from meshd.node.live_bundles import LiveBundles
from meshd.node.reassembly import Reassembly
from meshd.node.reception import Reception
from meshd.node.recovered import resume_copies, take_over
from meshd.node.replication import Copies
from meshd.node.sent_messages import MessageState, SentMessages, message_id_of
from meshd.node.settings import NodeSettings
from meshd.node.state import NodeState
from meshd.node.status_reports import StatusReports
from meshd.node.trace import Trace
from meshd.routing.advertisement import TOPOLOGY_ENDPOINT
from meshd.routing.decision import Router

ONWARD_STATES: Final = (BundleState.WAITING, BundleState.QUEUED, BundleState.IN_FLIGHT)

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
        self._echo = Echo(self._state)
        self._trace = Trace(self._state, self._reports.is_ours, now)
        self.forwarding = Forwarding(self._state, router, self._reports, self._fragmentation)
        self._reassembly = Reassembly(self._state, self.forwarding.confirmed)
        self._applications = Applications(self._state, self._reports, self.forwarding.confirmed, part_size_bytes)
        self.advertising = Advertising(self._state, self.forwarding, now)
        self._reception = Reception(
            self._state,
            self._reports,
            self._echo,
            self._reassembly,
            self.forwarding.brought_again,
            self._trace,
            self.advertising,
        )
        self._live = LiveBundles(self._state, self.forwarding, self._delete)
        links = LinkChanges(self._state, self.forwarding, self.advertising)
        large = LargeReception(self._state, self._reports, self._reception, self.forwarding.brought_again)
        self._resumed: dict[BundleId, Copies] = {}
        self._wake_at: float | None = None
        self._sweep_at = now + KNOWN_SWEEP_S
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            ev.ClockStepped: self._on_clock_stepped,
            ev.StoreRecovered: self._on_store_recovered,
            ev.LinkUp: links.up,
            ev.LinkDown: links.down,
            ev.PosturesChanged: links.postures_changed,
            ev.LinkMeasured: links.measured,
            ev.NeighbourSilent: links.neighbour_silent,
            ev.NeighbourSpeaks: links.neighbour_speaks,
            ev.ContactsChanged: lambda _, now: self.forwarding.reconsider(now),
            ev.BundlesReceived: self._reception.receive,
            ev.TransferBegun: large.begin,
            ev.TransferPiece: large.piece,
            ev.TransferEnded: large.ended,
            ev.StreamFailed: large.failed,
            ev.BundlesStored: self._on_bundles_stored,
            ev.StoringBegun: Departure(self._state, self.forwarding).begin,
            ev.StoringFailed: self._on_storing_failed,
            ev.LinkWritable: lambda event, _: self.forwarding.writable(event.link, event.credit_bytes),
            ev.TransfersAcknowledged: lambda event, now: self.forwarding.acknowledged(event.link, event.ids, now),
            ev.TransfersFailed: self._live.failed,
            ev.DataUnreadable: self._on_data_unreadable,
            ev.BundleFragmented: self._on_bundle_fragmented,
            ev.BundleJoined: self._reassembly.joined_in_pieces,
            ev.JoiningFailed: self._reassembly.joining_failed,
            ev.BundleReassembled: self._on_bundle_reassembled,
            ev.MessageSubmitted: self._applications.submit,
            ev.MessagesSubmitted: self._applications.submit_all,
            ev.SubmissionAborted: lambda event, _: self._applications.abort(event.submission),
            ev.ReceiverAttached: self._on_receiver_attached,
            ev.ReceiverDetached: self._on_receiver_detached,
            ev.DeliveryConfirmed: lambda event, now: self._applications.confirmed(event.receiver, event.message, now),
            ev.BundleCancelled: self._on_bundle_cancelled,
            ev.TimerFired: self._on_timer_fired,
        }

    def handle(self, event: ev.Event, now: float) -> list[Command]:
        """Decide. `now` is monotonic seconds and never goes back."""
        self._handlers[type(event)](event, now)
        sends = self.forwarding.pump(now)
        self._live.drop_left_out(now)
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
        return self._state.known_count

    @property
    def stored_bytes(self) -> int:
        """Encoded bundles here."""
        return self._state.table.size_bytes

    @property
    def bundle_count(self) -> int:
        """How many are here."""
        return len(self._state.table)

    def bundle_ids(self) -> list[BundleId]:
        """Every bundle that is here."""
        return self._state.table.ids()

    def entries(self) -> list[Entry]:
        """Every bundle that is here, to look at."""
        return [entry for entry in map(self.entry, self.bundle_ids()) if entry is not None]

    def entry(self, bundle: BundleId) -> Entry | None:
        """One bundle that is here, to look at."""
        return self._state.table.look_at(bundle)

    def onward(self) -> tuple[int, int]:
        """(bundles, bytes) that wait, are queued or under way to another node."""
        parked = self._state.table.parked
        sizes = [entry.record.size_bytes for entry in self._state.table.unparked() if entry.state in ONWARD_STATES]
        return len(parked.records) + len(sizes), parked.size_bytes + sum(sizes)

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
        state.links.configure(neighbours, now)
        self.forwarding.router = router
        state.set_groups(settings)
        self._reports.configure(settings, mission_nodes)

    # Events

    def _on_clock_stepped(self, event: ev.ClockStepped, now: float) -> None:
        if self._state.step_clock(event.utc_offset_ms, event.uncertainty_ms):
            self._expire(now)

    def _on_store_recovered(self, event: ev.StoreRecovered, now: float) -> None:
        table = self._state.table
        entries = take_over(event, self._state, self.forwarding.router, self.forwarding.view, now)
        self._resumed = resume_copies(self._state, event.notes)
        self.advertising.recover(event.notes, now)
        self._expire(now)
        for entry in entries:
            if table.get(entry.record.id) is entry and self._live.admits(entry, now):
                self._dispatch(entry, now)

    def _on_bundles_stored(self, event: ev.BundlesStored, now: float) -> None:
        state = self._state
        table, accepts, own = state.table, state.accepts, state.settings.id
        is_cutting = self._fragmentation.is_storing
        onward: dict[Eid, bool] = {}
        """Of each destination, whether its bundles are only to be forwarded."""
        forward = self.forwarding.forward
        for row in event.rows:
            entry = table.get(row.id)
            if entry is None:
                continue
            table.became_durable(entry, row.payload)
            for link_id, transfer in entry.transfers:
                if link_id in accepts:
                    accepts[link_id].append(transfer)
                else:
                    accepts[link_id] = [transfer]
            entry.transfers = ()
            if is_cutting:
                original = self._fragmentation.settle(row.id)
                if original is not None:
                    self.forwarding.was_cut(original, now)
            if entry.record.supersession is not None and not self._live.admits(entry, now):
                continue
            destination = entry.record.destination
            is_onward = onward.get(destination)
            if is_onward is None:
                is_onward = onward[destination] = destination.node != own and destination not in state.groups
            if entry.is_own:
                self._echo.settled(row.id, is_durable=True)
                for each in self._applications.stored(entry):
                    if each.state in (BundleState.STORING, BundleState.HELD):  # it has not left already
                        self._dispatch(each, now)
            elif is_onward:
                forward(entry, now)
            else:
                self._dispatch(entry, now)

    def _on_storing_failed(self, event: ev.StoringFailed, now: float) -> None:
        state = self._state
        for bundle in event.ids:
            entry = state.table.get(bundle)
            if entry is None:
                continue
            self.forwarding.withdraw(entry)
            state.table.remove(entry)
            for link_id, transfer in entry.transfers:
                state.refuse(link_id, transfer, f"the store can't take it: {event.reason}", retriable=True)
            if entry.is_own:
                self._echo.settled(bundle, is_durable=False)
                self._applications.storing_failed(entry, event.reason)
            original = self._fragmentation.storing_failed(bundle)
            if original is not None:
                self.forwarding.postpone(original, f"its fragments can't be stored: {event.reason}", now)
            self._reassembly.storing_failed(bundle, now)
        state.note_again(event.notes, event.tells)
        state.report("store.failed", bundles=len(event.ids), reason=event.reason)

    def _on_data_unreadable(self, event: ev.DataUnreadable, now: float) -> None:
        for bundle in event.ids:
            entry = self._state.table.get(bundle)
            if entry is not None:
                self._delete(entry, MessageState.REFUSED, event.reason, ReportReason.NO_INFORMATION, now)

    def _on_bundle_fragmented(self, event: ev.BundleFragmented, now: float) -> None:
        original, problem = self._fragmentation.done(event) or (None, "")
        if original is not None and problem:
            self.forwarding.postpone(original, problem, now)
        elif original is not None:
            self.forwarding.was_cut(original, now)

    def _on_bundle_reassembled(self, event: ev.BundleReassembled, now: float) -> None:
        entry = self._reassembly.joined(event, now)
        if entry is not None and entry.inline is not None and entry.header is not None and entry.header.is_admin_record:
            self._reports.administer(entry.inline, entry.header, now)

    def _on_receiver_attached(self, event: ev.ReceiverAttached, now: float) -> None:
        self._applications.offer(self._state.delivery.attach(event.receiver, event.endpoint))

    def _on_receiver_detached(self, event: ev.ReceiverDetached, now: float) -> None:
        self._applications.offer(self._state.delivery.detach(event.receiver))

    def _on_bundle_cancelled(self, event: ev.BundleCancelled, now: float) -> None:
        reason = f"cancelled by {event.by}"
        records = self._state.table.records()
        bundles = [each.id for each in records if event.id in (each.id, message_id_of(each.id, each.part))]
        for bundle in bundles:
            entry = self._state.table.get(bundle)
            if entry is not None:
                self._delete(entry, MessageState.REFUSED, reason, ReportReason.TRANSMISSION_CANCELED, now)

    def _on_timer_fired(self, event: ev.TimerFired, now: float) -> None:
        self._wake_at = None
        self._expire(now)
        self.forwarding.retry_due(now)
        self._reassembly.retry_due(now)
        self.advertising.look(now)
        if now >= self._sweep_at:
            self._state.known.expire(self._state.dtn_ms(now))
            self._sweep_at = now + KNOWN_SWEEP_S

    # Steps

    def _dispatch(self, entry: Entry, now: float) -> None:
        """Section 5.3: to an application here, to the members of a group, or onwards."""
        state, destination = self._state, entry.record.destination
        if destination.node == state.settings.id:
            self._arrived(entry, now)
        elif destination == TOPOLOGY_ENDPOINT and not self.advertising.is_newest(entry.record):
            state.delete(entry)
        elif destination == TOPOLOGY_ENDPOINT and destination in state.groups:
            self.advertising.spare(entry)
            self._replicate(entry, state.groups[destination], now)
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
        if record.destination == self._trace.endpoint:
            self._trace.drop_entry(entry, now)
        elif record.destination != self._echo.endpoint:
            self._applications.deliver(entry)
        elif entry.inline is not None:
            self._echo.answer_entry(entry, entry.inline, entry.header or scan_untrusted(entry.inline), now)
        else:
            reason = "an echo request that is not in memory any more is not answered"
            self._delete(entry, MessageState.REFUSED, reason, ReportReason.NO_INFORMATION, now)
        if self._reassembly:
            self._reassembly.settle(record.id)

    def _replicate(self, entry: Entry, members: frozenset[Eid], now: float) -> None:
        """To an application here, if this node is a member, and onwards to the other members."""
        record = entry.record
        resumed = self._resumed.pop(record.id, None)
        copies = entry.copies or resumed or self._state.begin_copies(record, members)
        if not copies.is_delivered:
            if record.id.fragment_offset >= 0:
                entry.copies = copies
                self._reassembly.add(entry)
            else:
                self._applications.deliver(entry)
        if self._state.table.get(record.id) is entry:
            self.forwarding.replicate(entry, copies, now)
        if self._reassembly:
            self._reassembly.settle(record.id)

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
        state.delete(entry, may_return=code is ReportReason.NO_INFORMATION)
        self._reports.deleted(record, code, now)
        state.report("bundle.deleted", bundle=bundle_ref(record.id), reason=reason)
        if entry.is_own and not self._applications.lost(entry, reason):
            message_id = message_id_of(record.id, record.part)
            state.advance(bundle_id_text(message_id), message_state, reason, now)

    def _next_wake(self) -> float | None:
        expiry_ms = self._state.table.next_expiry_ms()
        times = [self.forwarding.next_retry(), self._reassembly.next_retry(), self.advertising.next_at]
        if expiry_ms is not None:
            times.append(self._state.monotonic(expiry_ms) + 0.001)
        if len(self._state.known):
            times.append(self._sweep_at)
        return min((at for at in times if at is not None), default=None)
