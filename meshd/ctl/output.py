# SPDX-License-Identifier: Apache-2.0
"""What meshctl writes: data to stdout, chatter to stderr; text for people, or with --json one object a line.

Text from the network is cleaned of control characters before it reaches a terminal. `rich` makes tables and the
progress bar, and is imported only when a terminal is there to see them; without it, or without a terminal, the text
is plain and aligned.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO

from meshd.base.errors import MeshdError

if TYPE_CHECKING:
    from meshd.client.transfer import Progress

NOTHING: Final = "-"
"""Stands for a value that is not there."""


class Output:
    """The two streams of one run of meshctl."""

    def __init__(self, *, as_json: bool, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        """Write to the process's own streams unless told otherwise."""
        self.as_json = as_json
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr

    def data(self, value: Any) -> None:
        """Write one JSON object as one line, at once."""
        self._stdout.write(json.dumps(value, default=_json_value) + "\n")
        self._stdout.flush()

    def line(self, text: str) -> None:
        """Write text, at once."""
        self._stdout.write("\n".join(map(printable, text.split("\n"))) + "\n")
        self._stdout.flush()

    def answer(self, value: Any, text: str) -> None:
        """Write a reply of one line: the text for people, the value as JSON."""
        if self.as_json:
            self.data(value)
        else:
            self.line(text)

    def chatter(self, text: str) -> None:
        """Say something that is not the data."""
        self._stderr.write(f"{printable(text)}\n")
        self._stderr.flush()

    def error(self, error: MeshdError, name: str) -> None:
        """Say why the command failed: a line, or as many as there are problems; with --json one object."""
        if self.as_json:
            code = getattr(error, "code", 0)
            self._stderr.write(json.dumps({"error": {"name": name, "code": code, "message": str(error)}}) + "\n")
        else:
            for line in f"meshctl: {error}".split("\n"):
                self.chatter(line)

    def pairs(self, rows: Sequence[tuple[str, Any]]) -> None:
        """Write names and values in two columns."""
        width = max(len(name) for name, _ in rows)
        self.line("\n".join(f"{name:<{width}}  {cell(value)}" for name, value in rows))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table; columns of numbers are set to the right."""
        cells = [[cell(value) for value in row] for row in rows]
        right = [_is_numeric(rows, index) for index in range(len(columns))]
        if not (self._stdout.isatty() and _rich_table(self._stdout, columns, cells, right)):
            self.line("\n".join(_plain_table(columns, cells, right)))

    @contextmanager
    def progress(self, label: str) -> "Iterator[Progress | None]":
        """Give a callable that shows how far a transfer is, None when nobody would see it."""
        if not self._stderr.isatty():
            yield None
            return
        try:
            from meshd.ctl.progress import rich_progress
        except ImportError:
            yield self._plain_progress
            self._stderr.write("\n")
            return
        with rich_progress(printable(label)) as callback:
            yield callback

    def _plain_progress(self, done_bytes: int, total_bytes: int | None) -> None:
        total = NOTHING if total_bytes is None else size(total_bytes)
        self._stderr.write(f"\r{size(done_bytes)} of {total}   ")
        self._stderr.flush()


def printable(text: str) -> str:
    """Replace control characters: nothing that a message says may steer the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def cell(value: Any) -> str:
    """Text of one value for people."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def size(size_bytes: int | None) -> str:
    """`1.5 MiB`."""
    from meshd.base.units import render_size_bytes

    return NOTHING if size_bytes is None else render_size_bytes(size_bytes)


def duration(seconds: float | None) -> str:
    """`3.5 min`."""
    from meshd.base.units import render_duration_ms

    return NOTHING if seconds is None else render_duration_ms(max(0, round(seconds)) * 1000)


def instant(time_ms: int | None) -> str:
    """`2026-01-02T03:04:05Z`."""
    if time_ms is None:
        return NOTHING
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ms / 1000))
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"


def _is_numeric(rows: Sequence[Sequence[Any]], index: int) -> bool:
    return bool(rows) and all(isinstance(row[index], int | float) for row in rows if row[index] is not None)


def _plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]) -> Iterator[str]:
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    for row in [columns, *cells]:
        texts = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        ]
        yield "  ".join(texts).rstrip()


def _rich_table(stdout: TextIO, columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]) -> bool:
    """Write the table with rich; False when rich is not installed, or would have to break words to fit."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    console = Console(file=stdout)
    if max(map(len, _plain_table(columns, cells, right))) > console.width:
        return False
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, to_right in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if to_right else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)
    return True


def _json_value(value: Any) -> str:
    """Bytes are the only thing that msgpack carries and JSON does not."""
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(type(value).__name__)
