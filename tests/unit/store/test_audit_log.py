# SPDX-License-Identifier: Apache-2.0
"""The audit log on the disk: crashes, full disks, tampering, rotation, and readers beside the writer."""

import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from meshd.base.errors import AuditError
from meshd.security.audit_chain import EMPTY, Anchor
from meshd.store.audit_log import DATABASE, HEAD_FILE, AuditLog, read_head, read_rows, verify_file


def write(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.replace(path)


def no_room(path: Path, data: bytes) -> None:
    raise OSError(28, "No space left on device")


class Disk:
    """A log in a directory, and what an intruder does to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / DATABASE
        self.head_path = directory / HEAD_FILE

    def log(self, kept: int = 1000) -> AuditLog:
        return AuditLog(self.directory, write, kept)

    def filled(self, rows: int = 5) -> None:
        log = self.log()
        log.append([b"entry %d" % number for number in range(1, rows + 1)])
        log.close()

    def sql(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            for statement in statements:
                database.execute(statement)

    def contents(self) -> list[bytes]:
        return [row.content for row in read_rows(self.path, None)][::-1]

    def problems(self) -> str:
        return "; ".join(verify_file(self.path).problems)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_entries_come_back_in_order_after_a_restart(disk: Disk) -> None:
    disk.filled()
    again = disk.log()
    assert again.open() == []
    again.append([b"entry 6"])
    verdict = verify_file(disk.path)
    assert verdict.problems == []
    assert verdict.rows == 6
    assert again.head is not None
    assert verdict.newest == again.head.newest
    assert disk.contents() == [b"entry %d" % number for number in range(1, 7)]
    assert [row.number for row in read_rows(disk.path, 3)] == [2, 1]
    again.close()


def test_every_commit_is_synced_and_nobody_else_reads_it(disk: Disk) -> None:
    log = disk.log()
    log.append([b"x"])
    database = log._database
    assert database is not None
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert disk.path.stat().st_mode & 0o777 == 0o600
    log.close()


def test_a_new_log_is_empty_and_good(disk: Disk) -> None:
    log = disk.log()
    assert log.open() == []
    assert log.head == EMPTY
    assert verify_file(disk.path).problems == []
    log.close()


def test_a_crash_between_row_and_head(disk: Disk) -> None:
    disk.filled(4)
    older = disk.head_path.read_bytes()
    log = disk.log()
    log.append([b"entry 5"])
    log.close()
    disk.head_path.write_bytes(older)
    assert disk.problems() == ""
    again = disk.log()
    assert again.open() == []
    again.append([b"entry 6"])
    assert verify_file(disk.path).rows == 6
    assert disk.problems() == ""
    again.close()


def test_a_crash_before_the_table_was_made(disk: Disk) -> None:
    disk.path.touch()
    log = disk.log()
    assert "head is missing" in log.open()[0]  # for all that the file tells
    log.append([b"x"])
    assert disk.problems() == ""
    log.close()


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        (["UPDATE entries SET content = x'00' WHERE number = 2"], "row 2 was changed"),
        (["UPDATE entries SET hash = zeroblob(32) WHERE number = 5"], "row 5"),
        (["DELETE FROM entries WHERE number = 3"], "rows 3 to 3 are missing"),
        (["DELETE FROM entries WHERE number = 1"], "rows 1 to 1 are missing"),
        (["DELETE FROM entries WHERE number > 3"], "ends with row 3 and should go on to row 5"),
        (["DELETE FROM entries"], "ends with row 0"),
        (["DROP TABLE entries"], "ends with row 0"),
        (["UPDATE entries SET content = 'text' WHERE number = 2"], "damaged"),
        (
            [
                "UPDATE entries SET number = 9 WHERE number = 2",
                "UPDATE entries SET number = 2 WHERE number = 3",
                "UPDATE entries SET number = 3 WHERE number = 9",
            ],
            "row 2 does not follow row 1",
        ),
    ],
    ids=["edit", "hash", "delete", "oldest", "cut", "emptied", "dropped", "type", "order"],
)
def test_tampering_is_found_put_aside_and_the_chain_goes_on(disk: Disk, statements: list[str], what: str) -> None:
    disk.filled()
    before = read_head(disk.head_path)
    disk.sql(*statements)
    assert what in disk.problems()
    log = disk.log()
    assert what in "; ".join(log.open())
    log.append([b"after"])
    (row,) = read_rows(disk.path, None)
    assert before is not None
    assert (row.number, row.previous) == (6, before.newest.hash)
    assert disk.problems() == ""
    assert disk.path.with_name(f"{DATABASE}.damaged-1").exists()
    log.close()


def test_a_file_that_is_no_database(disk: Disk) -> None:
    disk.filled()
    disk.path.write_bytes(b"rubbish" * 1000)
    assert "the file is damaged" in disk.problems()
    log = disk.log()
    assert log.open()
    log.append([b"x"])
    assert disk.problems() == ""
    log.close()


def test_a_log_that_is_gone(disk: Disk) -> None:
    disk.filled()
    for each in disk.directory.glob(f"{DATABASE}*"):
        each.unlink()
    assert "ends with row 0 and should go on to row 5" in disk.problems()
    log = disk.log()
    assert log.open()
    log.close()


def test_a_lost_head_is_found(disk: Disk) -> None:
    disk.filled()
    disk.head_path.write_bytes(b"rubbish")
    assert "head is missing or damaged" in disk.problems()
    log = disk.log()
    assert log.open()
    log.append([b"x"])
    (row,) = read_rows(disk.path, None)
    assert row.number == 6
    log.close()


def test_log_and_head_set_back_together_while_it_runs(disk: Disk) -> None:
    """What only the memory of the daemon, or a head that was noted, can tell."""
    log = disk.log()
    log.append([b"1", b"2"])
    older = disk.head_path.read_bytes()
    log.append([b"3"])
    assert log.head is not None
    noted = log.head.newest
    log.close()
    disk.sql("DELETE FROM entries WHERE number = 3")
    disk.head_path.write_bytes(older)
    assert disk.problems() == ""
    assert "row 3, which is known from elsewhere" in verify_file(disk.path, noted).problems[0]
    assert "row 3, which is known from elsewhere" in log.open()[0]
    log.close()


def test_the_oldest_entries_go_and_the_chain_holds(disk: Disk) -> None:
    log = disk.log(kept=20)
    for number in range(1, 101):
        log.append([b"entry %d" % number])
        assert verify_file(disk.path).problems == []
        assert verify_file(disk.path).rows <= 22
    assert disk.contents()[-1] == b"entry 100"
    log.close()
    assert disk.log(kept=20).open() == []
    oldest = min(row.number for row in read_rows(disk.path, None))
    disk.sql(f"DELETE FROM entries WHERE number = {oldest}")
    assert f"rows {oldest} to {oldest} are missing" in disk.problems()


def test_a_crash_before_the_oldest_entries_went(disk: Disk) -> None:
    disk.filled(5)
    head = read_head(disk.head_path)
    assert head is not None
    disk.head_path.write_bytes(f"meshd-audit 1 3 {head.newest.text}\n".encode())
    assert disk.problems() == ""


def test_a_full_disk_takes_nothing_and_later_goes_on(disk: Disk) -> None:
    log = disk.log()
    log.append([b"first"])
    assert log._database is not None
    log._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(AuditError, match="full"):
        log.append([b"x" * 4000] * 50)
    log.append([b"second"])
    assert disk.contents() == [b"first", b"second"]
    assert disk.problems() == ""
    log.close()


def test_a_head_that_can_not_be_written_is_an_error_and_the_row_stays(disk: Disk) -> None:
    log = disk.log()
    log.append([b"first"])
    log._write_file = no_room
    with pytest.raises(AuditError, match="No space left"):
        log.append([b"second"])
    assert disk.problems() == ""
    log._write_file = write
    log.append([b"third"])
    assert disk.contents() == [b"first", b"second", b"third"]
    assert disk.problems() == ""
    log.close()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    log = Disk(tmp_path / "missing").log()
    with pytest.raises(AuditError, match="can't be opened"):
        log.open()
    with pytest.raises(AuditError, match="can't be written"):
        log.append([b"x"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=True)
    try:
        yield Disk(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.root
def test_a_disk_that_is_really_full(small_disk: Disk) -> None:
    log = small_disk.log()
    log.append([b"before"])
    filler = small_disk.directory / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(512 * 1024))
    with pytest.raises(AuditError):
        log.append([b"x" * 4000] * 20)
    filler.unlink()
    log.append([b"after"])
    assert small_disk.contents() == [b"before", b"after"]
    assert small_disk.problems() == ""
    log.close()


def test_others_verify_while_it_is_written_and_rows_go(disk: Disk) -> None:
    log = disk.log(kept=30)
    log.append([b"first"])
    stop, found = threading.Event(), list[str]()

    def verify() -> None:
        while not stop.is_set():
            found.extend(verify_file(disk.path).problems)

    threads = [threading.Thread(target=verify) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(300):
        log.append([b"entry %d" % number])
    stop.set()
    for thread in threads:
        thread.join()
    assert found == []
    log.close()


def test_a_noted_head_is_looked_for(disk: Disk) -> None:
    disk.filled()
    third = next(row for row in read_rows(disk.path, 4))
    assert verify_file(disk.path, Anchor(3, third.hash)).problems == []
    assert "row 3 is not the one" in verify_file(disk.path, Anchor(3, bytes(32))).problems[0]
