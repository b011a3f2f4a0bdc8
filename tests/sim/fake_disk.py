# SPDX-License-Identifier: Apache-2.0
"""A disk that forgets: implements `meshd.store.disk.Disk` in memory and loses whatever was not synced when power fails.

It keeps apart what readers see (the page cache) and what is on the medium. After `crash` an unsynced part of each file
may be there as a prefix torn at any byte, or in arbitrary sectors, and zeros may follow; an unlink not followed by a
create or truncate may be undone. After a failed datasync the data stays readable, is never written, and the next
datasync reports success, as on Linux. Everything it does by chance comes from the random generator it was given.
"""

import errno
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SECTOR_BYTES = 512
AHEAD_BYTES = 2000


class PowerCut(BaseException):
    """Power failed in the middle of a call: call `crash`, and start anew. No handler of errors may catch it."""


class _File:
    """A file as readers see it, as it is on the medium, and the ranges in which the two may differ."""

    def __init__(self) -> None:
        self.cache = bytearray()
        self.medium = bytearray()
        self.dirty: list[tuple[int, int]] = []

    def write_back(self, start: int, end: int) -> None:
        """These bytes reach the medium; what is skipped before them is zeros there."""
        if len(self.medium) < end:
            self.medium.extend(bytes(end - len(self.medium)))
        self.medium[start:end] = self.cache[start:end]

    def cut(self, size_bytes: int) -> None:
        """Shorten it, in the cache and on the medium."""
        del self.cache[size_bytes:]
        del self.medium[size_bytes:]
        self.dirty = [(start, min(end, size_bytes)) for start, end in self.dirty if start < size_bytes]


class FakeDisk:
    """See the module. Attributes set by tests inject faults.

    Attributes:
        capacity_bytes: appends beyond it write what fits and raise ENOSPC.
        fail_datasync_in: 1 makes the next datasync fail with EIO, 2 the one after it, and so on; 0 none.
        fail: name of a call to the errno with which all such calls fail, until it is taken out again.
        power_cut_in: 1 makes power fail during the next call that writes, 2 during the one after it; 0 none.
        syncs: how many datasyncs succeeded.
    """

    def __init__(self, rng: random.Random, capacity_bytes: int = 1 << 40) -> None:
        self._rng = rng
        self._files: dict[str, _File] = {}
        self._unlinked: dict[str, _File] = {}
        self.capacity_bytes = capacity_bytes
        self.fail_datasync_in = 0
        self.fail: dict[str, int] = {}
        self.power_cut_in = 0
        self.syncs = 0
        self._appended = ""

    def names(self) -> list[str]:
        """Names of all files, shuffled."""
        names = sorted(self._files)
        self._rng.shuffle(names)
        return names

    def size_bytes(self, name: str) -> int:
        """Size as readers see it."""
        return len(self._file(name).cache)

    def create(self, name: str) -> None:
        """Make an empty file; durable on return, with every unlink before it."""
        self._raise("create")
        if name in self._files:
            raise _error(errno.EEXIST)
        with self._power():
            self._files[name] = _File()
            self._unlinked.clear()

    def append(self, name: str, buffers: Sequence[bytes | memoryview]) -> None:
        """Write at the end, as far as there is room."""
        self._raise("append")
        file = self._file(name)
        self._appended = name
        data = b"".join(buffers)
        room = max(0, self.free_bytes())
        start = len(file.cache)
        file.cache += data[:room]
        file.dirty.append((start, len(file.cache)))
        with self._power():
            pass
        if room < len(data):
            raise _error(errno.ENOSPC)

    def datasync(self, name: str) -> None:
        """Bring unsynced bytes to the medium, or lose them with EIO when told so."""
        file = self._file(name)
        if self.fail_datasync_in:
            self.fail_datasync_in -= 1
            if not self.fail_datasync_in:
                file.dirty.clear()
                raise _error(errno.EIO)
        with self._power():
            for start, end in file.dirty:
                file.write_back(start, end)
            file.dirty.clear()
        self.syncs += 1

    def read(self, name: str, offset: int, size_bytes: int) -> bytes:
        """Read what the cache has."""
        self._raise("read")
        return bytes(self._file(name).cache[offset : offset + size_bytes])

    def truncate(self, name: str, size_bytes: int) -> None:
        """Shorten it durably, with every unlink before it; does not sync what remains."""
        if name == self._appended:
            self._appended = ""
        self._raise("truncate")
        file = self._file(name)
        with self._power():
            file.cut(size_bytes)
            self._unlinked.clear()

    def unlink(self, name: str) -> None:
        """Remove it; a crash may bring it back."""
        self._raise("unlink")
        file = self._file(name)
        with self._power():
            self._unlinked[name] = file
            del self._files[name]

    def forget_cache(self, name: str) -> None:
        """Unsynced bytes stay in the cache; the others are the same there and on the medium."""
        self._file(name)

    def free_bytes(self) -> int:
        """Capacity left."""
        return self.capacity_bytes - sum(len(file.cache) for file in self._files.values())

    def crash(self) -> None:
        """Power fails: what was not synced is lost, in whole or in part."""
        for name in sorted(self._unlinked):
            if self._rng.random() < 0.5:
                self._files[name] = self._unlinked[name]
        self._unlinked.clear()
        for name in sorted(self._files):
            file = self._files[name]
            self._write_back_some(file)
            file.cache = bytearray(file.medium)
            file.dirty.clear()
        self._leave_zeros()

    def _leave_zeros(self) -> None:
        """The real disk writes zeros ahead of small appends, which a crash leaves behind the data."""
        file = self._files.get(self._appended)
        if file is not None and self._rng.random() < 0.3:
            file.medium.extend(bytes(self._rng.randint(1, AHEAD_BYTES)))
            file.cache = bytearray(file.medium)

    def flip_bit(self, name: str, offset: int) -> None:
        """Damage one bit on the medium."""
        file = self._file(name)
        file.cache[offset] ^= 1 << self._rng.randrange(8)
        file.medium[offset : offset + 1] = file.cache[offset : offset + 1]

    def _write_back_some(self, file: _File) -> None:
        """Which unsynced bytes reached the medium before the power went."""
        if not file.dirty:
            return
        if self._rng.random() < 0.3:
            self._write_back_sectors(file)
            return
        total = sum(end - start for start, end in file.dirty)
        survivors = self._rng.choice((0, total, self._rng.randint(0, total), self._rng.randint(0, total)))
        for start, end in file.dirty:
            length = min(end - start, survivors)
            survivors -= length
            if length:
                file.write_back(start, start + length)

    def _write_back_sectors(self, file: _File) -> None:
        """Sectors are written in any order."""
        for start, end in file.dirty:
            for sector in range(start - start % SECTOR_BYTES, end, SECTOR_BYTES):
                if self._rng.random() < 0.5:
                    file.write_back(max(start, sector), min(end, sector + SECTOR_BYTES))

    def _file(self, name: str) -> _File:
        file = self._files.get(name)
        if file is None:
            raise _error(errno.ENOENT)
        return file

    @contextmanager
    def _power(self) -> Iterator[None]:
        """Around what a call does: power may fail before or after it."""
        fails = self.power_cut_in == 1
        self.power_cut_in = max(0, self.power_cut_in - 1)
        if fails and self._rng.random() < 0.5:
            raise PowerCut
        yield
        if fails:
            raise PowerCut

    def _raise(self, call: str) -> None:
        if call in self.fail:
            raise _error(self.fail[call])


class LyingDisk(FakeDisk):
    """Reports every datasync as done and does none: a store on it loses what it acknowledged."""

    def datasync(self, name: str) -> None:
        """Do nothing."""
        self.syncs += 1


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
