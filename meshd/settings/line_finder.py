# SPDX-License-Identifier: Apache-2.0
"""On which line of a TOML text does each key stand? `tomllib` reads values and forgets where they were.

Walks the text once, statement by statement, and knows of TOML just what decides where a key begins: comments, the four
kinds of strings, brackets, dotted keys, tables, arrays of tables and inline tables. It reads only what `tomllib` has
accepted before, so it need not judge; what a value means is `tomllib`'s business.
"""

import json
import re
from typing import Final

KeyPath = tuple[str | int, ...]
"""Such as `("bearer", 0, "rate")`: names, and positions in arrays counted from 0."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_LITERAL_KEY: Final = re.compile(r"'([^'\n]*)'")
_BASIC_KEY: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_STRING: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!"")|""(?!"))*"{3,5}'
    r"|'''(?:[^']|'(?!'')|''(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")
_LONG_ESCAPE: Final = re.compile(r"\\U([0-9A-Fa-f]{8})")


def find_lines(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of every table and every key of a valid TOML text; elements of arrays included."""
    finder = _Finder(text)
    finder.read_document()
    return finder.lines


class _Finder:
    """One walk through a text."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {(): 1}
        self._text = text
        self._pos = 0
        self._line = 1
        self._table_counts: dict[KeyPath, int] = {}

    def read_document(self) -> None:
        """All statements of the text."""
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._pos < len(self._text):
            if self._text[self._pos] == "[":
                table = self._read_header()
            else:
                self._read_pair(table)
            self._skip(_BLANK)

    def _read_header(self) -> KeyPath:
        is_array = self._text.startswith("[[", self._pos)
        brackets = 2 if is_array else 1
        line = self._line
        self._pos += brackets
        names = self._read_names()
        self._pos += brackets
        parent = self._resolve(names[:-1])
        path: KeyPath = (*parent, names[-1])
        if is_array:
            self.lines.setdefault(path, line)
            count = self._table_counts.get(path, 0)
            self._table_counts[path] = count + 1
            path = (*path, count)
        else:
            path = self._resolve(names)
        self._note(path, line)
        return path

    def _resolve(self, names: list[str]) -> KeyPath:
        """Names of a header, each array of tables standing for its last element so far."""
        path: KeyPath = ()
        for name in names:
            path = (*path, name)
            count = self._table_counts.get(path)
            if count is not None:
                path = (*path, count - 1)
        return path

    def _read_pair(self, table: KeyPath) -> None:
        line = self._line
        path = (*table, *self._read_names())
        self._note(path, line)
        self._pos += 1  # the equals sign
        self._skip(_SPACE)
        self._read_value(path)

    def _read_value(self, path: KeyPath) -> None:
        first = self._text[self._pos]
        if first == "[":
            self._read_array(path)
        elif first == "{":
            self._read_inline_table(path)
        elif first in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _read_array(self, path: KeyPath) -> None:
        self._pos += 1
        index = 0
        self._skip(_BLANK)
        while self._text[self._pos] != "]":
            self._note((*path, index), self._line)
            self._read_value((*path, index))
            index += 1
            self._skip_comma()
        self._pos += 1

    def _read_inline_table(self, path: KeyPath) -> None:
        self._pos += 1
        self._skip(_BLANK)
        while self._text[self._pos] != "}":
            self._read_pair(path)
            self._skip_comma()
        self._pos += 1

    def _skip_comma(self) -> None:
        self._skip(_BLANK)
        if self._text[self._pos] == ",":
            self._pos += 1
            self._skip(_BLANK)

    def _read_names(self) -> list[str]:
        """A key, dotted or not: its names. Stands on what follows it (an equals sign or a bracket) afterwards."""
        names: list[str] = []
        while True:
            self._skip(_SPACE)
            names.append(self._read_name())
            self._skip(_SPACE)
            if self._text[self._pos] != ".":
                return names
            self._pos += 1

    def _read_name(self) -> str:
        first = self._text[self._pos]
        if first == "'":
            return self._skip(_LITERAL_KEY)[1:-1]
        if first == '"':
            # JSON has the same escapes but for \U: TOML's eight digits become the character itself.
            return str(json.loads(_LONG_ESCAPE.sub(_replace_long_escape, self._skip(_BASIC_KEY)), strict=False))
        return self._skip(_BARE_KEY)

    def _note(self, path: KeyPath, line: int) -> None:
        """Remember a path and, where a dotted key or a header makes them by the way, the tables above it."""
        for length in range(1, len(path)):
            self.lines.setdefault(path[:length], line)
        self.lines[path] = line

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._pos)
        assert match is not None, f"valid TOML has {pattern.pattern} at position {self._pos}"
        self._pos = match.end()
        self._line += match[0].count("\n")
        return match[0]


def _replace_long_escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return json.dumps(character)[1:-1]
