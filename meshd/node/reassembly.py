# SPDX-License-Identifier: Apache-2.0
"""Reassembly of ADUs for this node (RFC 9171 section 5.9): fragments wait for their siblings, then become one bundle.

The shell reads the fragments that are needed and joins them; the whole bundle is stored before its fragments go, so
that a crash at any moment leaves one or the other. From then on it is a bundle like any that arrived whole. One that is
too large for memory is joined in the store piece by piece.
"""

from collections.abc import Callable
from typing import Final

from msgspec import structs

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.eid import Eid
from meshd.bundle.fragment import FRAGMENTS_MAX, LARGE_ADU_SIZE_MAX_BYTES, Extent, choose_cover
from meshd.bundle.header import BundleHeader
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef, adu_of, bundle_ref
from meshd.bundle.scan import scan_untrusted
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.commands import AbortStream, FinishStream, ReassembleBundle
from meshd.node.events import BundleJoined, BundleReassembled, JoiningFailed
from meshd.node.replication import Copies
from meshd.node.sent_messages import message_id_of
from meshd.node.state import NodeState

RETRY_S: Final = 10.0
"""A whole bundle that could not be stored is tried again after this."""

_IS_FRAGMENT: Final = int(BundleFlag.IS_FRAGMENT)


class _Adu:
    """An ADU on its way together."""

    __slots__ = ("destination", "fragments", "is_joining", "message", "total_bytes")

    def __init__(self, message: BundleId, destination: Eid, total_bytes: int) -> None:
        self.message = message
        """The message that it is a part of, or is."""
        self.destination = destination
        self.total_bytes = total_bytes
        self.fragments: dict[BundleId, Extent] = {}
        self.is_joining = False

    def covers(self, extent: Extent) -> bool:
        """Whether one fragment that is here has all of these bytes."""
        return any(each.start <= extent.start and extent.end <= each.end for each in self.fragments.values())

    def cover(self) -> list[BundleId] | None:
        """Fragments that make up the whole; None while something is missing."""
        chosen = choose_cover(list(self.fragments.values()), self.total_bytes)
        if chosen is None:
            return None
        ids = list(self.fragments)
        return [ids[index] for index in chosen]


class Reassembly:
    """Owns the ADUs that lack something. Their bundles count as messages that lack a part."""

    def __init__(self, state: NodeState, let_go: Callable[[Entry], None]) -> None:
        """`let_go` is called for each fragment that is not needed here any more."""
        self._state = state
        self._let_go = let_go
        self._adus: dict[BundleId, _Adu] = {}
        self._retries: dict[BundleId, float] = {}

    def __len__(self) -> int:
        return len(self._adus)

    def problem(self, header: BundleHeader) -> str:
        """Why a fragment that arrives can't be of use; empty when it can."""
        if not 0 < header.total_adu_bytes <= LARGE_ADU_SIZE_MAX_BYTES:
            return f"an ADU of {header.total_adu_bytes} bytes can't be reassembled: 1 to {LARGE_ADU_SIZE_MAX_BYTES} can"
        adu = self._adus.get(adu_of(header.id))
        if adu is None:
            return ""
        if adu.total_bytes != header.total_adu_bytes or adu.destination != header.destination:
            return "the fragment contradicts one of the same bundle that was here before"
        if len(adu.fragments) >= FRAGMENTS_MAX:
            return f"{FRAGMENTS_MAX} fragments of this bundle are here already"
        return ""

    def add(self, entry: Entry) -> None:
        """A durable fragment for this node waits for its siblings: "reassembly pending"."""
        state, record = self._state, entry.record
        adu_id = adu_of(record.id)
        start = record.id.fragment_offset
        extent = Extent(start, start + record.id.fragment_bytes)
        adu = self._adus.get(adu_id)
        is_useless = adu is not None and (
            adu.covers(extent) or adu.total_bytes != record.total_adu_bytes or adu.destination != record.destination
        )
        if is_useless or state.is_known(adu_id):
            self._let_go(entry)
            return
        if adu is None:
            message = message_id_of(adu_id, record.part)
            adu = self._adus[adu_id] = _Adu(message, record.destination, record.total_adu_bytes)
            state.delivery.lacks_a_part(message)
        adu.fragments[record.id] = extent
        entry.state, entry.link = BundleState.REASSEMBLING, None
        if entry.copies is None:
            state.table.drop_inline(entry)
        self._join_if_complete(adu_id, adu)

    def remove(self, fragment: BundleId) -> None:
        """A fragment has expired, was cancelled or is damaged."""
        adu_id = adu_of(fragment)
        adu = self._adus.get(adu_id)
        if adu is None:
            return
        adu.fragments.pop(fragment, None)
        if not adu.fragments:
            self._forget(adu_id)

    def joined(self, event: BundleReassembled, now: float) -> Entry | None:
        """The shell has joined the fragments: the whole bundle is stored. Returns its entry."""
        adu = self._adus.get(event.id)
        if adu is None or not adu.is_joining:
            return None
        if event.data is None:
            adu.is_joining = False
            if event.problem:  # fragments that contradict each other: they will never fit
                self._delete_fragments(event.id, adu, event.problem)
            return None
        header = scan_untrusted(event.data)
        size_bytes = len(event.data)
        record = self._record_of_whole(adu, header, size_bytes, PayloadRef(-1, 0, size_bytes, event.data))
        entry = Entry(record, header, event.data, is_own=False)
        self._state.add(entry)
        self._take_in(entry, adu)
        return entry

    def joined_in_pieces(self, event: BundleJoined, now: float) -> None:
        """The same of one that lies in the store already and has to be made durable."""
        del now
        adu, state = self._adus.get(event.id), self._state
        if adu is None or not adu.is_joining:
            state.commands.append(AbortStream(event.stream))
            return
        record = self._record_of_whole(adu, event.header, event.size_bytes, PayloadRef(-1, 0, event.size_bytes))
        entry = Entry(record, None, None, is_own=False)
        state.table.add(entry)
        self._take_in(entry, adu)
        state.commands.append(FinishStream(event.stream, record))

    def joining_failed(self, event: JoiningFailed, now: float) -> None:
        """The store could not take the whole while it was being joined."""
        self.storing_failed(event.id, now)
        self._state.report("store.failed", bundles=1, reason=event.reason)

    def _model(self, adu: _Adu) -> Entry:
        model = self._state.table.get(next(iter(adu.fragments)))
        assert model is not None, "fragments that wait are in the table"
        return model

    def _record_of_whole(self, adu: _Adu, header: BundleHeader, size_bytes: int, payload: PayloadRef) -> BundleRecord:
        """`header` is that of the whole, or of the fragment at offset 0."""
        return structs.replace(
            self._model(adu).record,
            id=adu_of(header.id),
            size_bytes=size_bytes,
            flags=header.flags & ~_IS_FRAGMENT,
            part=header.part,
            payload=payload,
            total_adu_bytes=0,
        )

    def _take_in(self, entry: Entry, adu: _Adu) -> None:
        if self._model(adu).copies is not None:  # to a group: the fragments, not the whole, go on to other members
            entry.copies = Copies((), is_delivered=False)
            self._state.note_copies(entry)
        self._retries.pop(entry.record.id, None)

    def settle(self, bundle: BundleId) -> None:
        """A whole bundle is durable and with its application: fragments of it are not needed any more."""
        adu = self._adus.get(bundle)
        if adu is not None:
            self._delete_fragments(bundle, adu, "")

    def storing_failed(self, bundle: BundleId, now: float) -> None:
        """The whole could not be stored: its fragments stay, and it is tried again."""
        adu = self._adus.get(bundle)
        if adu is not None and adu.is_joining:
            adu.is_joining = False
            self._retries[bundle] = now + RETRY_S

    def retry_due(self, now: float) -> None:
        """Join again what could not be stored."""
        for bundle in [bundle for bundle, at in self._retries.items() if at <= now]:
            del self._retries[bundle]
            adu = self._adus.get(bundle)
            if adu is not None:
                self._join_if_complete(bundle, adu)

    def next_retry(self) -> float | None:
        """Monotonic time of the next one."""
        return min(self._retries.values(), default=None)

    def _join_if_complete(self, adu_id: BundleId, adu: _Adu) -> None:
        if adu.is_joining:
            return
        cover = adu.cover()
        if cover is None:
            return
        entries = [self._state.table.get(fragment) for fragment in cover]
        payloads = [entry.record.payload for entry in entries if entry is not None]
        assert len(payloads) == len(cover), "fragments that wait are in the table"
        adu.is_joining = True
        self._state.commands.append(ReassembleBundle(adu_id, cover, payloads))

    def _delete_fragments(self, adu_id: BundleId, adu: _Adu, problem: str) -> None:
        for fragment in list(adu.fragments):
            entry = self._state.table.get(fragment)
            if entry is not None:
                self._let_go(entry)
        if problem:
            self._state.report("bundle.deleted", bundle=bundle_ref(adu_id), reason=problem)
        self._forget(adu_id)

    def _forget(self, adu_id: BundleId) -> None:
        adu = self._adus.pop(adu_id)
        self._retries.pop(adu_id, None)
        if all(other.message != adu.message for other in self._adus.values()):
            self._state.delivery.lacks_no_fragment(adu.message, adu.destination)
