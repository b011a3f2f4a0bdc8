# SPDX-License-Identifier: Apache-2.0
"""Bundle reception (RFC 9171 section 5.6): untrusted bytes become entries, or are refused or dropped with a reason.

Acknowledgement waits for the store. A duplicate of a bundle that is durable (or was settled before) is acknowledged at
once; a duplicate of one that is still being stored is acknowledged together with it.

Nothing in transit may vanish by an acknowledgement of a node that does not hold it. What was passed on to a relay and
comes back is taken again: the plans may have changed, or two copies have crossed, and nobody else may have it. Its hop
count bounds that; a bundle without one is taken again once. What is under way to a relay at the moment is refused for
now. A bundle to a group is left out: its duplicates are many, and each member has it from whoever it came from.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from meshd.base.limits import LIFETIME_MAX_MS, MESSAGE_SIZE_MAX_BYTES
from meshd.bundle.admin_record import ReportReason
from meshd.bundle.blocks import REPORT_FLAGS, BundleFlag
from meshd.bundle.eid import Eid
from meshd.bundle.errors import BundleError
from meshd.bundle.forward import hop_limit_exceeded
from meshd.bundle.header import BundleHeader, Flow
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleRecord, Part, PayloadRef, adu_of, bundle_ref
from meshd.bundle.scan import scan_untrusted
from meshd.link.identity import LinkId
from meshd.node.advertising import Advertising
from meshd.node.bundle_table import BundleState, Entry, Room
from meshd.node.echo import Echo
from meshd.node.events import BundlesReceived, ReceivedRow
from meshd.node.reassembly import Reassembly
from meshd.node.sent_messages import message_id_of
from meshd.node.state import REPORTS_PER_BATCH, NodeState
from meshd.node.status_reports import StatusReports
from meshd.node.trace import Trace, is_trace
from meshd.routing.advertisement import TOPOLOGY_ENDPOINT

_IS_FRAGMENT: Final = int(BundleFlag.IS_FRAGMENT)
_IS_ADMIN_RECORD: Final = int(BundleFlag.IS_ADMIN_RECORD)
_REPORT_FLAGS: Final = int(REPORT_FLAGS)
"""Plain numbers: an operator of the enum costs half a microsecond, once for each bundle."""


UNDER_WAY: Final = "the same bundle is under way from here to another node"


class Plan(NamedTuple):
    """What is done with every bundle of a flow that arrives over a link."""

    precedence: int
    """At most the neighbour's ceiling."""
    report_to: Eid | None
    is_here: bool
    """It has arrived where it is going."""
    is_echo: bool
    is_trace: bool
    is_advertisement: bool
    is_admin_record: bool
    needs_look: bool
    """It is to be joined, traced or taken as an advertisement, or there is a problem."""
    is_joined: bool
    """It is a fragment, and this node or one of its groups is the destination."""
    problem: tuple[str, ReportReason] | None
    """Why it is dropped."""


class Reception:
    """Decides what to do with each transfer that has arrived whole."""

    def __init__(
        self,
        state: NodeState,
        reports: StatusReports,
        echo: Echo,
        reassembly: Reassembly,
        brought_again: Callable[[Entry, Eid], bool],
        trace: Trace,
        advertising: Advertising,
    ) -> None:
        """`brought_again` is asked when a neighbour brings what is here already: False when it has to keep it."""
        self._state = state
        self._reports = reports
        self._echo = echo
        self._reassembly = reassembly
        self._brought_again = brought_again
        self._trace = trace
        self._advertising = advertising

    def receive(self, event: BundlesReceived, now: float) -> None:
        """One batch from one link."""
        state, link_id, reports = self._state, event.link, self._reports
        now_ms = state.dtn_ms(now)
        known, puts = state.known, state.puts
        get, add = state.table.get, state.table.add
        has_clock, lifetime_max_ms = state.has_clock, min(state.settings.lifetime_max_ms, LIFETIME_MAX_MS)
        reception_flag = reports.reception_flag
        neighbour = link_id.neighbour
        rows = event.rows
        size_bytes = sum([len(row.data) for row in rows])
        has_ample_room = self._has_ample_room(len(rows), size_bytes)
        plans: dict[Flow, Plan] = {}
        for row in rows:  # a hot loop: what is the same for all bundles of a flow is decided once, in its plan
            data = row.data
            try:
                header = scan_untrusted(data)
            except BundleError as error:
                state.refuse(link_id, row.transfer, f"malformed bundle: {error}", retriable=False)
                state.report("bundle.malformed", link=str(link_id), reason=str(error), size_bytes=len(data))
                continue
            bundle, flow = header.id, header.flow
            plan = plans.get(flow)
            if plan is None:
                plan = plans[flow] = self.plan(flow, link_id)
            if (get(bundle) is not None or bundle in known) and not self.is_taken_again(
                header, plan, neighbour, now_ms
            ):
                self._duplicate(link_id, row, header)
                continue
            time_ms = bundle[1]
            lifetime_ms = header.lifetime_ms
            if lifetime_ms > lifetime_max_ms:
                lifetime_ms = lifetime_max_ms  # the lifetime override of RFC 9171 section 4.3.1
            if time_ms and has_clock:
                expiry_ms = (time_ms if time_ms < now_ms else now_ms) + lifetime_ms
            else:
                expiry_ms = now_ms + lifetime_ms - (header.age_ms or 0)
            needs_look = plan.needs_look or expiry_ms <= now_ms or not has_ample_room
            if needs_look and not self._passes(header, row, plan, link_id, expiry_ms, now):
                continue
            if reception_flag:
                reports.received(header, expiry_ms, now)
            if plan.is_echo:
                transfer = row.transfer
                self._echo.answer_transfer(data, header, expiry_ms, plan.precedence, link_id, transfer, now)
                continue
            size = len(data)
            record = BundleRecord(
                bundle,
                flow.destination,
                plan.precedence,
                expiry_ms,
                now_ms,
                size,
                flow.flags,
                not (time_ms and has_clock),
                neighbour,
                flow.part,
                False,
                PayloadRef(-1, 0, size, data),
                plan.report_to,
                header.total_adu_bytes,
                flow.supersession,
            )
            add(Entry(record, header, data, False, ((link_id, row.transfer),)))
            if row.served:
                self._leave_to_sender(record, row.served)
            puts.append(record)
            if plan.is_admin_record:
                reports.administer(data, header, now)
        self._count(event, size_bytes)

    def _has_ample_room(self, count: int, size_bytes: int) -> bool:
        """Whether the whole batch fits whatever is in it."""
        state = self._state
        return state.has_place_for_ids(count) and state.table.has_room(
            size_bytes, Precedence.DEFERRED, Room.OTHER_MESSAGES, count
        )

    def plan(self, flow: Flow, link_id: LinkId) -> Plan:
        """What is done with the bundles of this flow."""
        state, flags = self._state, flow.flags
        is_here = flow.destination.node == state.settings.id
        is_whole = not flags & _IS_FRAGMENT
        is_joined = not is_whole and (is_here or self._is_for_us(flow.destination))
        problem = self._problem(flow, is_here)
        is_traced, is_advertisement = is_whole and is_trace(flow.destination), flow.destination == TOPOLOGY_ENDPOINT
        return Plan(
            precedence=min(flow.precedence, state.links.precedence_max(link_id)),
            report_to=flow.report_to if flags & _REPORT_FLAGS else None,
            is_here=is_here,
            is_echo=is_here and is_whole and flow.destination == self._echo.endpoint,
            is_trace=is_traced,
            is_advertisement=is_advertisement,
            is_admin_record=is_here and is_whole and bool(flags & _IS_ADMIN_RECORD),
            needs_look=problem is not None or is_joined or is_traced or is_advertisement,
            is_joined=is_joined,
            problem=problem,
        )

    def _passes(
        self, header: BundleHeader, row: ReceivedRow, plan: "Plan", link_id: LinkId, expiry_ms: int, now: float
    ) -> bool:
        """Whether it is taken in; if not, it has been dealt with."""
        state, reports = self._state, self._reports
        if plan.is_joined and state.is_known(adu_of(header.id)):
            state.accept(link_id, row.transfer)
            return False
        problem = plan.problem
        if expiry_ms <= state.dtn_ms(now):
            problem = "lifetime expired", ReportReason.LIFETIME_EXPIRED
        if problem:
            text, reason = problem
            state.accept(link_id, row.transfer)
            state.report("bundle.dropped", bundle=bundle_ref(header.id), link=str(link_id), reason=text)
            reports.received(header, expiry_ms, now)
            reports.dropped(header, expiry_ms, reason, now)
            return False
        shortage = self.shortage(header, plan, len(row.data))
        if shortage:
            state.refuse(link_id, row.transfer, shortage[1], retriable=shortage[0])
            state.report("bundle.refused", bundle=bundle_ref(header.id), link=str(link_id), reason=shortage[1])
            return False
        if plan.is_advertisement:
            return not self._advertising.refuses(header, row.data, link_id, row.transfer, now)
        if plan.is_trace:
            self._trace.received(header, link_id, expiry_ms, plan.precedence, now)
            if plan.is_here:
                self._trace.drop_transfer(header, link_id, row.transfer, expiry_ms)
                return False
        return True

    def _leave_to_sender(self, record: BundleRecord, served: Sequence[Eid]) -> None:
        """A bundle to a group came by a transmission that is for these members, too: they need no copy of ours."""
        entry, members = self._state.table.get(record.id), self._state.groups.get(record.destination)
        if entry is not None and members:
            entry.copies = self._state.begin_copies(record, members.difference(served))

    def is_taken_again(self, header: BundleHeader, plan: Plan, neighbour: Eid, now_ms: int) -> bool:
        """Whether a bundle whose ID is known is not here any more, and may be nowhere else."""
        state, bundle = self._state, header.id
        if bundle in state.table:
            return False
        if not header.destination.is_singleton:
            return state.is_returned(bundle, neighbour) and _may_go_on(header.flow)
        if plan.is_here or not state.known.may_return(bundle):
            return False
        if not header.flow.hop_limit:
            state.known.add(bundle, now_ms + min(header.lifetime_ms, LIFETIME_MAX_MS))
        return True

    def _duplicate(self, link_id: LinkId, row: ReceivedRow, header: BundleHeader) -> None:
        entry = self._state.table.get(header.id) or self._echo.answer_under_way(header.id)
        if entry is not None and entry.state is BundleState.STORING:
            entry.transfers += ((link_id, row.transfer),)
        elif entry is None or self._brought_again(entry, link_id.neighbour):
            self._state.accept(link_id, row.transfer)
        else:
            self._state.refuse(link_id, row.transfer, UNDER_WAY, retriable=True)

    def _problem(self, flow: Flow, is_here: bool) -> tuple[str, ReportReason] | None:
        """Why its bundles are dropped although the transfer was fine, in words and as a reason code; None: kept."""
        if flow.must_delete:
            return "a block that can't be processed asks for the bundle's deletion", ReportReason.BLOCK_UNSUPPORTED
        if flow.destination.is_null:
            return "destination is dtn:none", ReportReason.DESTINATION_UNAVAILABLE
        if is_here:
            if flow.part is None or _is_possible(flow.part):
                return None
            return "its part block is impossible", ReportReason.BLOCK_UNINTELLIGIBLE
        if hop_limit_exceeded(flow):
            return "hop limit exceeded", ReportReason.HOP_LIMIT_EXCEEDED
        return None

    def _is_for_us(self, destination: Eid) -> bool:
        """Whether this is a group that this node is a member of."""
        return self._state.settings.id in self._state.groups.get(destination, ())

    def shortage(self, header: BundleHeader, plan: Plan, size_bytes: int) -> tuple[bool, str] | None:
        """(may be tried again, why) when the bundle can't be taken now; None when it can."""
        state = self._state
        if plan.is_joined:
            problem = self._reassembly.problem(header)
            if problem:
                return False, problem
        if not state.has_place_for_ids():
            return True, f"the duplicate memory is full ({state.settings.known_max} IDs; [store] known_max)"
        if not state.table.has_room(size_bytes, plan.precedence, self._room(header, plan.is_here)):
            return True, (
                f"the store is full ({state.table.size_bytes} of {state.table.quota_bytes} bytes,"
                f" {len(state.table)} of {state.table.bundles_max} bundles)"
            )
        return None

    def _room(self, header: BundleHeader, is_here: bool) -> Room:
        if not is_here or header.destination in (self._echo.endpoint, self._trace.endpoint):
            return Room.ONWARD
        is_whole = header.part is None and not header.flags & _IS_FRAGMENT
        may_grow = is_whole or self._state.delivery.may_grow(message_id_of(header.id, header.part))
        return Room.ARRIVED if may_grow else Room.OTHER_MESSAGES

    def _count(self, event: BundlesReceived, size_bytes: int) -> None:
        state = self._state
        link = state.links.get(event.link)
        if link is not None:
            link.received_bundles += len(event.rows)
            link.received_bytes += size_bytes
        if len(event.rows) <= REPORTS_PER_BATCH:
            for record in state.puts:
                self.report(record, event.link)
        else:
            state.report("bundles.received", link=str(event.link), count=len(event.rows), size_bytes=size_bytes)

    def report(self, record: BundleRecord, link_id: LinkId) -> None:
        """Tell the operators that it came."""
        self._state.report(
            "bundle.received",
            bundle=bundle_ref(record.id),
            link=str(link_id),
            source=record.id.source.uri,
            destination=record.destination.uri,
            precedence=record.precedence,
            size_bytes=record.size_bytes,
        )


def _may_go_on(flow: Flow) -> bool:
    """Whether a loop that it may be in has an end."""
    return bool(flow.hop_limit) and not hop_limit_exceeded(flow)


def _is_possible(part: Part) -> bool:
    """Whether a message can have such a part: every part before it has at least one byte."""
    return (part.offset_bytes == 0) is (part.index == 0) and part.index <= part.offset_bytes <= MESSAGE_SIZE_MAX_BYTES
