# SPDX-License-Identifier: Apache-2.0
"""Groups on their way into a segment: encoded, checked against the contents, and entered there once they are durable.

Nothing of a batch is seen by anybody before `apply`; a batch that could not be written is simply dropped. Writing is
left to the segment log.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, repeat
from typing import Final

from meshd.base.errors import StoreError
from meshd.bundle.crc import crc32c
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.node.commands import ForgottenRow, WriteStore
from meshd.node.events import StoredRow
from meshd.store.contents import NOTE_NAMES_MAX, NOTE_SIZE_MAX_BYTES, Contents, Segment
from meshd.store.group_body import NO_MARKS, Marks, encode_body
from meshd.store.record_format import CRC_BYTES, GROUP_SIZE_MAX_BYTES, HEAD_BYTES, encode_head, pack_crc
from meshd.store.segment_carry import CarriedGroup

_JOIN_MAX_BYTES: Final = 32 * 1024
"""Bundles up to this size are copied together before they are written; larger ones are written from where they are."""
_GONE: Final = -1
_TIME_MAX_MS: Final = (1 << 64) - 1
_NO_NOTES: Final[dict[str, bytes]] = {}


class Batch:
    """What one write and one sync will make durable.

    Args:
        segment: where it is going to be appended, at `offset`.
    """

    def __init__(self, contents: Contents, segment: Segment, offset: int) -> None:
        self._contents = contents
        self._segment = segment
        self._places: dict[BundleId, PayloadRef] = {}
        """What is put here and not deleted again."""
        self._dead: dict[BundleId, None] = {}
        """What goes from where it lies so far."""
        self._held: set[BundleId] = set()
        self._released: set[BundleId] = set()
        self._marks: list[Marks] = []
        self._notes: dict[str, bytes] = {}
        self._pending: list[ForgottenRow] = []
        self._small: list[bytes] = []
        self._buffers: list[bytes | memoryview] = []
        self.end = offset

    def add(self, group: WriteStore) -> list[StoredRow] | StoreError:
        """Take a group into the batch; the places of its puts, or why it can't be taken."""
        puts = group.puts
        if group.deletes and not (puts or group.releases or group.notes):
            return self._add_deletes(group.deletes)
        self._flush_deletes()
        ids = [record.id for record in puts]
        refusal = self._refusal(group, ids)
        if refusal is not None:
            return StoreError(refusal)
        own = set(ids) if ids and (group.deletes or group.releases) else set()
        deletes = self._deletes(group.deletes, own)
        releases = Marks(group.releases, self._put_segments(group.releases, own), [0] * len(group.releases))
        try:
            body = encode_body(puts, deletes, releases, group.notes)
        except OverflowError:
            return StoreError("a bundle can't be stored: one of its numbers has more than 64 bits")
        refs = self._append(body, puts)
        self._places.update(zip(ids, refs, strict=True))
        self._note_held(group)
        self._note_deletes(deletes)
        if releases.ids:
            self._marks.append(releases)
        self._notes.update(group.notes)
        return list(map(StoredRow, ids, refs))

    def move(self, records: Sequence[BundleRecord], segment: int) -> list[PayloadRef]:
        """Take live bundles of another segment, with their bytes or their files; where they come to lie.

        Their old places are marked as deleted in the same group: should the old segment come back after a power
        failure, when this one is gone already, then they don't come back with it.
        """
        ids = [record.id for record in records]
        deletes = Marks(ids, [segment] * len(ids), [0] * len(ids))
        refs = self._append(encode_body(records, deletes, NO_MARKS, _NO_NOTES), records)
        self._places.update(zip(ids, refs, strict=True))
        self._held.update([record.id for record in records if record.held])
        self._dead.update(dict.fromkeys(ids))
        self._marks.append(deletes)
        return refs

    def carry(self, group: CarriedGroup) -> None:
        """Take marks and notes of a segment that is about to be unlinked."""
        self._append(encode_body((), group.deletes, group.releases, group.notes), ())
        self._marks += (group.deletes, group.releases)
        self._notes.update(group.notes)

    def finish(self) -> list[bytes | memoryview]:
        """The buffers to append to the segment, in order."""
        self._flush_deletes()
        self._flush_small()
        return self._buffers

    def apply(self) -> None:
        """It is durable: enter it into the contents."""
        contents, segment = self._contents, self._segment
        segment.size_bytes = self.end
        contents.remove(self._dead)
        contents.put(self._places, segment)
        contents.held |= self._held
        contents.held -= self._released
        for ref in self._places.values() if contents.finished else ():
            contents.finished.pop(ref.segment, None)
        for marks in self._marks:
            segment.count_marks(marks)
        for name, value in self._notes.items():
            contents.note(name, value, segment.number)

    def _refusal(self, group: WriteStore, ids: Sequence[BundleId]) -> str | None:
        puts = group.puts
        if puts:
            size_bytes = put_bytes(group)
            if size_bytes > GROUP_SIZE_MAX_BYTES:
                return (
                    f"a group of {size_bytes} bytes is too large for the store: at most {GROUP_SIZE_MAX_BYTES} "
                    "are allowed"
                )
            refusal = self._puts_refusal(puts, ids)
            if refusal is not None:
                return refusal
        return self._notes_refusal(group.notes) if group.notes else None

    def _puts_refusal(self, puts: Sequence[BundleRecord], ids: Sequence[BundleId]) -> str | None:
        fresh = set(ids)
        if len(fresh) != len(ids):
            return "a group names the same bundle twice"
        if not (self._contents.where.keys().isdisjoint(fresh) and self._places.keys().isdisjoint(fresh)):
            for key in ids:
                if self._segment_of(key) != _GONE:
                    return f"the bundle {key.source.uri} {key.time_ms}.{key.sequence} is in the store already"
        finished = self._contents.finished
        for record in puts if None in [record.payload.inline for record in puts] else ():
            if record.payload.inline is None and finished.get(record.payload.segment) != record.payload:
                assert record.payload.segment >= 0, "a put comes with its bundle"
                return f"the large bundle of {record.id.source.uri} was not finished: stream it again"
        return None

    def _notes_refusal(self, notes: dict[str, bytes]) -> str | None:
        known = self._contents.notes
        fresh = {name for name in (*self._notes, *notes) if name not in known}
        if fresh and len(known) + len(fresh) > NOTE_NAMES_MAX:
            return f"the store holds at most {NOTE_NAMES_MAX} notes"
        for name, value in notes.items():
            if len(value) > NOTE_SIZE_MAX_BYTES:
                return f"the note {name} has {len(value)} bytes, at most {NOTE_SIZE_MAX_BYTES} are allowed"
        return None

    def _add_deletes(self, rows: Sequence[ForgottenRow]) -> list[StoredRow] | StoreError:
        """Deletions come in many small groups: neighbours are written as one."""
        if max([row.remember_until_ms for row in rows]) > _TIME_MAX_MS:
            return StoreError("a deletion can't be stored: its time has more than 64 bits")
        self._pending += rows
        return []

    def _flush_deletes(self) -> None:
        if self._pending:
            rows, self._pending = self._pending, []
            deletes = self._deletes(rows, set())
            self._append(encode_body((), deletes, NO_MARKS, _NO_NOTES), ())
            self._note_deletes(deletes)

    def _deletes(self, rows: Sequence[ForgottenRow], own: set[BundleId]) -> Marks:
        ids = [row.id for row in rows]
        return Marks(ids, self._put_segments(ids, own), [row.remember_until_ms for row in rows])

    def _put_segments(self, ids: Sequence[BundleId], own: set[BundleId]) -> list[int]:
        """The segments that marks are about: the batch's own for bundles that the group itself puts."""
        contents = self._contents
        if not (own or self._dead or contents.large):  # a hot path: nothing of it is deleted and put again, or large
            refs = list(map(contents.where.get, ids))
            if None not in refs:
                return [_GONE if ref is None else ref.segment for ref in refs]
        number = self._segment.number
        return [number if key in own else self._segment_of(key) for key in ids]

    def _segment_of(self, key: BundleId) -> int:
        """The segment that holds the record of a bundle which is here once this batch is durable."""
        if key in self._places:
            return self._segment.number
        ref = None if key in self._dead else self._contents.where.get(key)
        return _GONE if ref is None else self._contents.segment_of(ref)

    def _note_held(self, group: WriteStore) -> None:
        held = [record.id for record in group.puts if record.held]
        self._held.update(held)
        self._released.difference_update(held)
        self._released.update(group.releases)

    def _note_deletes(self, deletes: Marks) -> None:
        if not deletes.ids:
            return
        self._dead.update(dict.fromkeys(deletes.ids))
        self._marks.append(deletes)
        self._held.difference_update(deletes.ids)
        if self._segment.number in deletes.put_segments:
            for bundle_id in deletes.ids:
                self._places.pop(bundle_id, None)

    def _append(self, body: bytes, puts: Sequence[BundleRecord]) -> list[PayloadRef]:
        """Lay one group out at the batch's end; where its bundles come to lie."""
        number = self._segment.number
        sizes = [record.size_bytes for record in puts if record.payload.inline is not None]
        data = [record.payload.inline for record in puts if record.payload.inline is not None]
        assert list(map(len, data)) == sizes, "a bundle has the size that its record says"
        start = self.end + HEAD_BYTES + len(body)
        *offsets, self.end = accumulate([size + CRC_BYTES for size in sizes], initial=start)
        head = encode_head(number, start - HEAD_BYTES - len(body), body, self.end - start, self._segment.size_bytes)
        self._small += (head, body)
        crcs = map(pack_crc, map(crc32c, data))
        if sizes and max(sizes) > _JOIN_MAX_BYTES:
            self._add_large(data, crcs)
        else:
            self._small += chain.from_iterable(zip(data, crcs, strict=True))
        refs = list(map(PayloadRef, repeat(number), offsets, sizes))
        if len(sizes) == len(puts):
            return refs
        inline = iter(refs)
        return [record.payload if record.payload.inline is None else next(inline) for record in puts]

    def _add_large(self, data: Sequence[bytes], crcs: Iterator[bytes]) -> None:
        """Write what is large from where it is."""
        for each, crc in zip(data, crcs, strict=True):
            if len(each) > _JOIN_MAX_BYTES:
                self._flush_small()
                self._buffers.append(each)
            else:
                self._small.append(each)
            self._small.append(crc)

    def _flush_small(self) -> None:
        if self._small:
            self._buffers.append(b"".join(self._small))
            self._small = []


def put_bytes(group: WriteStore) -> int:
    """What a group's bundles bring into a segment; a large one is on the disk already."""
    return sum([record.size_bytes for record in group.puts if record.payload.inline is not None])
