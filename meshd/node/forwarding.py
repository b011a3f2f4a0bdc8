# SPDX-License-Identifier: Apache-2.0
"""Bundle forwarding (RFC 9171 section 5.4): choose next hops, queue by precedence, hand over when a link pulls.

A bundle stands in one out-queue at a time. When something changes that could alter a choice (a link comes or goes, a
posture changes), what is queued or waiting is decided anew; what is in flight is left to its convergence layer.
"""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Final

from meshd.bundle.record import BundleId, PayloadRef, bundle_ref
from meshd.link.identity import LinkId
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.commands import SendBundles, SendRow
from meshd.node.events import RefusalReason, TransfersFailed
from meshd.node.outqueue import OutQueue
from meshd.node.sent_messages import message_id_of
from meshd.node.state import REPORTS_PER_BATCH, NodeState
from meshd.routing.decision import Forward, Router

RETRY_MIN_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
"""A neighbour that refused a bundle is asked again after 1, 2, 4 ... 60 s; never given up before the bundle expires."""


class Forwarding:
    """Owns the out-queues, the credit that each link has announced, and the retries."""

    def __init__(self, state: NodeState, router: Router) -> None:
        self._state = state
        self.router = router
        self._queues: dict[LinkId, OutQueue] = {}
        self._in_flight: dict[LinkId, dict[BundleId, None]] = {}
        self._credits: dict[LinkId, int] = {}
        self._dirty: dict[LinkId, None] = {}
        self._retries: list[tuple[float, int, BundleId]] = []
        self._retry_number = 0

    def queued(self, link_id: LinkId) -> tuple[int, int]:
        """(bundles, bytes) in the out-queue of a link."""
        queue = self._queues.get(link_id)
        return (len(queue), queue.size_bytes) if queue is not None else (0, 0)

    def in_flight(self, link_id: LinkId) -> int:
        """Bundles handed to the link's convergence layer and not acknowledged yet."""
        return len(self._in_flight.get(link_id, ()))

    def forward(self, entry: Entry, now: float) -> None:
        """Steps 2 to 4 of section 5.4: queue it, or note why not (5.4.1)."""
        decision = self.router.choose_next_hops(entry.record, self._state.links, now)
        if isinstance(decision, Forward):
            link_id = decision.links[0]
            queue = self._queues.get(link_id)
            if queue is None:
                queue = self._queues[link_id] = OutQueue()
            queue.push(entry.record)
            entry.state, entry.link, entry.reason = BundleState.QUEUED, link_id, ""
            self._dirty[link_id] = None
            return
        self._state.table.wait(entry, decision.reason)
        if decision.wake_at is not None:
            self._retry_at(decision.wake_at, entry)

    def withdraw(self, entry: Entry) -> None:
        """The bundle is being deleted: take it out of its queue."""
        if entry.link is not None and entry.state is BundleState.QUEUED:
            self._queues[entry.link].withdraw(entry.record.id)
        elif entry.link is not None and entry.state is BundleState.IN_FLIGHT:
            self._in_flight.get(entry.link, {}).pop(entry.record.id, None)

    def reconsider(self, now: float) -> None:
        """Decide anew for everything that is queued or waits."""
        state = self._state
        for bundle in [bundle for queue in self._queues.values() for bundle in queue.drain()]:
            entry = state.table.get(bundle)
            assert entry is not None, "a queued bundle is always in the table"
            self.forward(entry, now)
        for entry in state.table.waiting():
            state.table.stop_waiting(entry)
            self.forward(entry, now)

    def writable(self, link_id: LinkId, credit_bytes: int) -> None:
        """The link can take this many bytes more from now on."""
        self._credits[link_id] = credit_bytes
        self._dirty[link_id] = None

    def link_down(self, link_id: LinkId, now: float) -> None:
        """What was queued for it or under way on it goes to other links, or waits."""
        self._credits.pop(link_id, None)
        queue = self._queues.pop(link_id, None)
        bundles = list(self._in_flight.pop(link_id, ()))
        if queue is not None:
            bundles.extend(queue.drain())
        for bundle in bundles:
            entry = self._state.table.get(bundle)
            assert entry is not None, "what is queued or in flight is in the table"
            self.forward(entry, now)

    def acknowledged(self, link_id: LinkId, bundles: Sequence[BundleId], now: float) -> None:
        """The neighbour has these: the retention constraint "forward pending" is gone (section 5.4 step 5)."""
        state = self._state
        now_ms = state.dtn_ms(now)
        in_flight = self._in_flight.get(link_id, {})
        one_by_one = len(bundles) <= REPORTS_PER_BATCH
        size_bytes = 0
        for bundle in bundles:
            in_flight.pop(bundle, None)
            entry = state.table.get(bundle)
            if entry is None:
                continue
            size_bytes += entry.record.size_bytes
            self.withdraw(entry)
            state.delete(entry)
            if one_by_one:
                state.report("bundle.forwarded", bundle=bundle_ref(bundle), link=str(link_id))
            if entry.is_own:
                self._message_forwarded(entry, now_ms)
        link = state.links.get(link_id)
        if link is not None:
            link.sent_bundles += len(bundles)
            link.sent_bytes += size_bytes
        if not one_by_one:
            state.report("bundles.forwarded", link=str(link_id), count=len(bundles), size_bytes=size_bytes)

    def failed(self, event: TransfersFailed, now: float) -> None:
        """The neighbour did not take these, or its session ended first."""
        if event.reason.completed:
            self.acknowledged(event.link, event.ids, now)
            return
        state, reason = self._state, event.reason
        in_flight = self._in_flight.get(event.link, {})
        for bundle in event.ids:
            entry = state.table.get(bundle)
            if bundle not in in_flight or entry is None:
                continue
            del in_flight[bundle]
            entry.attempts += 1
            self._retry(entry, event.link, reason, now)
        if len(event.ids) > REPORTS_PER_BATCH:
            state.report("bundles.returned", link=str(event.link), count=len(event.ids), reason=reason.text)
        else:
            for bundle in event.ids:
                state.report("bundle.returned", bundle=bundle_ref(bundle), link=str(event.link), reason=reason.text)

    def retry_due(self, now: float) -> None:
        """Decide anew for those whose time has come."""
        while self._retries and self._retries[0][0] <= now:
            entry = self._state.table.get(heappop(self._retries)[2])
            if entry is not None and entry.state is BundleState.WAITING:
                self._state.table.stop_waiting(entry)
                self.forward(entry, now)

    def next_retry(self) -> float | None:
        """Monotonic time of the next one."""
        return self._retries[0][0] if self._retries else None

    def pump(self) -> Iterable[SendBundles]:
        """Hand over what the links that changed have credit for."""
        commands = [self._fill(link_id) for link_id in self._dirty]
        self._dirty.clear()
        return [command for command in commands if command.rows]

    def _fill(self, link_id: LinkId) -> SendBundles:
        state = self._state
        rows: list[SendRow] = []
        queue, credit = self._queues.get(link_id), self._credits.get(link_id, 0)
        if queue is None or credit <= 0 or not state.links.is_usable(link_id):
            return SendBundles(link_id, rows)
        in_flight = self._in_flight.setdefault(link_id, {})
        while credit > 0:
            bundle = queue.pop()
            if bundle is None:
                break
            entry = state.table.get(bundle)
            assert entry is not None, "a queued bundle is always in the table"
            entry.state = BundleState.IN_FLIGHT
            in_flight[bundle] = None
            record = entry.record
            credit -= record.size_bytes
            rows.append(_send_row(entry))
            state.table.drop_inline(entry)
        self._credits[link_id] = credit
        return SendBundles(link_id, rows)

    def _retry(self, entry: Entry, link_id: LinkId, reason: RefusalReason, now: float) -> None:
        if not self._state.links.is_usable(link_id) or reason.session_ended:
            self.forward(entry, now)
            return
        pause_s = min(RETRY_MAX_S, RETRY_MIN_S * 2 ** min(entry.attempts - 1, 10))
        if not reason.retriable:
            pause_s = RETRY_MAX_S
        self._state.table.wait(entry, f"{link_id.neighbour.uri} refused it: {reason.text}; again in {pause_s:.0f} s")
        self._retry_at(now + pause_s, entry)

    def _retry_at(self, at: float, entry: Entry) -> None:
        self._retry_number += 1
        heappush(self._retries, (at, self._retry_number, entry.record.id))

    def _message_forwarded(self, entry: Entry, now_ms: int) -> None:
        record = entry.record
        message = self._state.messages.part_gone(message_id_of(record.id, record.part), now_ms)
        if message is not None:
            self._state.report("message.forwarded", message=message.id_text)


def _send_row(entry: Entry) -> SendRow:
    """The bytes go along while they are in memory; the table lets them go once they are handed over."""
    record, inline = entry.record, entry.inline
    payload = record.payload
    if inline is not None:
        payload = PayloadRef(payload.segment, payload.offset, payload.size_bytes, inline)
    return SendRow(record.id, payload, entry.header, record.received_ms, entry.is_own)
