# SPDX-License-Identifier: Apache-2.0
"""Fragmentation on demand (RFC 9171 section 5.8): what is too large for a link is replaced by fragments.

The shell cuts, since the bundle may lie in the store. The fragments are one atomic group of the store, and when it is
durable the original goes; from then on each is a bundle of its own. Of a bundle that is too large for memory the shell
makes some at a time, each lot when the one before is durable; they leave while the rest is cut, and the original goes
after the last. A crash meanwhile begins again at its first byte: what has left already is sent twice at worst.
"""

from typing import Final

from msgspec import structs

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef, bundle_ref
from meshd.bundle.scan import scan_untrusted
from meshd.node.bundle_table import BundleState, Entry, Room
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


class _Progress:
    """How far a bundle is cut."""

    __slots__ = ("fragments", "next_position", "position", "size_max_bytes")

    def __init__(self, size_max_bytes: int) -> None:
        self.size_max_bytes = size_max_bytes
        self.position = 0
        """Fragments of all before this byte of its payload are durable."""
        self.next_position = 0
        """The same when those that are being stored are, if there are more to come."""
        self.fragments = 0


class Fragmentation:
    """Owns the bundles that are being cut, and knows which original the fragments being stored replace."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self.growth_bytes = PATCH_GROWTH_BYTES + len(state.settings.id.cbor)
        self._originals: dict[BundleId, BundleId] = {}
        self._progress: dict[BundleId, _Progress] = {}

    def may_cut(self, record: BundleRecord) -> bool:
        """False when it must not be fragmented."""
        return not record.flags & _MUST_NOT_FRAGMENT

    def cut(self, entry: Entry, size_max_bytes: int, first_max_bytes: int) -> None:
        """Ask the shell for fragments of at most these sizes."""
        payload = entry.record.payload
        if entry.inline is not None:
            payload = PayloadRef(payload.segment, payload.offset, payload.size_bytes, entry.inline)
        bundle, position = entry.record.id, 0
        progress = self._progress.get(bundle)
        if progress is not None:  # it could not be cut to its end before
            position, progress.size_max_bytes = progress.position, size_max_bytes
        else:
            gone = [each for each in self._progress if each not in self._state.table]
            for each in gone:
                del self._progress[each]
            self._progress[bundle] = _Progress(size_max_bytes)
        self._state.commands.append(FragmentBundle(bundle, payload, size_max_bytes, first_max_bytes, position))

    def done(self, event: BundleFragmented) -> tuple[Entry, str] | None:
        """The fragments are there. Returns the original and why it can't be cut now; or without a reason when nothing
        has to be stored: it is to a group and its fragments are here already.
        """
        state = self._state
        entry, progress = state.table.get(event.id), self._progress.get(event.id)
        if entry is None or progress is None or not _is_being_cut(entry):
            self._progress.pop(event.id, None)
            return None
        if not event.fragments:
            return entry, event.problem or "it can't be fragmented"
        is_large = bool(event.next_position or progress.position)
        if is_large and not state.table.has_room(sum(map(len, event.fragments)), entry.record.precedence, Room.ONWARD):
            return entry, "the store has no room for its fragments, which are stored before it goes"
        fresh = [each for each in (self._entry(entry, data) for data in event.fragments) if each is not None]
        progress.next_position = event.next_position
        progress.fragments += len(event.fragments)
        for each in fresh:
            self._originals[each.record.id] = event.id
            state.add(each)
        if fresh:
            if not event.next_position:
                state.report("bundle.fragmented", bundle=bundle_ref(event.id), fragments=progress.fragments)
        elif event.next_position:  # a crash between storing them and the rest: they are here
            self._go_on(entry, progress)
        else:  # or between storing the last ones and forgetting the original
            del self._progress[event.id]
            if entry.copies is not None:
                return entry, ""
            state.delete(entry)
        return None

    def settle(self, fragment: BundleId) -> Entry | None:
        """A fragment is durable, and so are those made with it: more are made, or the original goes. One to a group is
        returned instead, since it may be for others too.
        """
        original = self._originals.pop(fragment, None)
        entry = self._state.table.get(original) if original is not None else None
        if original is None or entry is None or not _is_being_cut(entry):
            return None
        progress = self._progress[original]
        if progress.next_position:
            for each in [each for each, whole in self._originals.items() if whole == original]:
                del self._originals[each]
            self._go_on(entry, progress)
            return None
        del self._progress[original]
        more = sum(each == original for each in self._originals.values())
        copies = entry.copies
        if copies is None:
            self._state.delete(entry)
        else:
            more += not copies.left <= copies.cutting
        if entry.is_own:
            self._state.messages.part_split(message_id_of(entry.record.id, entry.record.part), more)
        return None if copies is None else entry

    def _go_on(self, entry: Entry, progress: "_Progress") -> None:
        """The next fragments of a large bundle."""
        progress.position, progress.next_position = progress.next_position, 0
        self.cut(entry, progress.size_max_bytes, progress.size_max_bytes)

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
