# SPDX-License-Identifier: Apache-2.0
"""Bundle forwarding (RFC 9171 section 5.4): choose next hops, queue by precedence, hand over when a link pulls.

A bundle stands in one out-queue at a time. When something changes that could alter a choice (a link comes or goes, a
posture changes), what is queued or waiting is decided anew; what is in flight is left to its convergence layer.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, adu_of, bundle_ref
from meshd.link.identity import LinkId
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.events import RefusalReason, TransfersFailed
from meshd.node.fragmentation import Fragmentation
from meshd.node.further_copies import FurtherCopies
from meshd.node.link_limits import LinkLimits, Room
from meshd.node.link_queues import LinkQueues
from meshd.node.recovered import unpark
from meshd.node.replication import Copies
from meshd.node.retries import Retries
from meshd.node.route_view import RouteView, ViewForSize
from meshd.node.sent_messages import message_id_of
from meshd.node.state import REPORTS_PER_BATCH, NodeState
from meshd.node.status_reports import StatusReports
from meshd.routing.decision import Forward, Router

REVIEW_PAUSE_S: Final = 0.1
"""Between two decisions about everything."""
RETRY_MIN_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
"""A neighbour that refused a bundle is asked again after 1, 2, 4 ... 60 s; never given up before the bundle expires."""


class Forwarding:
    """Owns the out-queues and the retries."""

    def __init__(self, state: NodeState, router: Router, reports: StatusReports, fragmentation: Fragmentation) -> None:
        self._state = state
        self._reports = reports
        self._fragmentation = fragmentation
        self.router = router
        self._queues = LinkQueues(state, fragmentation.growth_bytes)
        self.writable, self.pump = self._queues.writable, self._queues.pump
        self.take_left_out, self.note_late = self._queues.take_left_out, self._queues.note_late
        self.view = RouteView(state, self._queues.backlog_bytes)
        self._limits = LinkLimits(state.links, self.view, fragmentation, self._queues.queue)
        self._to_groups: dict[Entry, None] = {}
        self._retries = Retries()
        self._review_at: float | None = None

    def queued(self, link_id: LinkId) -> tuple[int, int]:
        """(bundles, bytes) in the out-queue of a link."""
        return self._queues.queued(link_id)

    def in_flight(self, link_id: LinkId) -> int:
        """Bundles handed to the link's convergence layer and not acknowledged yet."""
        return self._queues.count_in_flight(link_id)

    def forward(self, entry: Entry, now: float, *, only_whole: bool = False, may_copy: bool = True) -> None:
        """Steps 2 to 4 of section 5.4: queue it, or note why not (5.4.1); leave it if it may have to be cut."""
        if entry.copies is not None:
            self._forward_copies(entry, now)
            return
        record = entry.record
        links = self._state.links
        view: RouteView | ViewForSize = self.view
        if links.floor_max:
            view = self.view.for_precedence(links.standing(record.id, record.precedence))
        decision = self.router.choose_next_hops(entry.record, view, now)
        if isinstance(decision, Forward):
            link_id = decision.links[0]
            queue = self._queues.queue(link_id)
            if decision.until is not None:
                self.review(decision.until, now)
            if entry.record.size_bytes > queue.size_limit_bytes or decision.volumes_bytes or decision.needs_copies:
                if not only_whole:
                    self._forward_limited(entry, decision, now, may_copy=may_copy)
                return
            self._queues.push(link_id, entry)
            entry.state, entry.link, entry.reason = BundleState.QUEUED, link_id, ""
            return
        if decision.may_spray and may_copy:
            self._begin_copies(entry, now)
            return
        held = "" if view is self.view else " (emission control holds back bundles of this precedence)"
        self._state.table.wait(entry, decision.reason + held)
        if decision.wake_at is not None:
            self.review(decision.wake_at, now)
        self._forward_displaced(self.router.take_displaced(), now)

    def review(self, at: float, now: float) -> None:
        """Decide anew about everything then: a contact begins or ends, or something was learned."""
        at = max(at, now + REVIEW_PAUSE_S)
        self._review_at = at if self._review_at is None else min(at, self._review_at)

    def _forward_displaced(self, bundles: Sequence[BundleId], now: float) -> None:
        """More urgent ones have taken the places of these."""
        for bundle in bundles:
            entry = self._state.table.get(bundle)
            if entry is not None and entry.state is BundleState.WAITING:
                self.forward(entry, now)

    def _begin_copies(self, entry: Entry, now: float) -> None:
        """To one node, in several copies; as one if no link takes them."""
        entry.copies = FurtherCopies(entry.record.destination.node)
        self._to_groups[entry] = None
        entry.state, entry.link = BundleState.REPLICATING, None
        self._forward_copies(entry, now, is_new=True)

    def _forward_limited(self, entry: Entry, decision: Forward, now: float, *, may_copy: bool) -> None:
        if decision.needs_copies and may_copy:
            self._begin_copies(entry, now)
            return
        place = self._limits.place(entry.record, decision, self.router, now)
        if isinstance(place, Room):
            entry.state, entry.link = BundleState.FRAGMENTING, None
            self._fragmentation.cut(entry, *place)
        elif isinstance(place, str):
            self._state.table.wait(entry, place)
        else:
            self._queues.push(place, entry)
            entry.state, entry.link, entry.reason = BundleState.QUEUED, place, ""
            for each in self._queues.displaced(place, decision.volumes_bytes.get(place)):
                self.forward(each, now)

    # Groups

    def replicate(self, entry: Entry, copies: Copies, now: float) -> None:
        """A bundle to a group is here: bring it to the members."""
        entry.copies = copies
        self._to_groups[entry] = None
        if entry.state not in (BundleState.FOR_DELIVERY, BundleState.REASSEMBLING):
            entry.state, entry.link = BundleState.REPLICATING, None
        self._forward_copies(entry, now)

    def confirmed(self, entry: Entry) -> None:
        """An application here has a bundle of its message."""
        if entry.copies is None:
            self._state.delete(entry)
            return
        entry.copies.is_delivered = True
        entry.state = BundleState.REPLICATING
        self._copies_changed(entry)

    def brought_again(self, entry: Entry, neighbour: Eid) -> bool:
        """A neighbour has brought what is here already. False: it has to keep it, for ours is under way to a relay and
        may be gone in a moment, and whoever gets it may be the one who relies on the neighbour's.
        """
        copies, is_to_relay = entry.copies, False
        if copies is None:
            is_to_relay = entry.state is BundleState.IN_FLIGHT and _is_relay(entry.link, entry)
            entry.returned_by = entry.returned_by if is_to_relay else neighbour
        elif isinstance(copies, FurtherCopies):
            in_flight = [link_id for link_id in copies.links if entry in self._queues.in_flight(link_id)]
            is_to_relay = any(_is_relay(link_id, entry) for link_id in in_flight)
            if not is_to_relay:
                # One of theirs came back: whoever had it does not have it any more, and the source is now one of those
                # that pass it on and make no copies, else a bundle that goes around has ever more of them.
                entry.record = structs.replace(entry.record, previous_node=neighbour)
                copies.served.clear()
                entry.returned_by = neighbour
        else:
            self._neighbour_has(entry, copies, neighbour)
        if is_to_relay and self._state.settings.id.uri > neighbour.uri:
            entry.attempts += 1  # two that refuse each other don't try again at the same time
        return not is_to_relay

    def _neighbour_has(self, entry: Entry, copies: Copies, neighbour: Eid) -> None:
        """It needs no copy of ours of a bundle to a group."""
        if not copies.left:
            return
        for link_id in [link_id for link_id in copies.links if link_id.neighbour == neighbour]:
            if entry not in self._queues.in_flight(link_id):
                self._queues.withdraw(link_id, entry)
                copies.taken(link_id)
        copies.left.discard(neighbour)
        self._copies_changed(entry)

    def _forward_copies(self, entry: Entry, now: float, *, is_new: bool = False) -> None:
        copies, record = entry.copies, entry.record
        assert copies is not None, "only a bundle to a group has copies"
        fresh, entry.reason = copies.plan(record, self.router, self._limits.view(record), now)
        if isinstance(copies, FurtherCopies) and copies.is_idle:
            self._to_groups.pop(entry, None)
            entry.copies = None
            self.forward(entry, now, may_copy=not is_new)
            return
        if copies.later is not None:
            self.review(copies.later, now)
        for link_id in fresh:
            self._queues.push(link_id, entry)
        if entry.reason and not copies.cutting and self._fragmentation.may_cut(record):
            self._cut_copies(entry, copies, now)
        self._copies_changed(entry, is_news=False)

    def _cut_copies(self, entry: Entry, copies: Copies, now: float) -> None:
        """For members behind links that don't take it whole: they get fragments, each a bundle to the group."""
        links = copies.narrow_links(entry.record, self.router, self.view, now)
        if links:
            copies.cutting = set().union(*links.values())
            size_max_bytes = min(self._queues.queue(link_id).size_limit_bytes for link_id in links)
            self._fragmentation.cut(entry, size_max_bytes, size_max_bytes)

    def was_cut(self, entry: Entry, now: float) -> None:
        """Fragments of a bundle to a group are durable: it goes to those members only for whom it was not cut."""
        copies, bundle = entry.copies, adu_of(entry.record.id)
        assert copies is not None, "only a bundle to a group has copies"
        copies.left -= copies.cutting
        copies.cutting.clear()
        self._copies_changed(entry)
        for each in [each for each in self._to_groups if adu_of(each.record.id) == bundle]:
            self._forward_copies(each, now)

    def _copies_changed(self, entry: Entry, *, is_news: bool = True) -> None:
        """Forget it when nobody is left to get it; else remember over a restart who is."""
        copies = entry.copies
        assert copies is not None, "only a bundle to a group has copies"
        is_news = is_news and copies.is_noteworthy
        if copies.left or entry.state is BundleState.STORING:
            if is_news:
                self._state.note_copies(entry)
            return
        self._withdraw_copies(entry, copies)
        if copies.is_delivered:
            if copies.entrusted:
                self._state.entrust(entry.record, copies.entrusted)
            self._state.delete(entry, may_return=copies.may_return)
        elif is_news:
            self._state.note_copies(entry)

    def _withdraw_copies(self, entry: Entry, copies: Copies) -> None:
        for link_id in copies.links:
            self._queues.forget(link_id, entry)
        copies.links.clear()
        self._to_groups.pop(entry, None)

    # Changes

    def withdraw(self, entry: Entry) -> None:
        """The bundle is being deleted: take it out of its queue."""
        self.router.release(entry.record.id)
        if entry.copies is not None:
            self._withdraw_copies(entry, entry.copies)
        if entry.link is not None and entry.state in (BundleState.QUEUED, BundleState.IN_FLIGHT):
            self._queues.forget(entry.link, entry)

    def reconsider(self, now: float) -> None:
        """Decide anew for everything that is queued or waits."""
        self._review_at = None
        state = self._state
        for link_id, entry in list(self._queues.drain()):
            if entry.copies is None:
                self.forward(entry, now)
            else:
                entry.copies.release(link_id)
        waiting = state.table.waiting()
        for entry in [*self._to_groups, *unpark(state, self.router, self.view, now), *waiting]:
            self.forward(entry, now)

    def link_down(self, link_id: LinkId, now: float) -> None:
        """What was queued for it or under way on it goes to other links, or waits."""
        for entry in self._queues.link_down(link_id):
            if entry.copies is None:
                self.forward(entry, now)
        for entry in list(self._to_groups):
            if entry.copies is not None and link_id in entry.copies.links:
                entry.copies.release(link_id)
                self.forward(entry, now)

    def acknowledged(self, link_id: LinkId, bundles: Sequence[BundleId], now: float) -> None:
        """The neighbour has these: the retention constraint "forward pending" is gone (section 5.4 step 5)."""
        state = self._state
        now_ms = state.dtn_ms(now)
        in_flight = self._queues.settle(link_id)
        one_by_one = len(bundles) <= REPORTS_PER_BATCH
        report_flag = self._reports.forwarding_flag
        size_bytes = 0
        for bundle in bundles:
            entry = state.table.get(bundle)
            if entry is None:
                continue
            was_in_flight = in_flight.take_out(entry)
            if not was_in_flight and link_id.neighbour == entry.returned_by:
                continue  # late: it has brought it back since, and relies on this one
            size_bytes += entry.record.size_bytes
            is_done = True
            if entry.copies is None:
                if not was_in_flight:
                    self.withdraw(entry)
                state.delete(entry, may_return=link_id.neighbour != entry.record.destination.node)
            else:
                is_done = self._copy_taken(entry, entry.copies, link_id)
            if one_by_one:
                state.report("bundle.forwarded", bundle=bundle_ref(bundle), link=str(link_id))
            if entry.record.flags & report_flag:
                self._reports.forwarded(entry.record, now)
            if entry.is_own and is_done:
                self._message_forwarded(entry, now_ms)
        link = state.links.get(link_id)
        if link is not None:
            link.sent_bundles += len(bundles)
            link.sent_bytes += size_bytes
        if not one_by_one:
            state.report("bundles.forwarded", link=str(link_id), count=len(bundles), size_bytes=size_bytes)

    def leave_out(self, entry: Entry, copies: Copies, link_id: LinkId) -> None:
        """A live bundle to a group is not worth sending over this link."""
        copies.leave_out(link_id)
        self._copies_changed(entry, is_news=False)

    def _copy_taken(self, entry: Entry, copies: Copies, link_id: LinkId) -> bool:
        """True when it was the last one."""
        if not copies.left:
            return False
        self._queues.withdraw(link_id, entry)  # acknowledged late, it stands in the queue again
        copies.taken(link_id)
        self._copies_changed(entry)
        return not copies.left

    def failed(self, event: TransfersFailed, now: float) -> None:
        """The neighbour did not take these, or its session ended first."""
        if event.reason.completed:
            self.acknowledged(event.link, event.ids, now)
            return
        state, reason = self._state, event.reason
        in_flight = self._queues.settle(event.link)
        for bundle in event.ids:
            entry = state.table.get(bundle)
            if entry is None or not in_flight.take_out(entry):
                continue
            entry.attempts += 1
            self._retry(entry, event.link, reason, now)
        if len(event.ids) > REPORTS_PER_BATCH:
            state.report("bundles.returned", link=str(event.link), count=len(event.ids), reason=reason.text)
        else:
            for bundle in event.ids:
                state.report("bundle.returned", bundle=bundle_ref(bundle), link=str(event.link), reason=reason.text)

    def postpone(self, entry: Entry, reason: str, now: float) -> None:
        """Nothing can be done with it at the moment: it waits and is decided anew later."""
        if entry.copies is None:
            self._state.table.wait(entry, reason)
        else:
            entry.copies.cutting.clear()
            entry.reason = reason
        self._retries.add(now + RETRY_MAX_S, entry.record.id)

    def retry_due(self, now: float) -> None:
        """Decide anew for those whose time has come."""
        review_at = self._next_review()
        if review_at is not None and review_at <= now:
            self.reconsider(now)
        for bundle in self._retries.take_due(now):
            entry = self._state.table.get(bundle)
            if entry is not None and entry.copies is not None:
                entry.copies.release_refused()
                self.forward(entry, now)
            elif entry is not None and entry.state is BundleState.WAITING:
                self.forward(entry, now)

    def next_retry(self) -> float | None:
        """Monotonic time of the next one."""
        review_at, retry_at = self._next_review(), self._retries.next_at
        return retry_at if review_at is None else min(review_at, retry_at or review_at)

    def _next_review(self) -> float | None:
        parked_at = self._state.table.parked.wake_at
        return self._review_at if parked_at is None else min(parked_at, self._review_at or parked_at)

    def _retry(self, entry: Entry, link_id: LinkId, reason: RefusalReason, now: float) -> None:
        if not self._state.links.is_usable(link_id) or reason.session_ended:
            if entry.copies is not None:
                entry.copies.release(link_id)
            self.forward(entry, now)
            return
        pause_s = min(RETRY_MAX_S, RETRY_MIN_S * 2 ** min(entry.attempts - 1, 10))
        if not reason.retriable:
            pause_s = RETRY_MAX_S
        text = f"{link_id} did not take it: {reason.text}; again in {pause_s:.0f} s"
        if entry.copies is None:
            self._state.table.wait(entry, text)
        else:
            entry.copies.refused.add(link_id)
            entry.reason = text
        self._retries.add(now + pause_s, entry.record.id)

    def _message_forwarded(self, entry: Entry, now_ms: int) -> None:
        record = entry.record
        message = self._state.messages.part_gone(message_id_of(record.id, record.part), now_ms)
        if message is not None:
            self._state.tell("message.forwarded", message=message.id_text)


def _is_relay(link: LinkId | None, entry: Entry) -> bool:
    return link is None or link.neighbour != entry.record.destination.node
