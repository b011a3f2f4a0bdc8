# SPDX-License-Identifier: Apache-2.0
"""The archives of all streams below one folder, their quota, and the one task that writes to the disk for them.

What is handed over is written and synced together a few times a second, in a thread, and counts as archived only then.
When the disk or the quota has no room, pieces are not archived and an alarm says so; live pictures go on, and what has
been archived stays. It is tried again all the time.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import trio

from meshd.base.errors import StoreError
from meshd.daemon.state_file import DIRECTORY_MODE, read_state, write_state
from meshd.daemon.streams.about import ABOUT_FILE, ABOUT_MAX_BYTES, About, decode_about, encode_about
from meshd.daemon.streams.archive import Archive
from meshd.daemon.streams.segment import Record, record_bytes

GATHER_S: Final = 0.2
"""What comes within this time is written together."""
WAITING_MAX_BYTES: Final = 64 * 1024 * 1024
"""For a disk that hangs; pieces beyond are not archived."""
CLIENT_WAITS_BYTES: Final = 8 * 1024 * 1024
LAST_WRITES: Final = 2
"""At the end: what was written may lead to something that has to be kept."""
AFTER_ERROR_S: Final = 2.0
ALARM: Final = "stream.alarm"

Report = Callable[[str, Mapping[str, Any]], None]
_DISK_ERRORS: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT))


class _Job(NamedTuple):
    archive: Archive
    records: Sequence[Record]
    done: Callable[[bool], None] | None
    """Is told whether they are on the disk."""


class Library:
    """Owns the folder."""

    def __init__(self, folder: Path, quota_bytes: Callable[[], int], report: Report) -> None:
        self.folder = folder
        self.archives: dict[bytes, Archive] = {}
        self.windows_ms: dict[bytes, int] = {}
        """How much of a stream is kept; all of it where nothing is said."""
        self._quota_bytes = quota_bytes
        self._report = report
        self._jobs: list[_Job] = []
        self._saves: dict[bytes, bytes] = {}
        self._waiting_bytes = 0
        self._wake = trio.Event()
        self._written = trio.Event()
        self._lock = trio.Lock()
        """Of the files."""
        self.problem: str | None = None
        """Why nothing is archived at present."""
        self.unarchived_pieces = 0
        self._moved: set[bytes] = set()
        """Streams of which old segments went."""

    @property
    def size_bytes(self) -> int:
        """Of all archives."""
        return sum(archive.size_bytes for archive in self.archives.values())

    def recover(self) -> list[tuple[bytes, About]]:
        """Read what is there. Blocks. Errors: OSError: the folder can't be used."""
        self.folder.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        found = []
        for folder in sorted(each for each in self.folder.iterdir() if each.is_dir()):
            data = read_state(folder / ABOUT_FILE, ABOUT_MAX_BYTES)
            try:
                about = decode_about(data or b"")
            except StoreError as error:
                self._report(ALARM, {"reason": f"{folder} is left alone: {error}"})
                continue
            stream = about.announcement.stream
            archive = self.archives[stream] = Archive(stream, folder)
            archive.recover()
            found.append((stream, about))
        return found

    def open(self, stream: bytes) -> Archive:
        """The archive of a stream; a new one is made."""
        archive = self.archives.get(stream)
        if archive is None:
            archive = self.archives[stream] = Archive(stream, self.folder / stream.hex())
        return archive

    def save(self, about: About) -> None:
        """Keep this of a stream, soon."""
        self._saves[about.announcement.stream] = encode_about(about)
        self._wake.set()

    def append(self, archive: Archive, records: Sequence[Record], done: Callable[[bool], None] | None = None) -> None:
        """Archive these, soon."""
        size_bytes = sum(map(record_bytes, records))
        if self._waiting_bytes + size_bytes > WAITING_MAX_BYTES:
            self._trouble("the disk does not keep up", len(records))
            if done is not None:
                done(False)
            return
        self._waiting_bytes += size_bytes
        self._jobs.append(_Job(archive, records, done))
        self._wake.set()

    def take_moved(self) -> set[bytes]:
        """Streams whose window moved since the last call."""
        moved, self._moved = self._moved & self.archives.keys(), set()
        return moved

    async def remove(self, stream: bytes) -> None:
        """Forget a stream and its files. Errors: OSError."""
        async with self._lock:
            archive = self.archives.pop(stream)
            self.windows_ms.pop(stream, None)
            self._saves.pop(stream, None)
            await trio.to_thread.run_sync(archive.remove)

    async def wait_for_room(self) -> None:
        """Until what waits for the disk is little enough for a client to go on."""
        while self._waiting_bytes > CLIENT_WAITS_BYTES:
            await self._written.wait()

    async def run(self) -> None:
        """Write until cancelled; what waits then is written by `close`."""
        while True:
            await self._wake.wait()
            await trio.sleep(GATHER_S)
            self._wake = trio.Event()
            await self._write()
            if self.problem is not None:
                await trio.sleep(AFTER_ERROR_S)

    async def close(self) -> None:
        """Write what waits, and finish the files."""
        for _ in range(LAST_WRITES):
            await self._write()
        async with self._lock:
            for archive in self.archives.values():
                try:
                    await trio.to_thread.run_sync(archive.close)
                except OSError as error:
                    self._trouble(_explain(error), 0)

    async def _write(self) -> None:
        async with self._lock:
            jobs, self._jobs, self._waiting_bytes = self._jobs, [], 0
            saves, self._saves = self._saves, {}
            by_archive: dict[Archive, list[_Job]] = {}
            for job in jobs:
                by_archive.setdefault(job.archive, []).append(job)
            await self._write_saves(saves)
            for archive, mine in by_archive.items():
                await self._write_one(archive, mine)
            await self._move_windows()
            self._written.set()
            self._written = trio.Event()

    async def _write_saves(self, saves: Mapping[bytes, bytes]) -> None:
        for stream, data in saves.items():
            archive = self.archives.get(stream)
            if archive is None:
                continue
            try:
                await trio.to_thread.run_sync(_save, archive.folder, data)
            except OSError as error:
                self._trouble(_explain(error), 0)
                self._saves.setdefault(stream, data)
                self._wake.set()

    async def _write_one(self, archive: Archive, jobs: Sequence[_Job]) -> None:
        records = [record for job in jobs for record in job.records]
        if self.archives.get(archive.stream) is not archive:
            return
        is_written = False
        if self.size_bytes + sum(map(record_bytes, records)) > self._quota_bytes():
            self._trouble("the quota of the archives is used up: raise [streams] quota or remove streams", len(records))
        else:
            try:
                archive.written(records, await trio.to_thread.run_sync(archive.write, records))
                is_written = True
                self._recovered()
            except OSError as error:
                self._trouble(_explain(error), len(records))
        for job in jobs:
            if job.done is not None:
                job.done(is_written)

    async def _move_windows(self) -> None:
        for stream, window_ms in self.windows_ms.items():
            archive = self.archives.get(stream)
            old = [] if archive is None else archive.older_segments(archive.newest_ms - window_ms)
            if archive is None or not old:
                continue
            try:
                archive.dropped(old, await trio.to_thread.run_sync(archive.drop_segments, old))
                self._moved.add(stream)
            except OSError as error:
                self._trouble(_explain(error), 0)

    def _trouble(self, reason: str, pieces: int) -> None:
        self.unarchived_pieces += pieces
        if self.problem != reason:
            self.problem = reason
            text = f"streams are not archived in {self.folder}: {reason}; live pictures go on"
            self._report(ALARM, {"reason": text})

    def _recovered(self) -> None:
        if self.problem is not None:
            self.problem = None
            self._report("stream.archiving", {"unarchived_pieces": self.unarchived_pieces})


def _save(folder: Path, data: bytes) -> None:
    folder.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    write_state(folder / ABOUT_FILE, data)


def _explain(error: OSError) -> str:
    """Of a disk that does not take what it should; any other error is a fault of ours."""
    if error.errno not in _DISK_ERRORS:
        raise error
    return f"{error.strerror} ({errno.errorcode[error.errno]})"
