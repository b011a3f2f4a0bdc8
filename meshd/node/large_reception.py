# SPDX-License-Identifier: Apache-2.0
"""Reception (RFC 9171 section 5.6) of bundles that are too large for memory: they go to the store piece by piece.

Whether a bundle is taken is decided on its first piece, by the same rules as for others; what is not taken is refused
while it is still coming. The record is stored when the last piece is there and the CRC is right, and only then the
bundle exists: whatever happens before leaves nothing behind. Its room in the store is reserved meanwhile.
"""

from collections.abc import Callable
from typing import Final

from meshd.base.limits import LIFETIME_MAX_MS
from meshd.bundle.admin_record import ReportReason
from meshd.bundle.eid import Eid
from meshd.bundle.errors import BundleError
from meshd.bundle.header import BundleHeader
from meshd.bundle.piecewise import PiecewiseScan
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef, adu_of, bundle_ref
from meshd.link.identity import LinkId
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.commands import AbortStream, BeginStream, FinishStream, RefuseTransfer, WritePiece
from meshd.node.events import StreamFailed, TransferBegun, TransferEnded, TransferPiece
from meshd.node.reception import UNDER_WAY, Plan, Reception
from meshd.node.state import NodeState
from meshd.node.status_reports import StatusReports

STREAMS_MAX: Final = 8
"""Large bundles that arrive at a time: each may have some MiB in memory that the store has not written yet."""
STREAMS_PER_LINK_MAX: Final = 2

_Key = tuple[LinkId, object]


class _Stream:
    """One large bundle on its way in. Until its first piece is there, only its transfer is known."""

    __slots__ = (
        "announced_bytes",
        "expiry_ms",
        "number",
        "plan",
        "received_bytes",
        "received_ms",
        "scan",
        "size_bytes",
    )

    def __init__(self, announced_bytes: int | None) -> None:
        self.announced_bytes = announced_bytes
        self.number = -1
        """Of the store's stream, once it has begun."""
        self.scan: PiecewiseScan | None = None
        self.plan: Plan | None = None
        self.expiry_ms = self.received_ms = 0
        self.size_bytes = 0
        """Reserved for it."""
        self.received_bytes = 0


class LargeReception:
    """Owns the large bundles that are arriving."""

    def __init__(
        self,
        state: NodeState,
        reports: StatusReports,
        reception: Reception,
        brought_again: Callable[[Entry, Eid], bool],
    ) -> None:
        """`brought_again` as for Reception."""
        self._state = state
        self._reports = reports
        self._reception = reception
        self._brought_again = brought_again
        self._streams: dict[_Key, _Stream] = {}
        self._number = 0

    def begin(self, event: TransferBegun, now: float) -> None:
        """A transfer has begun; what it carries is not known yet."""
        del now
        of_link = sum(link == event.link for link, _ in self._streams)
        if len(self._streams) >= STREAMS_MAX or of_link >= STREAMS_PER_LINK_MAX:
            text = f"{of_link} large bundles arrive over this link and {len(self._streams)} in all: later"
            self._state.refuse(event.link, event.transfer, text, retriable=True)
            return
        self._streams[event.link, event.transfer] = _Stream(event.size_bytes)

    def piece(self, event: TransferPiece, now: float) -> None:
        """Its next bytes. Those of a transfer that was refused are passed over."""
        key = event.link, event.transfer
        stream = self._streams.get(key)
        if stream is None:
            return
        stream.received_bytes += len(event.data)
        try:
            if stream.scan is not None:
                stream.scan.feed(event.data)
            elif not self._is_taken(key, stream, event.data, now):
                return
        except BundleError as error:
            self._malformed(key, stream, error)
            return
        self._state.commands.append(WritePiece(stream.number, event.link, event.transfer, event.data))

    def ended(self, event: TransferEnded, now: float) -> None:
        """It is whole, or will never be."""
        key = event.link, event.transfer
        stream = self._streams.get(key)
        if stream is None:
            return
        if not event.is_whole:
            self._forget(key, stream)
            return
        scan = stream.scan
        assert scan is not None, "what ends whole was more than memory should hold"
        try:
            scan.finish()
        except BundleError as error:
            self._malformed(key, stream, error)
            return
        self._finish(key, stream, scan.header, now)

    def failed(self, event: StreamFailed, now: float) -> None:
        """The store could not take a piece."""
        del now
        for key, stream in self._streams.items():
            if stream.number == event.stream:
                self._refuse(key, stream, f"the store can't take it: {event.reason}", retriable=True)
                self._state.report("store.failed", bundles=1, reason=event.reason)
                return

    # Steps

    def _is_taken(self, key: _Key, stream: _Stream, first: bytes, now: float) -> bool:
        """Decide on the first piece. Errors: BundleError."""
        state, link = self._state, key[0]
        scan = PiecewiseScan(first)
        header = scan.header
        plan = self._reception.plan(header.flow, link)
        stream.received_ms = now_ms = state.dtn_ms(now)
        stream.expiry_ms = self._expiry_ms(header, now_ms)
        is_known = state.is_known(header.id) and not self._reception.is_taken_again(
            header, plan, link.neighbour, now_ms
        )
        if is_known or self._is_arriving(header.id):
            self._duplicate(key, stream, header.id)
            return False
        if plan.is_joined and state.is_known(adu_of(header.id)):
            self._refuse(key, stream, "the whole of it was here before", completed=True)
            return False
        problem = plan.problem or self._problem(plan)
        if stream.expiry_ms <= now_ms:
            problem = "lifetime expired", ReportReason.LIFETIME_EXPIRED
        if problem is not None:
            text, reason = problem
            self._refuse(key, stream, text, completed=True)  # it need not come again
            state.report("bundle.dropped", bundle=bundle_ref(header.id), link=str(link), reason=text)
            self._reports.received(header, stream.expiry_ms, now)
            self._reports.dropped(header, stream.expiry_ms, reason, now)
            return False
        size_bytes = max(stream.announced_bytes or 0, header.payload_offset + header.payload_size)
        shortage = self._reception.shortage(header, plan, size_bytes)
        if shortage is not None:
            self._refuse(key, stream, shortage[1], retriable=shortage[0])
            state.report("bundle.refused", bundle=bundle_ref(header.id), link=str(link), reason=shortage[1])
            return False
        stream.scan, stream.plan, stream.size_bytes = scan, plan, size_bytes
        state.table.reserved_bytes += size_bytes
        self._number += 1
        stream.number = self._number
        state.commands.append(BeginStream(stream.number, link, key[1], size_bytes))
        return True

    def _expiry_ms(self, header: BundleHeader, now_ms: int) -> int:
        """DTN time, reckoned as for bundles that arrive whole."""
        state = self._state
        lifetime_ms = min(header.lifetime_ms, state.settings.lifetime_max_ms, LIFETIME_MAX_MS)
        if header.id.time_ms and state.has_clock:
            return min(header.id.time_ms, now_ms) + lifetime_ms
        return now_ms + lifetime_ms - (header.age_ms or 0)

    def _is_arriving(self, bundle: BundleId) -> bool:
        return any(each.scan is not None and each.scan.header.id == bundle for each in self._streams.values())

    def _duplicate(self, key: _Key, stream: _Stream, bundle: BundleId) -> None:
        entry = self._state.table.get(bundle)
        if self._is_arriving(bundle) or (entry is not None and entry.state is BundleState.STORING):
            self._refuse(key, stream, "the same bundle is arriving already", retriable=True)
            return
        if entry is None or self._brought_again(entry, key[0].neighbour):
            self._refuse(key, stream, "it was here before", completed=True)
        else:
            self._refuse(key, stream, UNDER_WAY, retriable=True)

    def _problem(self, plan: Plan) -> tuple[str, ReportReason] | None:
        """What is read or answered here has to be in memory."""
        if plan.is_echo or plan.is_admin_record or plan.is_trace or plan.is_advertisement:
            return "a request, advertisement or administrative record of this size", ReportReason.BLOCK_UNINTELLIGIBLE
        return None

    def _finish(self, key: _Key, stream: _Stream, header: BundleHeader, now: float) -> None:
        """All is there and right: the bundle exists as soon as its record is durable."""
        state, (link_id, transfer), plan = self._state, key, stream.plan
        assert plan is not None, "it was taken"
        del self._streams[key]
        state.table.reserved_bytes -= stream.size_bytes
        record = BundleRecord(
            header.id,
            header.destination,
            plan.precedence,
            stream.expiry_ms,
            stream.received_ms,
            stream.received_bytes,
            header.flags,
            not (header.id.time_ms and state.has_clock),
            link_id.neighbour,
            header.part,
            False,
            PayloadRef(-1, 0, stream.received_bytes),
            plan.report_to,
            header.total_adu_bytes,
            header.supersession,
        )
        if self._reports.reception_flag:
            self._reports.received(header, stream.expiry_ms, now)
        state.table.add(Entry(record, None, None, False, ((link_id, transfer),)))
        state.commands.append(FinishStream(stream.number, record))
        link = state.links.get(link_id)
        if link is not None:
            link.received_bundles += 1
            link.received_bytes += stream.received_bytes
        self._reception.report(record, link_id)

    def _malformed(self, key: _Key, stream: _Stream, error: BundleError) -> None:
        text = f"malformed bundle: {error}"
        self._refuse(key, stream, text)
        size_bytes = stream.announced_bytes or stream.received_bytes
        self._state.report("bundle.malformed", link=str(key[0]), reason=str(error), size_bytes=size_bytes)

    def _refuse(
        self, key: _Key, stream: _Stream, text: str, *, retriable: bool = False, completed: bool = False
    ) -> None:
        self._forget(key, stream)
        self._state.commands.append(RefuseTransfer(*key, retriable, completed, text))

    def _forget(self, key: _Key, stream: _Stream) -> None:
        del self._streams[key]
        if stream.number >= 0:
            self._state.table.reserved_bytes -= stream.size_bytes
            self._state.commands.append(AbortStream(stream.number))
