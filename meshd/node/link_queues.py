# SPDX-License-Identifier: Apache-2.0
"""What stands before each link: its out-queue, what its convergence layer has, and the credit that it has announced.

A bundle to one destination stands in one out-queue at a time; copies may stand in several. What goes where is the
forwarding's choice.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from meshd.bundle.precedence import Precedence
from meshd.link.identity import LinkId
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.commands import SendBundles, SendRow
from meshd.node.live_links import LATE, LiveLinks
from meshd.node.outqueue import OutQueue
from meshd.node.state import NodeState

URGENT_PRECEDENCE: Final = Precedence.FLASH
URGENT_MAX_BYTES: Final = 1024 * 1024
"""So much of FLASH and above is handed over beyond a link's credit."""


class InFlight(dict[Entry, None]):
    """Bundles that a convergence layer has and that are not acknowledged yet."""

    __slots__ = ("size_bytes",)

    def __init__(self) -> None:
        super().__init__()
        self.size_bytes = 0

    def take_out(self, entry: Entry) -> bool:
        """False when it was not here."""
        if self.pop(entry, self) is self:
            return False
        self.size_bytes -= entry.record.size_bytes
        return True


class LinkQueues:
    """Owns the out-queues, what is in flight, and the credit."""

    def __init__(self, state: NodeState, growth_bytes: int) -> None:
        """`growth_bytes` is what a bundle may grow by as it leaves."""
        self._state = state
        self._growth_bytes = growth_bytes
        self._queues: dict[LinkId, OutQueue] = {}
        self._in_flight: dict[LinkId, InFlight] = {}
        self._credits: dict[LinkId, int] = {}
        self._urgent_left: dict[LinkId, int] = {}
        self._dirty: dict[LinkId, None] = {}
        self._live = LiveLinks(state)
        self._left_out: list[tuple[LinkId, Entry, str]] = []
        self._held: set[LinkId] = set()
        """Links on which live bundles wait until some of what is in flight was answered."""

    def queue(self, link_id: LinkId) -> OutQueue:
        """The out-queue of a link."""
        queue = self._queues.get(link_id)
        if queue is None:
            limit_bytes = self._state.links.transfer_mtu_bytes(link_id) - self._growth_bytes
            queue = self._queues[link_id] = OutQueue(limit_bytes)
        return queue

    def queued(self, link_id: LinkId) -> tuple[int, int]:
        """(bundles, bytes) in the out-queue of a link."""
        queue = self._queues.get(link_id)
        return (len(queue), queue.size_bytes) if queue is not None else (0, 0)

    def count_in_flight(self, link_id: LinkId) -> int:
        """Bundles that its convergence layer has."""
        return len(self._in_flight.get(link_id, ()))

    def in_flight(self, link_id: LinkId) -> InFlight:
        """What the convergence layer has."""
        in_flight = self._in_flight.get(link_id)
        if in_flight is None:
            in_flight = self._in_flight[link_id] = InFlight()
        return in_flight

    def settle(self, link_id: LinkId) -> InFlight:
        """The same, of which some was answered now."""
        if link_id in self._held:
            self._held.discard(link_id)
            self._dirty[link_id] = None
        return self.in_flight(link_id)

    def backlog_bytes(self, link_id: LinkId, precedence: int) -> int:
        """What goes over a link before a bundle of this precedence that comes now.

        What is in flight counts as far as it is more than what is on its way anyhow, and only for those who can't
        overtake it.
        """
        queue, in_flight = self._queues.get(link_id), self._in_flight.get(link_id)
        backlog_bytes = queue.bytes_from(precedence) if queue else 0
        if in_flight and precedence < URGENT_PRECEDENCE:
            metric = self._state.links.metric(link_id)
            under_way_bytes = 0.0 if metric is None else metric.rate_bps * metric.owd_s / 4
            backlog_bytes += max(in_flight.size_bytes - int(under_way_bytes), 0)
        return backlog_bytes

    def push(self, link_id: LinkId, entry: Entry) -> None:
        """Queue it, to go as soon as the link takes it."""
        self.queue(link_id).push(entry)
        self._dirty[link_id] = None

    def withdraw(self, link_id: LinkId, entry: Entry) -> None:
        """Take it out of the queue; nothing happens when it is not there."""
        queue = self._queues.get(link_id)
        if queue is not None:
            queue.withdraw(entry)

    def forget(self, link_id: LinkId, entry: Entry) -> None:
        """It is nowhere any more, neither queued nor in flight."""
        live = entry.record.supersession
        if live is not None and entry in self._queues.get(link_id, ()):
            self._live.note_unsent(link_id, entry.record, live.tier)
        self.withdraw(link_id, entry)
        in_flight = self._in_flight.get(link_id)
        if in_flight is not None:
            in_flight.take_out(entry)

    def displaced(self, link_id: LinkId, volume_bytes: int | None) -> list[Entry]:
        """What such a volume does not carry, taken out of the queue."""
        queue = self._queues[link_id]
        entries = [] if volume_bytes is None else queue.displaced(volume_bytes)
        for entry in entries:
            queue.withdraw(entry)
        return entries

    def drain(self) -> Iterator[tuple[LinkId, Entry]]:
        """Empty all queues."""
        for link_id, queue in self._queues.items():
            for entry in queue.drain():
                yield link_id, entry

    def writable(self, link_id: LinkId, credit_bytes: int) -> None:
        """The link can take this many bytes more from now on."""
        self._credits[link_id] = credit_bytes
        self._urgent_left[link_id] = URGENT_MAX_BYTES if credit_bytes > 0 else 0
        self._dirty[link_id] = None

    def link_down(self, link_id: LinkId) -> list[Entry]:
        """What was under way on it, then what was queued; nothing is any more."""
        self._credits.pop(link_id, None)
        self._urgent_left.pop(link_id, None)
        self._live.forget(link_id)
        self._held.discard(link_id)
        queue = self._queues.pop(link_id, None)
        entries = list(self._in_flight.pop(link_id, ()))
        if queue is not None:
            entries.extend(queue.drain())
        return entries

    def pump(self, now: float) -> Iterable[SendBundles]:
        """Hand over what the links that changed have credit for."""
        if not self._dirty:
            return ()
        commands = [fill(link_id, now) for link_id in self._dirty for fill in (self._fill_urgent, self._fill)]
        self._dirty.clear()
        return [command for command in commands if command.rows]

    def take_left_out(self) -> Sequence[tuple[LinkId, Entry, str]]:
        """Live bundles that are not to go over a link, and why; they stand in no queue any more."""
        left_out, self._left_out = self._left_out, []
        return left_out

    def note_late(self, link_id: LinkId, entry: Entry) -> None:
        """The convergence layer gives up a live bundle, which would arrive too late."""
        if self.settle(link_id).take_out(entry):
            self._live.note_late(link_id, entry.record)
            self._left_out.append((link_id, entry, LATE))

    def _fill_urgent(self, link_id: LinkId, now: float) -> SendBundles:
        """FLASH and above goes at once: the link may open another session for it. The credit pays for it afterwards."""
        left = self._urgent_left.get(link_id, 0)
        command, spent = self._take(link_id, left, URGENT_PRECEDENCE, now)
        if spent:
            self._urgent_left[link_id] = left - spent
            self._credits[link_id] = self._credits.get(link_id, 0) - spent
        return command

    def _fill(self, link_id: LinkId, now: float) -> SendBundles:
        credit = self._credits.get(link_id, 0)
        command, spent = self._take(link_id, credit, Precedence.DEFERRED, now)
        self._credits[link_id] = credit - spent
        return command

    def _take(self, link_id: LinkId, credit: int, precedence_min: int, now: float) -> tuple[SendBundles, int]:
        """What is at least so urgent, until this credit is used up; and its bytes."""
        state = self._state
        inline_bytes = 0
        rows: list[SendRow] = []
        queue = self._queues.get(link_id)
        if not queue or credit <= 0 or not state.links.is_usable(link_id):
            return SendBundles(link_id, rows), 0
        in_flight = self.in_flight(link_id)
        left = credit
        while left > 0:
            entry = queue.pop(precedence_min)
            if entry is None:
                break
            record = entry.record
            if record.supersession is not None:
                if self._live.is_full(link_id, in_flight.size_bytes + credit - left):
                    queue.push(entry)
                    self._held.add(link_id)
                    break
                reason = self._live.why_not(link_id, record, record.supersession.tier, now)
                if reason:
                    self._left_out.append((link_id, entry, reason))
                    continue
            if entry.copies is None:
                entry.state = BundleState.IN_FLIGHT
            in_flight[entry] = None
            left -= record.size_bytes
            rows.append(
                SendRow(record.id, record.payload, entry.inline, entry.header, record.received_ms, entry.is_own)
            )
            if entry.inline is not None:  # handed over: who needs it again reads it from the store
                inline_bytes += len(entry.inline)
                entry.inline = entry.header = None
        state.table.inline_bytes -= inline_bytes
        in_flight.size_bytes += credit - left
        return SendBundles(link_id, rows, precedence_min >= URGENT_PRECEDENCE), credit - left
