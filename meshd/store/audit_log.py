# SPDX-License-Identifier: Apache-2.0
"""The audit log on the disk: a hash chain in SQLite (WAL, synchronous=FULL), its head in a file beside it.

Rows first, then the head: after a crash between the two the log is longer than its head says, which is in order as long
as the chain holds. The oldest rows go when there are too many, after the head has said so. A log that is damaged or cut
is put aside, never written over, and a new file carries the chain on from the head. All calls block: they are for a
worker thread, one at a time; any number of others may read and verify meanwhile. What entries mean is for others.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from meshd.base.errors import AuditError
from meshd.security.audit_chain import (
    EMPTY,
    HEAD_SIZE_MAX_BYTES,
    Anchor,
    ChainCheck,
    Head,
    HeadError,
    Row,
    decode_head_untrusted,
    encode_head,
    make_row,
)

DATABASE: Final = "audit.db"
HEAD_FILE: Final = "audit.head"
ROWS_KEPT_MAX: Final = 50_000
ASIDE_MAX: Final = 8
"""Damaged logs that are kept."""
BUSY_TIMEOUT_S: Final = 5.0
SNAPSHOTS_MAX: Final = 5
"""Attempts to see head and rows of a log that is being written together."""
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS entries"
    " (number INTEGER PRIMARY KEY, previous BLOB NOT NULL, content BLOB NOT NULL, hash BLOB NOT NULL)"
)
_SELECT: Final = "SELECT number, previous, content, hash FROM entries"


class WriteFile(Protocol):
    """Replaces a small file, durable on return. Errors: OSError."""

    def __call__(self, path: Path, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of the whole log found; it is good when there are no problems."""

    rows: int
    newest: Anchor | None
    problems: list[str]

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        newest = None if self.newest is None else self.newest.text
        return {"good": not self.problems, "rows": self.rows, "head": newest, "problems": self.problems}


class AuditLog:
    """Appends to the log of one directory. It is opened by its first use, and again after an error."""

    def __init__(self, directory: Path, write_file: WriteFile, rows_kept_max: int = ROWS_KEPT_MAX) -> None:
        """Do nothing yet."""
        self.head: Head | None = None
        """None until the log was opened."""
        self._path = directory / DATABASE
        self._head_path = directory / HEAD_FILE
        self._write_file = write_file
        self._rows_kept_max = rows_kept_max
        self._database: sqlite3.Connection | None = None

    def open(self) -> list[str]:
        """Check the whole log, and put it aside if it is not in order. Returns what is wrong, in words.

        Errors: AuditError when nothing can be written.
        """
        try:
            return self._open()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise AuditError(f"the audit log {self._path} can't be opened: {_reason(error)}") from error

    def append(self, contents: Sequence[bytes]) -> list[str]:
        """Durable on return, all or none. Returns what was wrong with the log, if it had to be opened for this.

        Errors: AuditError; the rows may be there even so, and the chain holds.
        """
        try:
            problems = self._open() if self._database is None else []
            self._append(contents)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise AuditError(f"the audit log {self._path} can't be written: {_reason(error)}") from error
        return problems

    def close(self) -> None:
        """May be called again."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _open(self) -> list[str]:
        head = self._known_head()
        problems = []
        if self._head_path.exists() or self._path.exists():
            known = None if self.head is None or self.head.newest.number < self.head.first else self.head.newest
            verdict = verify_file(self._path, known)
            problems, tail = verdict.problems, verdict.newest
            if not problems and tail is not None and head is not None:
                head = Head(tail, head.first)
            if problems:
                head = _begin_after(max((head or EMPTY).newest, tail or EMPTY.newest, key=lambda each: each.number))
                self._put_aside()
        self.head = head or EMPTY
        self._database = _connect(self._path)
        self._database.execute(_SCHEMA)
        self._write_head(self.head)
        return problems

    def _append(self, contents: Sequence[bytes]) -> None:
        database, head = self._database, self.head
        assert database is not None, "it is open"
        assert head is not None, "it is open"
        newest, rows = head.newest, []
        for content in contents:
            rows.append(make_row(newest, content))
            newest = Anchor(rows[-1].number, rows[-1].hash)
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany(
                "INSERT INTO entries VALUES (?, ?, ?, ?)",
                [(row.number, row.previous, row.content, row.hash) for row in rows],
            )
            database.execute("COMMIT")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        first = head.first
        if newest.number - first >= self._rows_kept_max + self._rows_kept_max // 10:
            first = newest.number - self._rows_kept_max + 1
        self._write_head(Head(newest, first))
        if first != head.first:
            database.execute("DELETE FROM entries WHERE number < ?", (first,))

    def _known_head(self) -> Head | None:
        """Of this run; or from the file, if it is in order."""
        if self.head is not None:
            return self.head
        try:
            return read_head(self._head_path)
        except HeadError:
            return None

    def _write_head(self, head: Head) -> None:
        self.head = head
        self._write_file(self._head_path, encode_head(head))

    def _put_aside(self) -> None:
        """The damaged log keeps its contents under another name."""
        places = [self._path.with_name(f"{self._path.name}.damaged-{number}") for number in range(1, ASIDE_MAX + 1)]
        place = next((each for each in places if not each.exists()), places[-1])
        for suffix in ("", "-wal", "-shm"):
            source = self._path.with_name(self._path.name + suffix)
            if source.exists():
                source.replace(place.with_name(place.name + suffix))


def read_head(path: Path) -> Head | None:
    """None: there is no such file. Errors: HeadError, OSError."""
    try:
        with path.open("rb") as file:
            return decode_head_untrusted(file.read(HEAD_SIZE_MAX_BYTES))
    except FileNotFoundError:
        return None


def verify_file(path: Path, anchor: Anchor | None = None) -> Verdict:
    """Check a log from its first row to its last against its head, also while it is written.

    Errors: AuditError: it can't be read.
    """
    try:
        head = _head_or_none(path)
        check = _check_file(path, head, anchor)
        for _ in range(SNAPSHOTS_MAX):
            after = _head_or_none(path)
            if head is None or after is None or head.first == after.first:
                break
            # Rows that went between the look at the head and the look at the rows are no loss.
            head, check = after, _check_file(path, after, anchor)
    except (sqlite3.Error, OSError) as error:
        raise AuditError(f"the audit log {path} can't be read: {_reason(error)}") from error
    return Verdict(check.rows, check.newest, check.finish())


def _check_file(path: Path, head: Head | None, anchor: Anchor | None) -> ChainCheck:
    check = ChainCheck(head, anchor)
    if not path.exists():
        return check
    try:
        with closing(_read_only(path)) as database:
            for values in database.execute(f"{_SELECT} ORDER BY number") if _has_table(database) else ():
                check.add(_row(values))
    except sqlite3.OperationalError:
        raise
    except (sqlite3.DatabaseError, TypeError) as error:
        check.problems.append(f"the file is damaged: {error}")
    return check


def read_rows(path: Path, before: int | None) -> Iterator[Row]:
    """Rows from the newest one back, those below the number `before`. Errors: AuditError."""
    limit = (1 << 63) - 1 if before is None else before
    try:
        with closing(_read_only(path)) as database:
            for values in database.execute(f"{_SELECT} WHERE number < ? ORDER BY number DESC", (limit,)):
                yield _row(values)
    except (sqlite3.Error, TypeError) as error:
        raise AuditError(f"the audit log {path} can't be read: {_reason(error)}") from error


def _head_or_none(path: Path) -> Head | None:
    try:
        return read_head(path.with_suffix(Path(HEAD_FILE).suffix))
    except HeadError:
        return None


def _row(values: tuple[object, ...]) -> Row:
    """Errors: TypeError: somebody has put something else there."""
    number, previous, content, found = values
    if not (
        isinstance(number, int)
        and isinstance(previous, bytes)
        and isinstance(content, bytes)
        and isinstance(found, bytes)
        and 0 < number < 1 << 63
    ):
        raise TypeError(f"row {number!r} has values of another type")
    return Row(number, previous, content, found)


def _begin_after(newest: Anchor) -> Head:
    return Head(newest, newest.number + 1)


def _has_table(database: sqlite3.Connection) -> bool:
    """A crash while the file was made can have left it without."""
    return bool(database.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchall())


def _connect(path: Path) -> sqlite3.Connection:
    # Worker threads change; they come one at a time.
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    path.chmod(0o600)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    return database


def _read_only(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri() + "?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
