# SPDX-License-Identifier: Apache-2.0
"""Fragmentation on demand (RFC 9171 section 5.8): what is too large for a link is replaced by fragments.

The shell cuts, since the bundle may lie in the store. The fragments are one atomic group of the store, and when it is
durable the original goes; from then on each is a bundle of its own.
"""

from typing import Final

from msgspec import structs

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.blocks import BundleFlag
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef, bundle_ref
from meshd.bundle.scan import scan_untrusted
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.commands import FragmentBundle
from meshd.node.events import BundleFragmented
from meshd.node.replication import Copies
from meshd.node.sent_messages import message_id_of
from meshd.node.state import NodeState

PATCH_GROWTH_BYTES: Final = 48
"""By how much hop count, age and the frame of a previous node block may make a bundle longer as it leaves; the EID of
the node itself comes to that.
"""

_MUST_NOT_FRAGMENT: Final = int(BundleFlag.MUST_NOT_FRAGMENT)


class Fragmentation:
    """Owns the bundles that are being cut, and knows which original the fragments being stored replace."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self.growth_bytes = PATCH_GROWTH_BYTES + len(state.settings.id.cbor)
        self._originals: dict[BundleId, BundleId] = {}

    def may_cut(self, record: BundleRecord) -> bool:
        """False when it must not be fragmented, or is not held in memory: cutting is done there."""
        return not record.flags & _MUST_NOT_FRAGMENT and record.size_bytes <= INLINE_SIZE_MAX_BYTES

    def cut(self, entry: Entry, size_max_bytes: int, first_max_bytes: int) -> None:
        """Ask the shell for fragments of at most these sizes."""
        payload = entry.record.payload
        if entry.inline is not None:
            payload = PayloadRef(payload.segment, payload.offset, payload.size_bytes, entry.inline)
        self._state.commands.append(FragmentBundle(entry.record.id, payload, size_max_bytes, first_max_bytes))

    def done(self, event: BundleFragmented) -> Entry | None:
        """The fragments are there. Returns the original when nothing has to be stored: it could not be cut, or it is to
        a group and its fragments are here already.
        """
        state = self._state
        entry = state.table.get(event.id)
        if entry is None or not _is_being_cut(entry):
            return None
        if not event.fragments:
            return entry
        fresh = [each for each in (self._entry(entry, data) for data in event.fragments) if each is not None]
        for each in fresh:
            self._originals[each.record.id] = event.id
            state.add(each)
        if fresh:
            state.report("bundle.fragmented", bundle=bundle_ref(event.id), fragments=len(event.fragments))
        elif entry.copies is None:  # a crash between storing the fragments and forgetting the original: they are here
            state.delete(entry)
        else:
            return entry
        return None

    def settle(self, fragment: BundleId) -> Entry | None:
        """A fragment is durable, and so are its siblings: the original goes. One to a group is returned instead, since
        it may be for others too.
        """
        original = self._originals.pop(fragment, None)
        entry = self._state.table.get(original) if original is not None else None
        if entry is None or not _is_being_cut(entry):
            return None
        more = sum(each == original for each in self._originals.values())
        copies = entry.copies
        if copies is None:
            self._state.delete(entry)
        else:
            more += not copies.left <= copies.cutting
        if entry.is_own:
            self._state.messages.part_split(message_id_of(entry.record.id, entry.record.part), more)
        return None if copies is None else entry

    def storing_failed(self, fragment: BundleId) -> Entry | None:
        """Returns the original, which stays and has to wait, with the first of its fragments that failed."""
        original = self._originals.pop(fragment, None)
        entry = self._state.table.get(original) if original is not None else None
        return entry if entry is not None and _is_being_cut(entry) else None

    @property
    def is_storing(self) -> bool:
        """Whether fragments are being stored."""
        return bool(self._originals)

    def _entry(self, original: Entry, data: bytes) -> Entry | None:
        header = scan_untrusted(data)
        here = self._state.table.get(header.id)
        if here is not None:
            if here.copies is not None and original.copies is not None:
                here.copies.left |= original.copies.cutting
            return None
        record = structs.replace(
            original.record,
            id=header.id,
            size_bytes=len(data),
            flags=header.flags,
            held=False,  # only complete messages are forwarded
            payload=PayloadRef(-1, 0, len(data), data),
            total_adu_bytes=header.total_adu_bytes,
        )
        entry = Entry(record, header, data, is_own=original.is_own)
        if original.copies is not None:
            entry.copies = Copies(original.copies.cutting, is_delivered=True)
            self._state.note_copies(entry)
        return entry


def _is_being_cut(entry: Entry) -> bool:
    return entry.state is BundleState.FRAGMENTING or (entry.copies is not None and bool(entry.copies.cutting))
