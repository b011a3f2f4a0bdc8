# SPDX-License-Identifier: Apache-2.0
"""Groups on their way into a segment: encoded, checked against the contents, and entered there once they are durable.

Nothing of a batch is seen by anybody before `apply`; a batch that could not be written is simply dropped. Writing is
left to the segment log.
"""

from collections.abc import Sequence
from typing import Final

from meshd.base.errors import StoreError
from meshd.bundle.crc import crc32c
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.node.commands import WriteStore
from meshd.node.events import StoredRow
from meshd.store.contents import (
    NOTE_NAMES_MAX,
    NOTE_SIZE_MAX_BYTES,
    Contents,
    Segment,
    mark_bytes,
    place,
    place_segment,
)
from meshd.store.record_format import (
    CRC_BYTES,
    GROUP_SIZE_MAX_BYTES,
    HEAD_BYTES,
    MarkRow,
    encode_body,
    encode_head,
    mark_fields,
    pack_crc,
    put_fields,
)

_JOIN_MAX_BYTES: Final = 32 * 1024
"""Bundles up to this size are copied together before they are written; larger ones are written from where they are."""
_GONE: Final = -1


class Batch:
    """What one write and one sync will make durable.

    Args:
        segment: where it is going to be appended, at `offset`.
    """

    def __init__(self, contents: Contents, segment: Segment, offset: int) -> None:
        self._contents = contents
        self._segment = segment
        self._places: dict[BundleId, int] = {}
        self._marks: list[tuple[int, int, int]] = []
        self._notes: dict[str, bytes] = {}
        self._small: list[bytes] = []
        self._buffers: list[bytes | memoryview] = []
        self.end = offset

    def add(self, group: WriteStore) -> list[StoredRow] | StoreError:
        """Take a group into the batch; the places of its puts, or why it can't be taken."""
        fresh = {record.id for record in group.puts}
        refusal = self._refusal(group, fresh)
        if refusal is not None:
            return StoreError(refusal)
        deletes = [(row, self._put_segment(row.id, fresh)) for row in group.deletes]
        try:
            body = encode_body(
                [put_fields(record) for record in group.puts],
                [mark_fields(row.id, number, row.remember_until_ms) for row, number in deletes],
                [mark_fields(bundle_id, self._put_segment(bundle_id, fresh)) for bundle_id in group.releases],
                group.notes,
            )
        except OverflowError:
            return StoreError("a bundle can't be stored: one of its numbers has more than 64 bits")
        rows = self._append(body, group.puts)
        number = self._segment.number
        for record in group.puts:
            self._places[record.id] = place(number, record.size_bytes)
        for row, put_segment in deletes:
            self._places[row.id] = _GONE
            self._marks.append((put_segment, row.remember_until_ms, mark_bytes(row.id.source.uri)))
        self._marks += [(self._put_segment(key, fresh), 0, mark_bytes(key.source.uri)) for key in group.releases]
        self._notes.update(group.notes)
        return rows

    def carry(self, deletes: Sequence[MarkRow], releases: Sequence[MarkRow], notes: dict[str, bytes]) -> None:
        """Take marks and notes of a segment that is about to be unlinked."""
        self._append(encode_body([], deletes, releases, notes), ())
        for row in (*deletes, *releases):
            self._marks.append((row.put_segment, row.remember_until_ms, mark_bytes(row.source)))
        self._notes.update(notes)

    def finish(self) -> list[bytes | memoryview]:
        """The buffers to append to the segment, in order."""
        self._flush_small()
        return self._buffers

    def apply(self) -> None:
        """It is durable: enter it into the contents."""
        contents, segment = self._contents, self._segment
        segment.size_bytes = self.end
        for bundle_id, where in self._places.items():
            if where == _GONE:
                contents.remove(bundle_id)
            else:
                contents.put(bundle_id, where)
        for mark in self._marks:
            segment.count_mark(*mark)
        for name, value in self._notes.items():
            contents.note(name, value, segment.number)

    def _refusal(self, group: WriteStore, fresh: set[BundleId]) -> str | None:
        size_bytes = sum([record.size_bytes for record in group.puts])
        if size_bytes > GROUP_SIZE_MAX_BYTES:
            return (
                f"a group of {size_bytes} bytes is too large for the store: at most {GROUP_SIZE_MAX_BYTES} are allowed"
            )
        if len(fresh) != len(group.puts):
            return "a group names the same bundle twice"
        for key in self._met_before(fresh):
            if self._where(key) != _GONE:
                return f"the bundle {key.source.uri} {key.time_ms}.{key.sequence} is in the store already"
        return self._notes_refusal(group.notes)

    def _met_before(self, fresh: set[BundleId]) -> set[BundleId]:
        """Those of these IDs that are stored, or that this batch is about: none, nearly always."""
        stored, touched = self._contents.where.keys(), self._places.keys()
        if stored.isdisjoint(fresh) and touched.isdisjoint(fresh):
            return set()
        return fresh

    def _notes_refusal(self, notes: dict[str, bytes]) -> str | None:
        if not notes:
            return None
        names = len(self._contents.notes.keys() | self._notes.keys() | notes.keys())
        if names > NOTE_NAMES_MAX:
            return f"the store holds at most {NOTE_NAMES_MAX} notes"
        for name, value in notes.items():
            if len(value) > NOTE_SIZE_MAX_BYTES:
                return f"the note {name} has {len(value)} bytes, at most {NOTE_SIZE_MAX_BYTES} are allowed"
        return None

    def _where(self, bundle_id: BundleId) -> int:
        where = self._places.get(bundle_id)
        return self._contents.where.get(bundle_id, _GONE) if where is None else where

    def _put_segment(self, bundle_id: BundleId, fresh: set[BundleId]) -> int:
        """The segment that a mark of a group is about: its own for bundles that the group itself puts."""
        if bundle_id in fresh:
            return self._segment.number
        where = self._where(bundle_id)
        return _GONE if where == _GONE else place_segment(where)

    def _append(self, body: bytes, puts: Sequence[BundleRecord]) -> list[StoredRow]:
        """Lay one group out at the batch's end; where its bundles come to lie."""
        number = self._segment.number
        bundle_bytes = sum([record.size_bytes for record in puts]) + CRC_BYTES * len(puts)
        self._small += (encode_head(number, self.end, body, bundle_bytes, self._segment.size_bytes), body)
        offset = self.end + HEAD_BYTES + len(body)
        rows: list[StoredRow] = []
        small = self._small
        for record in puts:  # a hot loop: 1 microsecond here is a tenth of a bundle's time
            data, size_bytes = record.payload.inline, record.size_bytes
            assert data is not None, "a put comes with its bundle"
            assert len(data) == size_bytes, "a bundle has the size that its record says"
            if size_bytes > _JOIN_MAX_BYTES:
                self._flush_small()
                small = self._small
                self._buffers.append(data)
            else:
                small.append(data)
            small.append(pack_crc(crc32c(data)))
            rows.append(StoredRow(record.id, PayloadRef(number, offset, size_bytes)))
            offset += size_bytes + CRC_BYTES
        self.end = offset
        return rows

    def _flush_small(self) -> None:
        if self._small:
            self._buffers.append(b"".join(self._small))
            self._small = []
