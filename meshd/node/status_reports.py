# SPDX-License-Identifier: Apache-2.0
"""Status reports (RFC 9171 section 6.1): whether one is made, and what one that arrives means for our messages.

Made only where the settings allow the kind, the bundle and its report-to EID belong to mission nodes, and the rate
allows it; never about an administrative record, and none about what is anonymous.
"""

from typing import Final

from meshd.base.token_bucket import TokenBucket
from meshd.bundle.admin_record import (
    Assertion,
    ReportReason,
    StatusReport,
    UnknownRecord,
    decode_admin_record_untrusted,
    encode_status_report,
    record_type_name,
)
from meshd.bundle.blocks import BundleFlag
from meshd.bundle.eid import Eid
from meshd.bundle.errors import BundleError
from meshd.bundle.header import BundleHeader
from meshd.bundle.record import BundleId, BundleRecord, bundle_ref
from meshd.node.bundle_table import Room
from meshd.node.origination import originate
from meshd.node.sent_messages import MessageState
from meshd.node.settings import NodeSettings, ReportKind
from meshd.node.state import NodeState

DELIVERY_REPORTS_PER_S: Final = 1000.0
DELIVERY_REPORTS_BURST: Final = 20_000
"""High: senders wait for them. They bound only what a flood of tiny messages can make us send."""
OTHER_REPORTS_PER_S: Final = 10.0
OTHER_REPORTS_BURST: Final = 100

REPORT_LIFETIME_MIN_MS: Final = 3_600_000
"""A status report lives as long as the bundle it speaks of would have, but at least this."""

_FLAGS: Final = {
    ReportKind.RECEPTION: int(BundleFlag.REPORT_RECEPTION),
    ReportKind.FORWARDING: int(BundleFlag.REPORT_FORWARDING),
    ReportKind.DELIVERY: int(BundleFlag.REPORT_DELIVERY),
    ReportKind.DELETION: int(BundleFlag.REPORT_DELETION),
}
_FIELDS: Final = {
    ReportKind.RECEPTION: "received",
    ReportKind.FORWARDING: "forwarded",
    ReportKind.DELIVERY: "delivered",
    ReportKind.DELETION: "deleted",
}


class StatusReports:
    """Owns the rate limits; what is asked for in vain is counted in `suppressed`."""

    def __init__(self, state: NodeState, mission_nodes: frozenset[Eid], now: float) -> None:
        self._state = state
        self._deliveries = TokenBucket(DELIVERY_REPORTS_PER_S, DELIVERY_REPORTS_BURST, now)
        self._others = TokenBucket(OTHER_REPORTS_PER_S, OTHER_REPORTS_BURST, now)
        self.suppressed = 0
        """Reports that were asked for and allowed, but too many or without room."""
        self.unknown_records = 0
        """Administrative records to us of a type that is not known here."""
        self.configure(state.settings, mission_nodes)

    def configure(self, settings: NodeSettings, mission_nodes: frozenset[Eid]) -> None:
        """Which kinds are honoured, and whose requests."""
        self._mission_nodes = mission_nodes
        flags = {kind: flag if kind in settings.status_reports else 0 for kind, flag in _FLAGS.items()}
        self.reception_flag = flags[ReportKind.RECEPTION]
        self.forwarding_flag = flags[ReportKind.FORWARDING]
        self.delivery_flag = flags[ReportKind.DELIVERY]
        self.deletion_flag = flags[ReportKind.DELETION]
        """Processing flags that ask for what is honoured; 0 where it is not. So a look costs one operation."""

    # Making reports

    def received(self, header: BundleHeader, expiry_ms: int, now: float) -> None:
        """Section 5.6 steps 2 and 4: a bundle has arrived."""
        if not self.reception_flag or not (header.must_report or header.flags & self.reception_flag):
            return
        reason = ReportReason.BLOCK_UNSUPPORTED if header.must_report else ReportReason.NO_INFORMATION
        self._about_header(header, expiry_ms, ReportKind.RECEPTION, reason, now)

    def dropped(self, header: BundleHeader, expiry_ms: int, reason: ReportReason, now: float) -> None:
        """Section 5.10 for a bundle that is deleted as it arrives."""
        if header.flags & self.deletion_flag:
            self._about_header(header, expiry_ms, ReportKind.DELETION, reason, now)

    def forwarded(self, record: BundleRecord, now: float) -> None:
        """Section 5.4 step 5: a neighbour has it."""
        if record.flags & self.forwarding_flag:
            self._about_record(record, ReportKind.FORWARDING, ReportReason.NO_INFORMATION, now)

    def delivered(self, record: BundleRecord, now: float) -> None:
        """Section 5.7 step 3: its application has it."""
        if record.flags & self.delivery_flag:
            self._about_record(record, ReportKind.DELIVERY, ReportReason.NO_INFORMATION, now)

    def deleted(self, record: BundleRecord, reason: ReportReason, now: float) -> None:
        """Section 5.10: it is given up."""
        if record.flags & self.deletion_flag:
            self._about_record(record, ReportKind.DELETION, reason, now)

    def _about_header(
        self, header: BundleHeader, expiry_ms: int, kind: ReportKind, reason: ReportReason, now: float
    ) -> None:
        self._make(header.id, header.report_to, header.flags, header.precedence, expiry_ms, kind, reason, now)

    def _about_record(self, record: BundleRecord, kind: ReportKind, reason: ReportReason, now: float) -> None:
        report_to = record.report_to or record.id.source.node
        self._make(record.id, report_to, record.flags, record.precedence, record.expiry_ms, kind, reason, now)

    def _make(
        self,
        subject: BundleId,
        report_to: Eid,
        flags: int,
        precedence: int,
        expiry_ms: int,
        kind: ReportKind,
        reason: ReportReason,
        now: float,
    ) -> None:
        state, now_ms = self._state, self._state.dtn_ms(now)
        if flags & BundleFlag.IS_ADMIN_RECORD or not self.is_ours(subject.source) or not self.is_ours(report_to):
            return
        time_ms = None
        if flags & BundleFlag.STATUS_TIME_REQUESTED:
            time_ms = now_ms if state.has_clock else 0  # section 4.2.6: 0 means unknown
        report = StatusReport(subject, reason=reason, **{_FIELDS[kind]: Assertion(is_asserted=True, time_ms=time_ms)})
        entry = originate(
            state,
            state.settings.id,
            report_to,
            encode_status_report(report),
            now,
            flags=BundleFlag.IS_ADMIN_RECORD,
            lifetime_ms=max(REPORT_LIFETIME_MIN_MS, expiry_ms - now_ms),
            precedence=precedence,
        )
        if self._is_allowed(kind, entry.record, now):
            state.add(entry)
        else:
            self.suppressed += 1

    def is_ours(self, endpoint: Eid) -> bool:
        """A mission node other than this one: what becomes of our own bundles we see without a report."""
        node = endpoint.node
        return node in self._mission_nodes and node != self._state.settings.id

    def _is_allowed(self, kind: ReportKind, record: BundleRecord, now: float) -> bool:
        """A delivery report takes the room of the message that was delivered."""
        if kind is ReportKind.DELIVERY:
            return self._deliveries.take(now)
        state = self._state
        has_room = state.table.has_room(record.size_bytes, record.precedence, Room.ONWARD)
        return has_room and state.has_place_for_ids() and self._others.take(now)

    # Reading reports

    def administer(self, data: bytes, header: BundleHeader, now: float) -> None:
        """Read an administrative record to us: the message that a status report speaks of moves forward.

        Called while the bundle is taken in: the message's note and the bundle are one atomic group of the store.
        """
        payload = data[header.payload_offset : header.payload_offset + header.payload_size]
        source = header.source
        try:
            report = decode_admin_record_untrusted(payload)
        except BundleError as error:
            self._state.report("report.malformed", source=source.uri, reason=str(error))
            return
        if isinstance(report, UnknownRecord):
            self.unknown_records += 1
            self._state.report("report.ignored", source=source.uri, type=record_type_name(report.type))
            return
        self._apply(report, source, now)

    def _apply(self, report: StatusReport, source: Eid, now: float) -> None:
        state = self._state
        message = state.messages.reported_by(report.subject)
        if message is None or not message.may_be_reported_by(source.node.uri):
            state.report("report.unknown", source=source.uri, subject=bundle_ref(report.subject))
            return
        if report.delivered.is_asserted:
            state.delivered_at(message.id_text, source.node, now)
        elif report.deleted.is_asserted and not message.members:
            is_expired = report.reason == ReportReason.LIFETIME_EXPIRED
            to_state = MessageState.EXPIRED if is_expired else MessageState.REFUSED
            state.advance(message.id_text, to_state, f"reported by {source.uri}", now)
