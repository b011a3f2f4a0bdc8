# SPDX-License-Identifier: Apache-2.0
"""Bundle reception (RFC 9171 section 5.6): untrusted bytes become entries, or are refused or dropped with a reason.

Acknowledgement waits for the store. A duplicate of a bundle that is durable (or was dealt with before) is acknowledged
at once; a duplicate of one that is still being stored is acknowledged together with it.
"""

from collections.abc import Callable
from typing import Final

from meshd.base.limits import LIFETIME_MAX_MS, MESSAGE_SIZE_MAX_BYTES
from meshd.bundle.admin_record import ReportReason
from meshd.bundle.blocks import REPORT_FLAGS, BundleFlag
from meshd.bundle.eid import Eid
from meshd.bundle.errors import BundleError
from meshd.bundle.forward import hop_limit_exceeded
from meshd.bundle.header import BundleHeader
from meshd.bundle.record import BundleRecord, Part, PayloadRef, bundle_ref
from meshd.bundle.scan import scan_untrusted
from meshd.link.identity import LinkId
from meshd.node.bundle_table import BundleState, Entry, Room
from meshd.node.echo import Echo
from meshd.node.events import BundlesReceived, ReceivedRow
from meshd.node.reassembly import Reassembly, adu_of
from meshd.node.sent_messages import message_id_of
from meshd.node.state import REPORTS_PER_BATCH, NodeState
from meshd.node.status_reports import StatusReports

_IS_FRAGMENT: Final = int(BundleFlag.IS_FRAGMENT)
_IS_ADMIN_RECORD: Final = int(BundleFlag.IS_ADMIN_RECORD)
_REPORT_FLAGS: Final = int(REPORT_FLAGS)
"""Plain numbers: an operator of the enum costs half a microsecond, once for each bundle."""


class Reception:
    """Decides what to do with each transfer that has arrived whole."""

    def __init__(
        self,
        state: NodeState,
        reports: StatusReports,
        echo: Echo,
        reassembly: Reassembly,
        neighbour_has: Callable[[Entry, Eid], None],
    ) -> None:
        """`neighbour_has` is called when a neighbour brings a bundle to a group that is here already."""
        self._state = state
        self._reports = reports
        self._echo = echo
        self._reassembly = reassembly
        self._neighbour_has = neighbour_has

    def receive(self, event: BundlesReceived, now: float) -> None:
        """One batch from one link."""
        state, link_id, reports = self._state, event.link, self._reports
        now_ms = state.dtn_ms(now)
        known, table = state.known, state.table
        own_node, echo_endpoint = state.settings.id, self._echo.endpoint
        ceiling, reception_flag = state.links.precedence_max(link_id), reports.reception_flag
        size_bytes = 0
        for row in event.rows:
            data = row.data
            size_bytes += len(data)
            try:
                header = scan_untrusted(data)
            except BundleError as error:
                state.refuse(link_id, row.transfer, f"malformed bundle: {error}", retriable=False)
                state.report("bundle.malformed", link=str(link_id), reason=str(error), size_bytes=len(data))
                continue
            if header.id in known:
                self._duplicate(link_id, row, header)
                continue
            is_here = header.destination.node == own_node
            is_fragment = header.flags & _IS_FRAGMENT
            if is_here and is_fragment and adu_of(header.id) in known:
                state.accept(link_id, row.transfer)
                continue
            expiry_ms = self._expiry_ms(header, now_ms)
            precedence = header.precedence
            if precedence > ceiling:
                precedence = ceiling
            problem = self._unacceptable(header, is_here, expiry_ms, now_ms)
            if problem:
                text, reason = problem
                state.accept(link_id, row.transfer)
                state.report("bundle.dropped", bundle=bundle_ref(header.id), link=str(link_id), reason=text)
                reports.received(header, expiry_ms, now)
                reports.dropped(header, expiry_ms, reason, now)
                continue
            shortage = self._shortage(header, is_here, len(data), precedence)
            if shortage:
                state.refuse(link_id, row.transfer, shortage[1], retriable=shortage[0])
                state.report("bundle.refused", bundle=bundle_ref(header.id), link=str(link_id), reason=shortage[1])
                continue
            if reception_flag:
                reports.received(header, expiry_ms, now)
            if is_here and header.destination == echo_endpoint and not is_fragment:
                self._echo.answer_transfer(data, header, expiry_ms, precedence, link_id, row.transfer, now)
                continue
            record = self._record(header, row, link_id, expiry_ms, now_ms, precedence)
            entry = Entry(record, header, data, is_own=False)
            entry.transfers.append((link_id, row.transfer))
            known.add(record.id, expiry_ms)
            table.add(entry)
            state.puts.append(record)
            if is_here and header.flags & _IS_ADMIN_RECORD and not is_fragment:
                reports.administer(data, header, now)
        self._count(event, size_bytes)

    def _duplicate(self, link_id: LinkId, row: ReceivedRow, header: BundleHeader) -> None:
        entry = self._state.table.get(header.id) or self._echo.answer_under_way(header.id)
        if entry is not None and entry.state is BundleState.STORING:
            entry.transfers.append((link_id, row.transfer))
            return
        self._state.accept(link_id, row.transfer)
        if entry is not None and entry.copies is not None:
            self._neighbour_has(entry, link_id.neighbour)

    def _record(
        self, header: BundleHeader, row: ReceivedRow, link_id: LinkId, expiry_ms: int, now_ms: int, precedence: int
    ) -> BundleRecord:
        size_bytes = len(row.data)
        return BundleRecord(
            header.id,
            header.destination,
            precedence,
            expiry_ms,
            now_ms,
            size_bytes,
            header.flags,
            not (header.id.time_ms and self._state.has_clock),
            link_id.neighbour,
            header.part,
            False,
            PayloadRef(-1, 0, size_bytes, row.data),
            header.report_to if header.flags & _REPORT_FLAGS else None,
            header.total_adu_bytes,
        )

    def _expiry_ms(self, header: BundleHeader, now_ms: int) -> int:
        """RFC 9171 section 4.2.7 (lifetime) and 4.4.2 (age); the lifetime override of section 4.3.1 caps it."""
        lifetime_ms = min(header.lifetime_ms, self._state.settings.lifetime_max_ms, LIFETIME_MAX_MS)
        if header.id.time_ms and self._state.has_clock:
            return min(header.id.time_ms + lifetime_ms, now_ms + lifetime_ms)
        return now_ms + lifetime_ms - (header.age_ms or 0)

    def _unacceptable(
        self, header: BundleHeader, is_here: bool, expiry_ms: int, now_ms: int
    ) -> tuple[str, ReportReason] | None:
        """Why the bundle is dropped although its transfer was fine, in words and as a reason code; None: kept."""
        if expiry_ms <= now_ms:
            return "lifetime expired", ReportReason.LIFETIME_EXPIRED
        if header.must_delete:
            return "a block that can't be processed asks for the bundle's deletion", ReportReason.BLOCK_UNSUPPORTED
        if header.destination.is_null:
            return "destination is dtn:none", ReportReason.DESTINATION_UNAVAILABLE
        if is_here:
            if header.part is None or (_is_possible(header.part) and not header.flags & _IS_FRAGMENT):
                return None
            return "its part block is impossible", ReportReason.BLOCK_UNINTELLIGIBLE
        if header.flags & _IS_FRAGMENT and self._is_for_us(header.destination):
            return "fragments to a group can't be reassembled", ReportReason.BLOCK_UNINTELLIGIBLE
        if hop_limit_exceeded(header):
            return "hop limit exceeded", ReportReason.HOP_LIMIT_EXCEEDED
        return None

    def _is_for_us(self, destination: Eid) -> bool:
        """Whether this is a group that this node is a member of."""
        return self._state.settings.id in self._state.groups.get(destination, ())

    def _shortage(
        self, header: BundleHeader, is_here: bool, size_bytes: int, precedence: int
    ) -> tuple[bool, str] | None:
        """(may be tried again, why) when the bundle can't be taken now; None when it can."""
        state = self._state
        if is_here and header.flags & _IS_FRAGMENT:
            problem = self._reassembly.problem(header)
            if problem:
                return False, problem
        if state.known.is_full:
            return True, f"the duplicate memory is full ({state.known.known_max} IDs; [store] known_max)"
        if not state.table.has_room(size_bytes, precedence, self._room(header, is_here)):
            return True, (
                f"the store is full ({state.table.size_bytes} of {state.table.quota_bytes} bytes,"
                f" {len(state.table)} of {state.table.bundles_max} bundles)"
            )
        return None

    def _room(self, header: BundleHeader, is_here: bool) -> Room:
        if not is_here or header.destination == self._echo.endpoint:
            return Room.ONWARD
        if header.flags & _IS_FRAGMENT:
            may_grow = self._state.delivery.may_grow(adu_of(header.id))
        else:
            may_grow = header.part is None or self._state.delivery.may_grow(message_id_of(header.id, header.part))
        return Room.ARRIVED if may_grow else Room.OTHER_MESSAGES

    def _count(self, event: BundlesReceived, size_bytes: int) -> None:
        state = self._state
        link = state.links.get(event.link)
        if link is not None:
            link.received_bundles += len(event.rows)
            link.received_bytes += size_bytes
        if len(event.rows) <= REPORTS_PER_BATCH:
            for record in state.puts:
                state.report(
                    "bundle.received",
                    bundle=bundle_ref(record.id),
                    link=str(event.link),
                    source=record.id.source.uri,
                    destination=record.destination.uri,
                    precedence=record.precedence,
                    size_bytes=record.size_bytes,
                )
        else:
            state.report("bundles.received", link=str(event.link), count=len(event.rows), size_bytes=size_bytes)


def _is_possible(part: Part) -> bool:
    """Whether a message can have such a part: every part before it has at least one byte."""
    return (part.offset_bytes == 0) is (part.index == 0) and part.index <= part.offset_bytes <= MESSAGE_SIZE_MAX_BYTES
