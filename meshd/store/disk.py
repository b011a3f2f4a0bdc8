# SPDX-License-Identifier: Apache-2.0
"""The seam between the segment log and a disk, so that the log runs unchanged on a disk that loses power.

Only these few calls touch a file system. `tests/sim/fake_disk.py` implements them with a disk that forgets whatever was
not synced and tears the last write; `RealDisk` is the one that the daemon uses. What is in the files is not known here.

A sync of a file that has grown makes the file system commit its journal, which costs several times the sync of data
alone. So behind a small append the real disk writes zeros ahead, and the next ones go over them. Space from
posix_fallocate would not do: turning it into data is an entry in the journal, too. A crash leaves a tail of zeros
behind; a reader has to know where the data ends.
"""

import errno
import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from meshd.base.errors import StoreError
from meshd.store.errors import reason, remedy

LOCK_NAME: Final = "lock"
"""The file whose lock keeps a second daemon out; it is not among the names."""
OPEN_FILES_MAX: Final = 128
"""File descriptors kept open at a time; the least recently used is closed first."""
AHEAD_BYTES: Final = 256 * 1024
"""Zeros are written up to the next multiple of this."""
AHEAD_FOR_MAX_BYTES: Final = 64 * 1024
"""Behind larger appends none are: there the data itself is what takes time."""
_IOV_MAX: Final = min(1024, os.sysconf("SC_IOV_MAX"))
_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


class Disk(Protocol):
    """A flat directory of named append-only files. All calls block; errors are OSError with a named errno."""

    def names(self) -> list[str]:
        """Names of all files, in no order."""

    def size_bytes(self, name: str) -> int:
        """Size of a file as written so far; with zeros behind the last append after a crash."""

    def create(self, name: str) -> None:
        """Make an empty file and make its name durable (directory fsync). FileExistsError if it is there."""

    def append(self, name: str, buffers: Sequence[bytes | memoryview]) -> None:
        """Write all buffers, in order, at the file's end. Not durable before `datasync`.

        After an error an unknown part of them is in the file: `truncate` it away before the next append.
        """

    def datasync(self, name: str) -> None:
        """Make all that was appended to this file durable (fdatasync)."""

    def read(self, name: str, offset: int, size_bytes: int) -> bytes:
        """Read up to `size_bytes` from `offset`; shorter, or with zeros behind, only at the file's end."""

    def truncate(self, name: str, size_bytes: int) -> None:
        """Cut a torn tail off and make that durable."""

    def unlink(self, name: str) -> None:
        """Remove a file; durable at the latest with the next create or truncate."""

    def forget_cache(self, name: str) -> None:
        """Let the next reads of a file come from the medium, as far as that can be asked for."""

    def free_bytes(self) -> int:
        """Space left for an ordinary user."""


class RealDisk:
    """A directory of the file system, for one daemon alone.

    One thread may append, sync, create and unlink while others read: the lock covers reading and the readers' table of
    descriptors, so that none is closed under a reader. The writing thread has a descriptor of its own, outside the lock
    and the table: a sync may take long, and meanwhile readers may push any file out of the table.

    Args:
        directory: made if missing, with mode 0700; its parent has to exist.

    Errors:
        StoreError: the directory can't be used, or another daemon uses it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._files: OrderedDict[str, int] = OrderedDict()
        self._written_name = ""
        self._written_fd = -1
        self._written_bytes = 0
        self._ahead_bytes = 0
        try:
            _make_directory(directory)
            self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(
                f"the store's directory {directory} can't be used: {reason(error)}; "
                f"{remedy(error, 'make it, owned by the daemon user')}"
            ) from error
        self._lock_fd = self._take_lock()

    def _take_lock(self) -> int:
        path = self._directory / LOCK_NAME
        try:
            lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
        except OSError as error:
            os.close(self._directory_fd)
            raise StoreError(
                f"the store's lock {path} can't be opened: {reason(error)}; "
                f"{remedy(error, 'the daemon user has to own the directory')}"
            ) from error
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock_fd)
            os.close(self._directory_fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise StoreError(f"the store's lock {path} can't be taken: {reason(error)}; check the disk") from error
            raise StoreError(
                f"the store {self._directory} is in use by another daemon (lock {path}: {error.strerror}): "
                "stop that one, or give this one another state_dir"
            ) from error
        return lock_fd

    def close(self) -> None:
        """Close all files and release the lock; nothing may be called after that."""
        self._close_written()
        with self._lock:
            while self._files:
                os.close(self._files.popitem()[1])
            os.close(self._lock_fd)
            os.close(self._directory_fd)

    def names(self) -> list[str]:
        """Names of all files but the lock, in no order."""
        return [path.name for path in self._directory.iterdir() if path.name != LOCK_NAME]

    def size_bytes(self, name: str) -> int:
        """Size of a file as written so far; with zeros behind the last append after a crash."""
        if name == self._written_name:
            return self._written_bytes
        return os.stat(name, dir_fd=self._directory_fd, follow_symlinks=False).st_size

    def create(self, name: str) -> None:
        """Make an empty file with mode 0600 and make its name durable."""
        self._close_written()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._written_fd = os.open(name, flags, _FILE_MODE, dir_fd=self._directory_fd)
        self._written_name = name
        self._written_bytes = self._ahead_bytes = 0
        os.fsync(self._directory_fd)

    def append(self, name: str, buffers: Sequence[bytes | memoryview]) -> None:
        """Write all buffers, in order, at the file's end, however many and whatever the kernel takes at a time."""
        fd = self._open_written(name)
        begin = offset = self._written_bytes
        for start in range(0, len(buffers), _IOV_MAX):
            offset = _write_all(fd, buffers[start : start + _IOV_MAX], offset)
        self._written_bytes = offset
        if offset > self._ahead_bytes and offset - begin <= AHEAD_FOR_MAX_BYTES:
            self._ahead_bytes = _write_zeros(fd, offset)

    def datasync(self, name: str) -> None:
        """Make all that was appended to this file durable."""
        os.fdatasync(self._open_written(name))

    def read(self, name: str, offset: int, size_bytes: int) -> bytes:
        """Read up to `size_bytes` from `offset`; shorter, or with zeros behind, only at the file's end."""
        with self._lock:
            fd = self._open(name)
            data = os.pread(fd, size_bytes, offset)
            while 0 < len(data) < size_bytes:
                more = os.pread(fd, size_bytes - len(data), offset + len(data))
                if not more:
                    break
                data += more
        return data

    def truncate(self, name: str, size_bytes: int) -> None:
        """Cut a torn tail off; that, what remains, and earlier unlinks are durable then."""
        fd = self._open_written(name)
        os.ftruncate(fd, size_bytes)
        self._written_bytes = self._ahead_bytes = size_bytes
        os.fsync(fd)
        os.fsync(self._directory_fd)

    def unlink(self, name: str) -> None:
        """Remove a file; durable at the latest with the next create or truncate."""
        if name == self._written_name:
            self._ahead_bytes = 0
            self._close_written()
        with self._lock:
            fd = self._files.pop(name, None)
            if fd is not None:
                os.close(fd)
        os.unlink(name, dir_fd=self._directory_fd)

    def forget_cache(self, name: str) -> None:
        """Let the next reads of a file come from the medium: what is synced leaves the page cache."""
        with self._lock:
            os.posix_fadvise(self._open(name), 0, 0, os.POSIX_FADV_DONTNEED)

    def free_bytes(self) -> int:
        """Space left for an ordinary user."""
        status = os.fstatvfs(self._directory_fd)
        return status.f_bavail * status.f_frsize

    def _open(self, name: str) -> int:
        """A descriptor to read from; call it with the lock held."""
        fd = self._files.get(name)
        if fd is not None:
            self._files.move_to_end(name)
            return fd
        fd = self._files[name] = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._directory_fd)
        if len(self._files) > OPEN_FILES_MAX:
            os.close(self._files.popitem(last=False)[1])
        return fd

    def _open_written(self, name: str) -> int:
        """The descriptor to write to; of the writing thread alone."""
        if name != self._written_name:
            self._close_written()
            self._written_fd = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._directory_fd)
            self._written_name = name
            self._written_bytes = self._ahead_bytes = os.fstat(self._written_fd).st_size
        return self._written_fd

    def _close_written(self) -> None:
        """Before another file is begun, zeros behind the data of this one are cut off for good."""
        fd, self._written_fd, self._written_name = self._written_fd, -1, ""
        if fd < 0:
            return
        try:
            if self._ahead_bytes > self._written_bytes:
                os.ftruncate(fd, self._written_bytes)
                os.fsync(fd)
        finally:
            os.close(fd)


def _make_directory(directory: Path) -> None:
    """Make it and its name durable; nothing where it is there already."""
    try:
        directory.mkdir(mode=_DIRECTORY_MODE)
    except FileExistsError:
        return
    parent_fd = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent_fd)
    finally:
        os.close(parent_fd)


def _write_all(fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
    """Write at most IOV_MAX buffers at `offset`, resuming after a short write; the offset after them."""
    rest: list[bytes | memoryview] = list(buffers)
    while rest:
        written = os.pwritev(fd, rest, offset)
        offset += written
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if written:
            rest[0] = memoryview(rest[0])[written:]
    return offset


def _write_zeros(fd: int, offset: int) -> int:
    """Write zeros from `offset` to the next multiple of AHEAD_BYTES; how far they reach. None where space is short."""
    end = offset + AHEAD_BYTES - offset % AHEAD_BYTES
    try:
        return offset + os.pwrite(fd, bytes(end - offset), offset)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        return offset
