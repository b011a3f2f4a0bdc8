# SPDX-License-Identifier: Apache-2.0
"""RealDisk on a directory of the file system."""

import errno
import os
import stat
from pathlib import Path

import pytest

from meshd.base.errors import StoreError
from meshd.store import disk as disk_module
from meshd.store.disk import AHEAD_BYTES, LOCK_NAME, RealDisk
from tests.unit.store.store_samples import real_disk


def content(disk: RealDisk, name: str) -> bytes:
    """Without what was written ahead."""
    return disk.read(name, 0, disk.size_bytes(name))


def test_appends_follow_each_other(tmp_path: Path) -> None:
    """Buffers of all kinds come out in order, also when there are more than one writev takes."""
    disk = real_disk(tmp_path)
    disk.create("a")
    many = [b"%05d" % number for number in range(3000)]
    disk.append("a", many)
    disk.append("a", [memoryview(b"xyz")[1:], b"", b"end"])
    disk.datasync("a")
    expected = b"".join(many) + b"yzend"
    assert disk.size_bytes("a") == len(expected)
    assert content(disk, "a") == expected
    assert disk.read("a", 15001, 4) == b"zend"
    disk.close()


def test_a_short_write_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may take any part of what it is given."""
    whole = os.pwritev

    def short(fd: int, buffers: list[bytes | memoryview], offset: int) -> int:
        return whole(fd, [b"".join(buffers)[:7]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    disk = real_disk(tmp_path)
    disk.create("a")
    disk.append("a", [b"0123456789", b"", b"abc", b"defghijkl"])
    assert content(disk, "a") == b"0123456789abcdefghijkl"
    disk.close()


def test_truncate_and_unlink(tmp_path: Path) -> None:
    """After a cut the next append follows the cut."""
    disk = real_disk(tmp_path)
    disk.create("a")
    disk.append("a", [b"0123456789"])
    disk.truncate("a", 4)
    disk.append("a", [b"x"])
    assert content(disk, "a") == b"0123x"
    disk.unlink("a")
    assert disk.names() == []
    with pytest.raises(FileNotFoundError):
        disk.read("a", 0, 1)
    disk.close()


def test_create_refuses_an_existing_file(tmp_path: Path) -> None:
    """A segment is never overwritten."""
    disk = real_disk(tmp_path)
    disk.create("a")
    with pytest.raises(FileExistsError):
        disk.create("a")
    disk.close()


def test_files_are_private(tmp_path: Path) -> None:
    """Only the daemon's user may read bundles."""
    old = os.umask(0)
    try:
        disk = real_disk(tmp_path)
        disk.create("a")
    finally:
        os.umask(old)
    directory = tmp_path / "store"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE((directory / name).stat().st_mode) for name in ("a", LOCK_NAME)} == {0o600}
    assert disk.names() == ["a"]
    disk.close()


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    """The error names the path and what to do; after the first has gone the store is free."""
    first = real_disk(tmp_path)
    with pytest.raises(StoreError, match=rf"{tmp_path / 'store'} is in use by another daemon.*another state_dir"):
        real_disk(tmp_path)
    first.close()
    real_disk(tmp_path).close()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """The parent is missing: the error says which directory."""
    with pytest.raises(StoreError, match=r"none/store can't be used: ENOENT \(No such file or directory\); make it"):
        RealDisk(tmp_path / "none" / "store")


def test_a_new_directory_has_a_durable_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent is synced when it is made, and not again."""
    synced: list[Path] = []
    whole = os.fsync

    def note(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        whole(fd)

    monkeypatch.setattr(os, "fsync", note)
    real_disk(tmp_path).close()
    assert synced == [tmp_path]
    real_disk(tmp_path).close()
    assert synced == [tmp_path]


def test_a_read_only_file_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not taken for a wrong owner, nor for another daemon."""
    whole = os.open

    def refuse_to_write(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return whole(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse_to_write)
    with pytest.raises(StoreError, match=r"lock can't be opened: EROFS .* mounted read-only: remount it writable"):
        real_disk(tmp_path)


def test_descriptors_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than descriptors: all stay usable."""
    monkeypatch.setattr(disk_module, "OPEN_FILES_MAX", 3)
    disk = real_disk(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(10):
        disk.create(str(number))
        disk.append(str(number), [b"%d" % number])
    assert [content(disk, str(number)) for number in range(10)] == [b"%d" % number for number in range(10)]
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 4
    disk.close()


def test_readers_do_not_close_the_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files are read in the middle of a write, its bytes go where they belong."""
    monkeypatch.setattr(disk_module, "OPEN_FILES_MAX", 2)
    whole = os.pwritev
    disk = real_disk(tmp_path)
    for number in range(5):
        disk.create(str(number))
    disk.create("a")
    disk.append("a", [b"first"])
    assert content(disk, "a") == b"first"

    def write_while_others_read(fd: int, buffers: list[bytes | memoryview], offset: int) -> int:
        assert [disk.read(str(number), 0, 10) for number in range(5)] == [b""] * 5
        return whole(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", write_while_others_read)
    disk.append("a", [b"second"])
    assert content(disk, "a") == b"firstsecond"
    disk.close()


def test_small_appends_go_over_zeros_written_ahead(tmp_path: Path) -> None:
    """So that a sync finds the file no larger than before; a large append ends where its data ends."""
    disk = real_disk(tmp_path)
    path = tmp_path / "store" / "a"
    disk.create("a")
    disk.append("a", [b"x" * 100])
    assert path.stat().st_size == AHEAD_BYTES
    disk.append("a", [b"y" * 100])
    assert path.stat().st_size == AHEAD_BYTES
    assert path.read_bytes() == (b"x" * 100 + b"y" * 100).ljust(AHEAD_BYTES, b"\0")
    disk.append("a", [bytes(AHEAD_BYTES)])
    assert path.stat().st_size == AHEAD_BYTES + 200 == disk.size_bytes("a")
    disk.append("a", [b"z"])
    assert path.stat().st_size == 2 * AHEAD_BYTES
    disk.close()


def test_the_next_file_begins_when_the_zeros_behind_the_last_are_gone(tmp_path: Path) -> None:
    disk = real_disk(tmp_path)
    disk.create("a")
    disk.append("a", [b"x"])
    disk.create("b")
    assert (tmp_path / "store" / "a").stat().st_size == 1
    disk.append("a", [b"y"])
    assert content(disk, "a") == b"xy"
    disk.close()


def test_where_space_is_short_nothing_is_written_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    disk = real_disk(tmp_path)
    disk.create("a")
    disk.append("a", [b"x"])
    assert (tmp_path / "store" / "a").stat().st_size == 1
    disk.close()


def test_free_space_is_that_of_the_file_system(tmp_path: Path) -> None:
    """It is what an ordinary user may still write."""
    disk = real_disk(tmp_path)
    status = os.statvfs(tmp_path)
    assert 0 < disk.free_bytes() <= status.f_blocks * status.f_frsize
    disk.close()
