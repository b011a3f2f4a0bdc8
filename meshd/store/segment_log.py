# SPDX-License-Identifier: Apache-2.0
"""The durable bundle store: an append-only log in segments (DESIGN section 8).

`commit` takes groups of changes and returns when they are durable; one write and one fdatasync serve them all. A
segment that is full is followed by a new one; a segment whose bundles are all gone is unlinked by `reclaim`, after what
is still needed of its marks and notes was carried on into the newest segment and synced there.

After a failed fdatasync nobody knows what is on the disk, and asking again only returns success (Linux has dropped the
dirty pages): the groups in flight fail, the segment is cut off where it was last durable and never written again, and
the next groups go to a new one. When the disk is full, puts are refused while there is still a reserve for deletions,
which is what makes room again.

One thread calls `recover`, `commit` and `reclaim`; any thread may `read` and ask for `usage`. Grouping and threads are
left to the writer, quota and precedence to the agent.
"""

import errno
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from meshd.base.errors import StoreError
from meshd.bundle.crc import crc32c
from meshd.bundle.record import PayloadRef
from meshd.node.commands import WriteStore
from meshd.node.events import StoredRow
from meshd.store.batch import Batch
from meshd.store.contents import MARK_BYTES, Contents, Segment
from meshd.store.disk import Disk
from meshd.store.errors import StoreFullError
from meshd.store.record_format import CRC_BYTES, encode_segment_header, pack_crc
from meshd.store.recovery import Recovered, Recovery, segment_name
from meshd.store.segment_carry import Carried, what_to_carry

SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""A segment this large is followed by a new one; the last group in it may reach beyond."""
CARRY_APART_SHARE: Final = 64
"""Marks that fill more than this part of a segment get a segment of their own: there they stay until they expire. Among
bundles they would be carried on again each time those are gone, and a mark costs as much to copy as a bundle.
"""
CARRY_APART_MIN: Final = 64
"""Fewer never do: beside a segment's own header they would look like something worth carrying on, again and again."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

Rows = list[StoredRow]
"""What became of a group: where its puts lie now, in their order."""


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """How full the store is."""

    bundles: int
    live_bytes: int
    """Encoded bundles that are not deleted."""
    disk_bytes: int
    """All segments."""
    segments: int
    is_failed: bool
    """The last commit failed for another reason than a full disk; every new one tries again."""


class SegmentLog:
    """The log on one disk. Call `recover` once before anything else.

    Args:
        segment_bytes: size at which a segment is followed by a new one.
        reserve_bytes: free space kept for deletions and for carrying marks on (default: half a segment).
    """

    def __init__(self, disk: Disk, *, segment_bytes: int = SEGMENT_BYTES, reserve_bytes: int | None = None) -> None:
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._reserve_bytes = segment_bytes // 2 if reserve_bytes is None else reserve_bytes
        self._marks_among_bundles_max = max(CARRY_APART_MIN, segment_bytes // CARRY_APART_SHARE // MARK_BYTES)
        self._contents = Contents()
        self._current: Segment | None = None
        self._header = b""
        self._next_number = 1
        self._cuts: dict[int, int] = {}
        self._previous: Segment | None = None
        self._is_failed = False

    @property
    def usage(self) -> StoreUsage:
        """How full the store is."""
        contents = self._contents
        return StoreUsage(
            len(contents.where), contents.live_bytes, contents.size_bytes, len(contents.segments), self._is_failed
        )

    @property
    def may_reclaim(self) -> bool:
        """True when a segment lost its last bundle since `reclaim` last found nothing; marks also expire silently."""
        return self._contents.has_emptied

    def recover(self, now_ms: int = 0) -> Recovered:
        """Read the store back after a start.

        Args:
            now_ms: DTN time; what need not be remembered any more is left out. 0 when it is not known.

        Errors:
            StoreError: the store can't be read, or is of another version.
        """
        recovery = Recovery(self._disk, self._contents)
        collects = gc.isenabled()
        gc.disable()  # nothing here is garbage, and looking for it takes a quarter of the time
        try:
            recovered = recovery.run(now_ms)
        except OSError as error:
            raise StoreError(
                f"the store can't be read: {_reason(error)}; check the disk, or move the store's directory away"
            ) from error
        finally:
            if collects:
                gc.enable()
        self._next_number = recovery.number_max + 1
        self._cuts = recovery.cuts
        segments = self._contents.segments
        self._previous = segments[max(segments)] if segments else None
        return recovered

    def commit(self, groups: Sequence[WriteStore]) -> list[Rows | StoreError]:
        """Make these groups durable, in order; each is there as a whole or not at all.

        Returns:
            For each group where its puts lie, or why nothing of it was stored.
        """
        results: list[Rows | StoreError] = []
        start = 0
        while start < len(groups):
            stop = self._slice_end(groups, start)
            results += self._commit_slice(groups[start:stop])
            start = stop
        return results

    def read(self, ref: PayloadRef) -> bytes:
        """The encoded bundle, checked against its CRC.

        Errors:
            StoreError: it is damaged, deleted in the meantime, or the disk failed.
        """
        if ref.inline is not None:
            return ref.inline
        name = segment_name(ref.segment)
        try:
            data = self._disk.read(name, ref.offset, ref.size_bytes + CRC_BYTES)
        except OSError as error:
            raise StoreError(f"a bundle of {name} can't be read: {_reason(error)}") from error
        bundle = data[: ref.size_bytes]
        if data[ref.size_bytes :] != pack_crc(crc32c(bundle)):
            raise StoreError(f"the bundle at offset {ref.offset} of {name} is damaged: its checksum is wrong")
        return bundle

    def reclaim(self, now_ms: int) -> bool:
        """Unlink one segment whose bundles are all gone, if there is one that is worth it.

        A segment that consists mostly of marks still needed stays until they expire: for each byte carried on at least
        one byte is freed, so that carrying never costs more than was written in the first place.

        Returns:
            True when one was unlinked: call again.

        Errors:
            StoreError: what had to be carried on could not be written; the segment is still there.
        """
        for segment in self._contents.segments.values():
            if segment.live_count or not segment.is_sealed:
                continue
            if 2 * self._contents.carry_bytes(segment, now_ms) <= segment.size_bytes:
                self._unlink(segment, now_ms)
                return True
        self._contents.has_emptied = False
        return False

    def _unlink(self, segment: Segment, now_ms: int) -> None:
        """Carry on what is needed, sync it, unlink: in that order a crash finds it in one place at least."""
        try:
            carried = what_to_carry(self._disk, self._contents, segment, now_ms)
            self._carry(carried)
            self._disk.unlink(segment_name(segment.number))
        except OSError as error:
            raise StoreError(f"segment {segment_name(segment.number)} can't be removed: {_reason(error)}") from error
        self._contents.forget_segment(segment.number)
        self._cuts.pop(segment.number, None)

    def _carry(self, carried: Carried) -> None:
        if not carried:
            return
        self._seal_if_full()
        is_apart = sum(len(deletes) + len(releases) for deletes, releases, _ in carried) > self._marks_among_bundles_max
        if is_apart and self._current is not None:
            self._seal()
        segment = self._writable()
        batch = Batch(self._contents, segment, self._offset(segment))
        for deletes, releases, notes in carried:
            batch.carry(deletes, releases, notes)
        self._write(segment, batch)
        if is_apart:
            self._seal()

    def _slice_end(self, groups: Sequence[WriteStore], start: int) -> int:
        """How many groups the current segment still takes: at least one."""
        self._seal_if_full()
        room = self._segment_bytes - (0 if self._current is None else self._current.size_bytes)
        for index in range(start, len(groups)):
            for record in groups[index].puts:
                room -= record.size_bytes
            if room <= 0:
                return index + 1
        return len(groups)

    def _commit_slice(self, groups: Sequence[WriteStore]) -> list[Rows | StoreError]:
        try:
            self._check_space(groups)
            return self._append(groups)
        except StoreFullError as full:
            return self._commit_without_puts(groups, full)
        except StoreError as error:
            return [error] * len(groups)

    def _check_space(self, groups: Sequence[WriteStore]) -> None:
        size_bytes = sum([record.size_bytes for group in groups for record in group.puts])
        if not size_bytes:
            return
        try:
            free_bytes = self._disk.free_bytes()
        except OSError as error:
            raise StoreError(f"the store's disk does not answer: {_reason(error)}") from error
        if free_bytes < size_bytes + self._reserve_bytes:
            raise StoreFullError(
                f"the store's disk is full: {free_bytes} bytes are free and {self._reserve_bytes} are kept for "
                "deletions; free some space, or lower the store's quota"
            )

    def _commit_without_puts(self, groups: Sequence[WriteStore], full: StoreFullError) -> list[Rows | StoreError]:
        """On a full disk, still do what makes room."""
        small = [group for group in groups if not group.puts]
        rest: repeat[StoreError] | list[Rows | StoreError] = repeat(full)
        if 0 < len(small) < len(groups):
            try:
                rest = self._append(small)
            except StoreError as error:
                rest = repeat(error)
        answers = iter(rest)
        return [full if group.puts else next(answers) for group in groups]

    def _append(self, groups: Sequence[WriteStore]) -> list[Rows | StoreError]:
        segment = self._writable()
        batch = Batch(self._contents, segment, self._offset(segment))
        results = [batch.add(group) for group in groups]
        self._write(segment, batch)
        return results

    def _offset(self, segment: Segment) -> int:
        """Where the next group goes: behind the header, also before that is written."""
        return segment.size_bytes or len(self._header)

    def _write(self, segment: Segment, batch: Batch) -> None:
        """Append and sync; enter it only then."""
        buffers = batch.finish()
        if not buffers:
            return
        if not segment.size_bytes:
            buffers.insert(0, self._header)
        name = segment_name(segment.number)
        try:
            self._disk.append(name, buffers)
            self._disk.datasync(name)
        except OSError as error:
            raise self._failed(segment, error) from error
        self._is_failed = False
        batch.apply()

    def _failed(self, segment: Segment, error: OSError) -> StoreError:
        """Bring the segment back to what is durable, or abandon it."""
        name = segment_name(segment.number)
        is_cut = self._cut(segment)
        if error.errno in _FULL and is_cut:
            return StoreFullError(f"the store's disk is full ({name}): {_reason(error)}; free some space")
        self._seal()
        self._is_failed = True
        return StoreError(f"the store can't write {name}: {_reason(error)}; check the disk")

    def _cut(self, segment: Segment) -> bool:
        """Remove what is not durable. If the disk refuses, the next segment's header will say where this one ends."""
        try:
            self._disk.truncate(segment_name(segment.number), segment.size_bytes)
        except OSError:
            self._cuts[segment.number] = segment.size_bytes
            return False
        return True

    def _seal_if_full(self) -> None:
        if self._current is not None and self._current.size_bytes >= self._segment_bytes:
            self._seal()

    def _seal(self) -> None:
        """Never write to the current segment again."""
        assert self._current is not None
        self._current.is_sealed = True
        self._contents.has_emptied = True
        self._previous, self._current = self._current, None

    def _writable(self) -> Segment:
        """The segment to append to: the current one, or a new one under a number never used before."""
        if self._current is not None:
            return self._current
        number, self._next_number = self._next_number, self._next_number + 1
        name = segment_name(number)
        try:
            self._disk.create(name)
        except OSError as error:
            self._is_failed = True
            kind = StoreFullError if error.errno in _FULL else StoreError
            raise kind(f"the store can't begin the new segment {name}: {_reason(error)}; check the disk") from error
        self._contents.unlinked.clear()
        ends = dict(self._cuts)
        if self._previous is not None and self._previous.number in self._contents.segments:
            ends[self._previous.number] = self._previous.size_bytes
        self._header = encode_segment_header(number, ends)
        self._current = self._contents.segments[number] = Segment(number, 0, is_sealed=False)
        return self._current


def _reason(error: OSError) -> str:
    """The errno by name and in words."""
    return f"{errno.errorcode.get(error.errno or 0, 'error')} ({error.strerror})"
