# SPDX-License-Identifier: Apache-2.0
"""A large bundle on its way into the store, piece by piece, so that it is never whole in memory.

    handle = log.begin_stream(expected_bytes)
    handle.append(piece)                     # as they come; several streams may take turns with ordinary groups
    ref = handle.finish()                    # durable now, and still unknown to everybody
    log.commit([WriteStore(puts=[record with this ref as payload])])

The bundle is there from that commit on, together with whatever else its group says. A stream that is not finished, or
whose ref is never committed, leaves nothing behind: `abort` or `SegmentLog.drop_stream` removes its file at once, a
start removes it after a crash. All calls come from the thread that commits.
"""

import enum
from typing import Final

from meshd.base.errors import StoreError
from meshd.bundle.record import PayloadRef
from meshd.store.contents import Contents
from meshd.store.disk import Disk
from meshd.store.errors import StoreFullError, store_error
from meshd.store.file_names import large_name
from meshd.store.large_file import BLOCK_BYTES, block_crc
from meshd.store.record_format import encode_segment_header

STREAMS_MAX: Final = 64
"""Streams open at a time, and finished ones that wait for their record."""
SYNC_BYTES: Final = 8 * 1024 * 1024
"""Synced whenever so much is new: the sync at the end is short then, and no other group waits long for this one's."""


class StreamState(enum.Enum):
    """What may be done with a stream."""

    OPEN = "open"
    FINISHED = "finished"
    ABORTED = "aborted"


class StreamHandle:
    """One large bundle; `SegmentLog.begin_stream` makes it.

    Args:
        number: of the file, never used before; it is created here.
        reserve_bytes: free space that is not for bundles.

    Errors:
        StoreError: from any call; the stream is aborted then. StoreFullError when there is no room.
    """

    def __init__(self, disk: Disk, contents: Contents, number: int, reserve_bytes: int) -> None:
        self._disk = disk
        self._contents = contents
        self._number = number
        self._name = large_name(number)
        self._reserve_bytes = reserve_bytes
        self._header = encode_segment_header(number, {})
        self._rest = bytearray()
        self._index = 0
        self._unsynced_bytes = 0
        self.size_bytes = 0
        """Of the bundle, so far."""
        self.state = StreamState.OPEN
        try:
            disk.create(self._name)
            disk.append(self._name, [self._header])
        except OSError as error:
            raise self._failed(error) from error
        contents.unlinked.clear()
        contents.unfinished[number] = 0

    def append(self, piece: bytes | memoryview) -> None:
        """Write what comes next."""
        assert self.state is StreamState.OPEN, "the stream has ended"
        self.size_bytes += len(piece)
        self._rest += piece
        whole = len(self._rest) - len(self._rest) % BLOCK_BYTES
        if whole:
            self._write(whole)

    def finish(self) -> PayloadRef:
        """Make it durable as a whole; where it lies, to be committed with the bundle's record."""
        assert self.state is StreamState.OPEN, "the stream has ended"
        if self._rest:
            self._write(len(self._rest))
        self._sync()
        self.state = StreamState.FINISHED
        del self._contents.unfinished[self._number]
        ref = PayloadRef(self._number, len(self._header), self.size_bytes)
        self._contents.finished[self._number] = ref
        return ref

    def abort(self) -> None:
        """Forget it; its space is free again. A stream that has ended is left as it is."""
        if self.state is StreamState.OPEN:
            self._discard()

    def _write(self, whole: int) -> None:
        """Write blocks of what is there up to `whole`; only the last block of all may be shorter than the others."""
        data = bytes(memoryview(self._rest)[:whole])
        del self._rest[:whole]
        buffers: list[bytes | memoryview] = []
        for start in range(0, whole, BLOCK_BYTES):
            block = data[start : start + BLOCK_BYTES]
            buffers += (block, block_crc(self._number, self._index, block))
            self._index += 1
        try:
            free_bytes = self._disk.free_bytes()
            if free_bytes < whole + self._reserve_bytes:
                self._discard()
                raise StoreFullError(
                    f"a large bundle can't be stored: {free_bytes} bytes are free and {self._reserve_bytes} are kept "
                    "for deletions; free some space, or lower the store's quota"
                )
            self._disk.append(self._name, buffers)
        except OSError as error:
            raise self._failed(error) from error
        self._contents.unfinished[self._number] += whole
        self._unsynced_bytes += whole
        if self._unsynced_bytes >= SYNC_BYTES:
            self._sync()

    def _sync(self) -> None:
        """After a failure nobody knows what of the file is on the disk: all of it is dropped."""
        try:
            self._disk.datasync(self._name)
        except OSError as error:
            raise self._failed(error) from error
        self._unsynced_bytes = 0

    def _failed(self, error: OSError) -> StoreError:
        self._discard()
        return store_error(f"the store can't write {self._name}", error)

    def _discard(self) -> None:
        """The log unlinks the file when it tidies up."""
        self.state = StreamState.ABORTED
        self._rest.clear()
        self._contents.unfinished.pop(self._number, None)
        self._contents.dead_files.add(self._number)
        self._contents.has_emptied = True
