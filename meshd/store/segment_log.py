# SPDX-License-Identifier: Apache-2.0
"""The durable bundle store: an append-only log in segments (DESIGN section 8).

`commit` takes groups of changes and returns when they are durable; one write and one fdatasync serve them all. A
segment that is full is followed by a new one; a segment whose bundles are all gone is unlinked by `reclaim`, after what
is still needed of its marks and notes was carried on into the newest segment and synced there; `reclaim` also moves
what lives out of segments that are mostly dead. Large bundles come in pieces, into files of their own: `begin_stream`.

After a failed fdatasync nobody knows what is on the disk, and asking again only returns success (Linux has dropped the
dirty pages): the groups in flight fail, the segment is cut off where it was last durable and never written again, and
the next groups go to a new one. When the disk is full, puts are refused while there is still a reserve for deletions,
which is what makes room again.

One thread at a time calls anything but `read`, `read_piece` and `usage`, which any thread may call. Grouping and
threads are left to the writer, quota and precedence to the agent.
"""

import gc
from collections.abc import Sequence
from itertools import repeat
from typing import Final

from meshd.base.errors import StoreError
from meshd.bundle.record import PayloadRef
from meshd.node.commands import WriteStore
from meshd.node.events import StoredRow
from meshd.store.batch import Batch, put_bytes
from meshd.store.bundle_reader import BundleReader
from meshd.store.compaction import MOVE_MAX_BYTES, Compaction, move_bytes
from meshd.store.contents import MARK_BYTES, Contents, Segment
from meshd.store.disk import Disk
from meshd.store.errors import StoreFullError, is_full, reason, remedy, store_error
from meshd.store.file_names import large_name, segment_name
from meshd.store.record_format import encode_segment_header
from meshd.store.recovery import Recovered, Recovery
from meshd.store.relocations import Relocations
from meshd.store.scrub import Scrubber, ScrubReport
from meshd.store.segment_carry import CarriedGroup, what_to_carry
from meshd.store.stream_handle import STREAMS_MAX, StreamHandle
from meshd.store.usage import StoreUsage

SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""A segment this large is followed by a new one; the last group in it may reach beyond."""
CARRY_APART_SHARE: Final = 64
"""Marks that fill more than this part of a segment get a segment of their own: there they stay until they expire. Among
bundles they would be carried on again each time those are gone, and a mark costs as much to copy as a bundle.
"""
CARRY_APART_MIN: Final = 64
"""Fewer never do: beside a segment's own header they would look like something worth carrying on, again and again."""

Rows = list[StoredRow]
"""What became of a group: where its puts lie now, in their order."""


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
        self._relocations = Relocations()
        self._reader = BundleReader(disk, self._contents, self._relocations)
        self._compaction = Compaction(disk, self._contents, min(MOVE_MAX_BYTES, segment_bytes // 16))
        self._scrubber = Scrubber(disk, self._contents)

    @property
    def usage(self) -> StoreUsage:
        """How full the store is."""
        contents = self._contents
        sizes = contents.live_bytes, contents.size_bytes
        return StoreUsage(len(contents.where), *sizes, len(contents.segments), len(self._relocations), self._is_failed)

    @property
    def may_reclaim(self) -> bool:
        """True when a segment lost its last bundle since `reclaim` last found nothing; marks also expire silently."""
        return self._contents.has_emptied

    def is_ready(self, group: WriteStore) -> bool:
        """True: a commit of this group has only to append and sync, and there is room for it."""
        current = self._current
        is_open = current is not None and current.size_bytes < self._segment_bytes and not self._is_failed
        try:
            return is_open and self._disk.free_bytes() >= put_bytes(group) + self._reserve_bytes
        except OSError:
            return False

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
                f"the store can't be read: {reason(error)}; check the disk, or move the store's directory away"
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
        sizes = [put_bytes(group) for group in groups]
        start = 0
        while start < len(groups):
            stop = self._slice_end(sizes, start)
            results += self._commit_slice(groups[start:stop], sum(sizes[start:stop]))
            start = stop
        return results

    def read(self, ref: PayloadRef) -> bytes:
        """The encoded bundle, checked against its CRC.

        Errors:
            StoreError: it is damaged, deleted in the meantime, or the disk failed.
        """
        return self._reader.read(ref)

    def read_piece(self, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        """A part of an encoded bundle, checked; of a large bundle no more than that is read, of others all.

        Errors:
            StoreError: as for `read`.
        """
        return self._reader.read_piece(ref, offset, size_bytes)

    def begin_stream(self, expected_bytes: int = 0) -> StreamHandle:
        """Begin a large bundle that comes in pieces; see stream_handle.

        Args:
            expected_bytes: what is known of its size: refused at once when there is no room for it.

        Errors:
            StoreError: too many are open, or the disk failed; StoreFullError when there is no room.
        """
        contents = self._contents
        if len(contents.unfinished) + len(contents.finished) >= STREAMS_MAX:
            raise StoreError(f"the store takes at most {STREAMS_MAX} large bundles at a time: send it again later")
        self._check_room(expected_bytes)
        number, self._next_number = self._next_number, self._next_number + 1
        return StreamHandle(self._disk, contents, number, self._reserve_bytes)

    def drop_stream(self, ref: PayloadRef) -> None:
        """A finished stream whose record will never be committed: its space is free again."""
        if self._contents.finished.pop(ref.segment, None) is not None:
            self._contents.dead_files.add(ref.segment)
            self._contents.has_emptied = True

    def scrub(self, max_bytes: int) -> ScrubReport:
        """Look for damage in about so many bytes more; see scrub."""
        return self._scrubber.step(max_bytes)

    def reclaim(self, now_ms: int) -> bool:
        """Tidy up a little: unlink the file of a dead large bundle, or a segment whose bundles are all gone, or move
        some bundles out of one that is mostly dead.

        A segment that consists mostly of marks still needed stays until they expire: for each byte carried on at least
        one byte is freed, so that carrying never costs more than was written in the first place.

        Returns:
            True when something was done: call again.

        Errors:
            StoreError: what had to be carried on or moved could not be written; everything is still where it was.
        """
        contents = self._contents
        for number in contents.dead_files:
            self._unlink_large(number)
            return True
        for segment in contents.segments.values():
            if segment.live_count or not segment.is_sealed:
                continue
            if 2 * contents.carry_bytes(segment, now_ms) <= segment.size_bytes:
                self._unlink(segment, now_ms)
                return True
        if self._compact(now_ms):
            return True
        contents.has_emptied = False
        return False

    def _unlink_large(self, number: int) -> None:
        try:
            self._disk.unlink(large_name(number))
        except FileNotFoundError:
            pass  # its creation had failed already
        except OSError as error:
            raise store_error(f"the file {large_name(number)} can't be removed", error) from error
        self._contents.dead_files.discard(number)

    def _compact(self, now_ms: int) -> bool:
        """Move some bundles out of a mostly dead segment, if there is one and there is room."""
        try:
            move = self._compaction.next_move(now_ms)
        except OSError as error:
            self._compaction.give_up()
            raise store_error("a segment that is mostly dead can't be compacted", error) from error
        if move is None:
            return False
        old, records = move
        try:
            has_room = self._disk.free_bytes() >= move_bytes(records) + self._reserve_bytes // 2
        except OSError as error:
            self._compaction.restart()
            raise StoreError(f"the store's disk does not answer: {reason(error)}") from error
        if not has_room:
            self._compaction.restart()
            return False
        places = [self._contents.where[record.id] for record in records]
        try:
            self._seal_if_full()
            segment = self._writable()
            batch = Batch(self._contents, segment, self._offset(segment))
            refs = batch.move(records, old.number)
            self._write(segment, batch)
        except StoreError:
            self._compaction.restart()
            raise
        for before, after in zip(places, refs, strict=True):
            if before != after:
                self._relocations.move(before, after)
        return True

    def _unlink(self, segment: Segment, now_ms: int) -> None:
        """Carry on what is needed, sync it, unlink: in that order a crash finds it in one place at least."""
        try:
            carried = what_to_carry(self._disk, self._contents, segment, now_ms)
            self._carry(carried)
            self._disk.unlink(segment_name(segment.number))
        except OSError as error:
            raise store_error(f"segment {segment_name(segment.number)} can't be removed", error) from error
        self._contents.forget_segment(segment.number)
        self._relocations.forget_segment(segment.number)
        self._cuts.pop(segment.number, None)

    def _carry(self, carried: Sequence[CarriedGroup]) -> None:
        if not carried:
            return
        self._seal_if_full()
        marks = sum(len(group.deletes.ids) + len(group.releases.ids) for group in carried)
        is_apart = marks > self._marks_among_bundles_max
        if is_apart and self._current is not None:
            self._seal()
        segment = self._writable()
        batch = Batch(self._contents, segment, self._offset(segment))
        for group in carried:
            batch.carry(group)
        self._write(segment, batch)
        if is_apart:
            self._seal()

    def _slice_end(self, sizes: Sequence[int], start: int) -> int:
        """How many groups with bundles of these sizes the current segment still takes: at least one."""
        self._seal_if_full()
        room = self._segment_bytes - (0 if self._current is None else self._current.size_bytes)
        for index in range(start, len(sizes)):
            room -= sizes[index]
            if room <= 0:
                return index + 1
        return len(sizes)

    def _commit_slice(self, groups: Sequence[WriteStore], size_bytes: int) -> list[Rows | StoreError]:
        try:
            if size_bytes:
                self._check_room(size_bytes)
            return self._append(groups)
        except StoreFullError as full:
            return self._commit_without_puts(groups, full)
        except StoreError as error:
            return [error] * len(groups)

    def _check_room(self, size_bytes: int) -> None:
        try:
            free_bytes = self._disk.free_bytes()
        except OSError as error:
            raise StoreError(f"the store's disk does not answer: {reason(error)}") from error
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
        if not (buffers := batch.finish()):
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
        if is_full(error) and is_cut:
            return store_error(f"the store's disk is full ({name})", error)
        self._seal()
        self._is_failed = True
        self._scrubber.suspect(segment.number)
        return StoreError(f"the store can't write {name}: {reason(error)}; {remedy(error)}")

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
            raise store_error(f"the store can't begin the new segment {name}", error) from error
        self._contents.unlinked.clear()
        ends = dict(self._cuts)
        if self._previous is not None and self._previous.number in self._contents.segments:
            ends[self._previous.number] = self._previous.size_bytes
        self._header = encode_segment_header(number, ends)
        self._current = self._contents.segments[number] = Segment(number, 0, is_sealed=False)
        return self._current
