# SPDX-License-Identifier: Apache-2.0
"""The trace service: each mission node that a bundle to `dtn://NODE/trace` or `ipn:N.8` reaches tells its sender so.

A status report (RFC 9171 section 6.1) says neither bearer nor waiting time, and reports of reception are off by
default, so that nobody can make a mesh talk. Here the destination is the request: what a report costs is bounded by a
rate of its own, it goes to mission nodes only, and one bundle makes at most one report at each node. So it works with
the settings that there are, and what does not get through shows how far it came. At its destination the bundle itself
is dropped.

No loops: an administrative record, an anonymous source and another trace endpoint get no report.
"""

from collections.abc import Callable
from typing import Final

from meshd.base.token_bucket import TokenBucket
from meshd.bundle.eid import Eid
from meshd.bundle.header import BundleHeader
from meshd.bundle.record import BundleId
from meshd.bundle.trace_report import TRACE_NAME, TRACE_SERVICE, TraceReport, encode_trace_report
from meshd.link.identity import LinkId
from meshd.node.bundle_table import Entry, Room
from meshd.node.commands import ForgottenRow
from meshd.node.origination import originate
from meshd.node.state import NodeState

REPORTS_PER_S: Final = 10.0
REPORTS_BURST: Final = 100


def is_trace(endpoint: Eid) -> bool:
    """Whether this is the trace endpoint of some node."""
    return endpoint.demux == (TRACE_SERVICE if endpoint.uri.startswith("ipn:") else TRACE_NAME)


def trace_endpoint(node: Eid) -> Eid:
    """The trace endpoint of a node."""
    if node.uri.startswith("ipn:"):
        return Eid(node.uri[:-1] + TRACE_SERVICE)
    return Eid(node.uri + TRACE_NAME)


class Trace:
    """Owns the rate of reports; what is asked for in vain is counted in `suppressed`."""

    def __init__(self, state: NodeState, may_report_to: Callable[[Eid], bool], now: float) -> None:
        """`may_report_to` knows the mission's other nodes."""
        self._state = state
        self._may_report_to = may_report_to
        self._rate = TokenBucket(REPORTS_PER_S, REPORTS_BURST, now)
        self.endpoint = trace_endpoint(state.settings.id)
        self.suppressed = 0

    def received(self, header: BundleHeader, link_id: LinkId, expiry_ms: int, precedence: int, now: float) -> None:
        """One has reached this node, by this link."""
        if not header.is_admin_record and self._may_report_to(header.source):
            self._report(header.id, header.destination, link_id, expiry_ms, header.age_ms or 0, precedence, now)

    def drop_transfer(self, header: BundleHeader, link_id: LinkId, transfer: object, expiry_ms: int) -> None:
        """It was for this node: all that it asked for is done."""
        state = self._state
        state.accept(link_id, transfer)
        state.known.add(header.id, expiry_ms)
        state.deletes.append(ForgottenRow(header.id, expiry_ms))

    def drop_entry(self, entry: Entry, now: float) -> None:
        """One that is stored here, since it was sent from here to here, or came in pieces."""
        record = entry.record
        if entry.is_own:
            age_ms = self._state.dtn_ms(now) - record.received_ms
            self._report(record.id, record.destination, None, record.expiry_ms, age_ms, record.precedence, now)
        self._state.delete(entry)

    def _report(
        self,
        subject: BundleId,
        destination: Eid,
        link_id: LinkId | None,
        expiry_ms: int,
        age_ms: int,
        precedence: int,
        now: float,
    ) -> None:
        state, now_ms = self._state, self._state.dtn_ms(now)
        if subject.source.is_null or is_trace(subject.source):
            return
        previous, bearer = ("", "") if link_id is None else (link_id.neighbour.uri, link_id.bearer)
        is_last = destination == self.endpoint
        report = TraceReport(subject.time_ms, subject.sequence, previous, bearer, now_ms, age_ms, is_last)
        entry = originate(
            state,
            self.endpoint,
            subject.source,
            encode_trace_report(report),
            now,
            lifetime_ms=max(1, expiry_ms - now_ms),
            precedence=precedence,
        )
        record = entry.record
        has_room = state.table.has_room(record.size_bytes, record.precedence, Room.ONWARD)
        if has_room and state.has_place_for_ids() and self._rate.take(now):
            state.add(entry)
        else:
            self.suppressed += 1
