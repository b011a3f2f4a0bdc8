# SPDX-License-Identifier: Apache-2.0
"""The one writer of all archives: durable, bounded, and clear about a disk that does not take more."""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from meshd.base.errors import StoreError
from meshd.daemon.streams.about import About, decode_about, encode_about
from meshd.daemon.streams.archive import Archive
from meshd.daemon.streams.library import WAITING_MAX_BYTES, Library
from meshd.daemon.streams.segment import Kind, Record
from tests.unit.stream.test_announcement import announcement

STREAM = announcement().stream


class Shelf:
    """A library, what it reported, and who was told of what."""

    def __init__(self, folder: Path, quota_bytes: int = 1 << 30) -> None:
        self.quota_bytes = quota_bytes
        self.events: list[str] = []
        self.reasons: list[Any] = []
        self.done: list[bool] = []
        self.library = Library(folder, lambda: self.quota_bytes, self._report)
        self.library.folder.mkdir(exist_ok=True)
        self.archive = self.library.open(STREAM)

    def _report(self, kind: str, fields: Any) -> None:
        self.events.append(kind)
        self.reasons.append(fields.get("reason"))

    def append(self, size_bytes: int, key: int = 0) -> None:
        self.library.append(self.archive, [Record(Kind.PIECE, key, bytes(size_bytes), 5)], self.done.append)


async def test_what_was_written_is_found_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "s")
    shelf.library.save(About(announcement(), None))
    shelf.append(1000, 4)
    assert not shelf.archive.has(1, 0)
    await shelf.library.close()
    assert shelf.done == [True]
    assert shelf.archive.has(1, 0)
    again = Library(tmp_path / "s", lambda: 0, shelf._report)
    ((stream, about),) = again.recover()
    assert (stream, about) == (STREAM, About(announcement(), None))
    assert again.archives[STREAM].has(1, 0)
    assert shelf.events == []


async def test_a_used_up_quota_is_told_once_and_nothing_is_lost(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "s", quota_bytes=5000)
    for key in range(4, 24, 4):
        shelf.append(2000, key)
        await shelf.library.close()
    assert shelf.done == [True, True, False, False, False]
    assert shelf.events == ["stream.alarm"]
    assert "quota" in shelf.reasons[0]
    assert shelf.library.unarchived_pieces == 3
    assert shelf.archive.has(1, 0)
    shelf.quota_bytes = 50_000
    shelf.append(2000, 40)
    await shelf.library.close()
    assert shelf.done[-1]
    assert shelf.events == ["stream.alarm", "stream.archiving"]
    assert shelf.library.problem is None


async def test_a_full_disk_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path / "s")
    shelf.append(1000, 4)
    await shelf.library.close()
    write = Archive.write

    def fails(archive: Archive, records: Sequence[Record]) -> list[int]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Archive, "write", fails)
    shelf.append(1000, 8)
    await shelf.library.close()
    assert shelf.done == [True, False]
    assert "No space left on device" in shelf.reasons[0]
    monkeypatch.setattr(Archive, "write", write)
    shelf.append(1000, 12)
    await shelf.library.close()
    assert shelf.done == [True, False, True]
    assert [shelf.archive.has(sequence, 0) for sequence in (1, 2, 3)] == [True, False, True]


async def test_an_error_that_no_disk_has_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(archive: Archive, records: Sequence[Record]) -> list[int]:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(Archive, "write", fails)
    shelf = Shelf(tmp_path / "s")
    shelf.append(1000)
    with pytest.raises(OSError, match="Bad file descriptor"):
        await shelf.library.close()


def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "s")
    size_bytes = 1 << 20
    for _ in range(WAITING_MAX_BYTES // size_bytes + 3):
        shelf.append(size_bytes)
    assert set(shelf.done) == {False}
    assert "keep up" in shelf.reasons[0]


async def test_the_window_moves_and_the_owner_is_told(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "s")
    shelf.library.windows_ms[STREAM] = 1000
    for number in range(4):
        record = Record(Kind.PIECE, 4 * number, bytes(100), 10_000 + 800 * number)
        shelf.library.append(shelf.archive, [record])
        await shelf.library.close()  # which also ends the segment
    assert [shelf.archive.has(number, 0) for number in range(4)] == [False, False, True, True]
    assert shelf.library.take_moved() == {STREAM}
    assert shelf.library.take_moved() == set()


async def test_what_is_removed_is_gone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "s")
    shelf.append(1000)
    await shelf.library.close()
    shelf.append(1000)
    await shelf.library.remove(STREAM)
    await shelf.library.close()
    assert list((tmp_path / "s").iterdir()) == []


def test_a_folder_without_a_description_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "s" / "0123"
    folder.mkdir(parents=True)
    (folder / "about").write_bytes(b"nonsense")
    shelf = Shelf(tmp_path / "s")
    assert shelf.library.recover() == []
    assert "left alone" in shelf.reasons[0]
    assert (folder / "about").exists()


def test_a_description_survives_and_a_damaged_one_is_refused() -> None:
    about = About(announcement(), None)
    assert decode_about(encode_about(about)) == about
    with pytest.raises(StoreError):
        decode_about(encode_about(about)[:-1])
