# SPDX-License-Identifier: Apache-2.0
"""The hash chain of the audit log: entries, their hashes, the head, and the check of a whole log.

Each row's hash covers its number, the hash of the row before, and its content; the *head* says which row is the newest,
with its hash, and which is the oldest that is kept. It lies in a file of its own, so that a log without its newest rows
is told from a whole one. No key is involved: who may write both the log and the head can make a new chain. Against that
an *anchor* helps, a head that somebody noted elsewhere (`meshctl status` shows it). Disk and time are for others.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshd.base.errors import MeshdError

HASH_SIZE_BYTES: Final = 32
GENESIS: Final = bytes(HASH_SIZE_BYTES)
"""Stands for the row before the first one."""
ENTRY_SIZE_MAX_BYTES: Final = 4096
HEAD_SIZE_MAX_BYTES: Final = 256
PROBLEMS_MAX: Final = 20
"""A broken log is broken; more need not be listed."""
_MAGIC: Final = "meshd-audit 1"
_NUMBER_DIGITS_MAX: Final = 18
_HASH: Final = re.compile(f"[0-9a-f]{{{2 * HASH_SIZE_BYTES}}}")
"""Without the blanks that `bytes.fromhex` passes over."""


class HeadError(MeshdError):
    """A head is torn, edited or none."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A row that is known from elsewhere."""

    number: int
    hash: bytes

    @property
    def text(self) -> str:
        """`17:` and 64 hexadecimal digits."""
        return f"{self.number}:{self.hash.hex()}"


@dataclass(frozen=True, slots=True)
class Head:
    """How far the log goes: its newest row, and the number of the oldest that is kept."""

    newest: Anchor
    first: int


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the log holds it."""

    number: int
    previous: bytes
    content: bytes
    hash: bytes


EMPTY: Final = Head(Anchor(0, GENESIS), 1)
"""Of a log that has never had a row."""


def make_row(before: Anchor, content: bytes) -> Row:
    """The row that comes after `before`."""
    number = before.number + 1
    return Row(number, before.hash, content, hash_of(number, before.hash, content))


def hash_of(number: int, previous: bytes, content: bytes) -> bytes:
    """SHA-256 over a prefix that nothing else has, the number, the hash before, and the content."""
    return hashlib.sha256(_MAGIC.encode() + number.to_bytes(8, "big") + previous + content).digest()


def encode_entry(entry: Mapping[str, Any]) -> bytes:
    """An entry as JSON of at most ENTRY_SIZE_MAX_BYTES; details that do not fit are left out, and it says so."""
    content = _to_json(entry)
    if len(content) > ENTRY_SIZE_MAX_BYTES:
        content = _to_json({**entry, "details": {"left_out_bytes": len(content)}})
    return content


def encode_head(head: Head) -> bytes:
    """One line, which a person can read."""
    return f"{_MAGIC} {head.first} {head.newest.text}\n".encode()


def decode_head_untrusted(data: bytes) -> Head:
    """Errors: HeadError."""
    try:
        magic, version, first, newest = data.decode("ascii").split()
    except ValueError as error:
        raise HeadError("the audit log's head is torn or not ours") from error
    if f"{magic} {version}" != _MAGIC or not _is_number(first):
        raise HeadError("the audit log's head is of another version or damaged")
    anchor = parse_anchor_untrusted(newest)
    if not 1 <= int(first) <= anchor.number + 1:
        raise HeadError("the audit log's head contradicts itself")
    return Head(anchor, int(first))


def parse_anchor_untrusted(text: str) -> Anchor:
    """`17:` and 64 hexadecimal digits. Errors: HeadError."""
    number, colon, digits = text.partition(":")
    if not colon or not _is_number(number) or not _HASH.fullmatch(digits):
        raise HeadError(f"{text[:100]!r} is no head of an audit log: write one such as 17:{'0a' * 3}... as status does")
    return Anchor(int(number), bytes.fromhex(digits))


class ChainCheck:
    """Takes the rows of a log by number and says what is wrong with it."""

    def __init__(self, head: Head | None, anchor: Anchor | None = None) -> None:
        """`head` None: it is lost, which is a problem of its own. `anchor` is a row known from elsewhere."""
        self.problems: list[str] = []
        self.rows = 0
        self.newest: Anchor | None = None
        self._head = head
        self._anchor = anchor
        self._seen_head = head is None or head.newest.number < head.first
        self._seen_anchor = False

    def add(self, row: Row) -> None:
        """The next row."""
        if self.newest is None:
            self._check_first(row)
        elif row.number != self.newest.number + 1:
            self._note(f"rows {self.newest.number + 1} to {row.number - 1} are missing")
        elif row.previous != self.newest.hash:
            self._note(f"row {row.number} does not follow row {self.newest.number}: one of them was replaced")
        if row.hash != hash_of(row.number, row.previous, row.content):
            self._note(f"row {row.number} was changed")
        self.rows += 1
        self.newest = Anchor(row.number, row.hash)
        self._compare(row)

    def finish(self) -> list[str]:
        """That was the last row; what is wrong, in words."""
        if self._head is None:
            self._note("the head is missing or damaged: whether the newest rows are here can't be told")
        elif not self._seen_head:
            last = 0 if self.newest is None else self.newest.number
            self._note(f"the log ends with row {last} and should go on to row {self._head.newest.number}: it was cut")
        if self._anchor is not None and not self._seen_anchor:
            self._note(f"row {self._anchor.number}, which is known from elsewhere, is not here")
        return self.problems

    def _check_first(self, row: Row) -> None:
        first = 1 if self._head is None else self._head.first
        if self._head is not None and row.number > first:
            self._note(f"rows {first} to {row.number - 1} are missing")
        if row.number == 1 and row.previous != GENESIS:
            self._note("row 1 claims to follow another one")

    def _compare(self, row: Row) -> None:
        if self._head is not None and row.number == self._head.newest.number:
            self._seen_head = True
            if row.hash != self._head.newest.hash:
                self._note(f"row {row.number} is not the one that the head names")
        if self._anchor is not None and row.number == self._anchor.number:
            self._seen_anchor = True
            if row.hash != self._anchor.hash:
                self._note(f"row {row.number} is not the one that is known from elsewhere")

    def _note(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


def _to_json(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX
