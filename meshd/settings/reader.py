# SPDX-License-Identifier: Apache-2.0
"""Reads a document table by table along the schema, and collects problems instead of stopping at the first.

What comes out is values of the right type and range, key by key. Whether they fit together is `cross_check.py`'s
question.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshd.settings.line_finder import KeyPath
from meshd.settings.problem import Problem
from meshd.settings.schema import REQUIRED, TABLES, Key, Table
from meshd.settings.value import Reader, ValueProblem, shown

_FAMILIES: Final = {table.name.rpartition(".")[0]: table for table in TABLES if table.any_name is not None}


@dataclass(frozen=True, slots=True)
class Row:
    """One table of the file, read: what its keys say, by their names. A key that is unusable is missing."""

    path: KeyPath
    values: Mapping[str, Any]
    others: Mapping[str, Any]
    """Of a table that allows other keys: those."""

    @property
    def name(self) -> str:
        """The last name of its path: what a table of a family is called."""
        return str(self.path[-1])


class DocumentReader:
    """Reads one document; `problems` grows on the way."""

    def __init__(self, document: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> None:
        self._document = document
        self._lines = lines
        self.problems: list[Problem] = []

    def note(self, path: KeyPath, reason: str, remedy: str) -> None:
        """Remember a problem with what stands at `path`, or, if nothing stands there, with the table around it."""
        standing = path
        while standing not in self._lines:
            standing = standing[:-1]
        self.problems.append(Problem(self._lines[standing], render_path(path), reason, remedy))

    def check_tables(self) -> None:
        """Tables that nobody knows."""
        self._check_names((), self._document, [table.name for table in TABLES if "." not in table.name])

    def read_table(self, table: Table) -> Row:
        """A `[table]`; an absent one counts as empty."""
        content = self._document.get(table.name, {})
        if isinstance(content, list):
            self.note((table.name,), "it can be there only once", f"write [{table.name}] instead of [[{table.name}]]")
            return Row((table.name,), {}, {})
        return self._read_row(table, (table.name,), content)

    def read_whole(self, table: Table) -> Row:
        """The document itself is the table."""
        return self._read_row(table, (), self._document)

    def read_array(self, table: Table) -> list[Row]:
        """All `[[table]]`."""
        content = self._document.get(table.name, [])
        if not isinstance(content, list):
            self.note((table.name,), "there may be several of it", f"write [[{table.name}]] instead of [{table.name}]")
            return []
        if len(content) > table.tables_max:
            self.note((table.name,), f"{len(content)} tables are too many", f"use at most {table.tables_max}")
            return []
        return [self._read_row(table, (table.name, index), element) for index, element in enumerate(content)]

    def read_family(self, table: Table) -> list[Row]:
        """All `[parent.family.ANY]`."""
        parent, _, family = table.name.rpartition(".")
        around = self._document.get(parent, {})
        content = around.get(family, {}) if isinstance(around, dict) else {}
        if not isinstance(content, dict):
            self.note((parent, family), f"{shown(content)} is not a table", f"write [{table.name}.NAME] above its keys")
            return []
        if len(content) > table.tables_max:
            self.note((parent, family), f"{len(content)} tables are too many", f"use at most {table.tables_max}")
            return []
        rows = []
        for name, element in content.items():
            path = (parent, family, name)
            if table.any_name is not None:
                self._read_value(table.any_name, path, name)
            rows.append(self._read_row(table, path, element))
        return rows

    def _read_row(self, table: Table, path: KeyPath, content: Any) -> Row:
        if not isinstance(content, dict):
            header = f"[[{table.name}]]" if table.is_array else f"[{'.'.join(map(str, path))}]"
            self.note(path, f"{shown(content)} is not a table", f"write {header} above its keys")
            return Row(path, {}, {})
        family = _FAMILIES.get(table.name)
        children = [] if family is None else [family.name.rpartition(".")[2]]
        if table.other_keys is None:
            self._check_names(path, content, [key.name for key in table.keys] + children)
        values = {}
        for key in table.keys:
            found = self._read_key(key, path, content)
            if found is not REQUIRED:
                values[key.name] = found
        return Row(path, values, self._read_others(table, path, content))

    def _read_key(self, key: Key, path: KeyPath, content: Mapping[str, Any]) -> Any:
        if key.name in content:
            return self._read_value(key.read, (*path, key.name), content[key.name])
        if key.default is REQUIRED:
            self.note((*path, key.name), "it is missing and has no default", f"add {key.name} = ... to this table")
            return REQUIRED
        return None if key.default is None else key.read(key.default)

    def _read_others(self, table: Table, path: KeyPath, content: Mapping[str, Any]) -> dict[str, Any]:
        if table.other_keys is None:
            return {}
        named = {key.name for key in table.keys}
        found = {
            name: self._read_value(table.other_keys, (*path, name), element)
            for name, element in content.items()
            if name not in named
        }
        return {name: element for name, element in found.items() if element is not REQUIRED}

    def _read_value(self, read: Reader, path: KeyPath, element: Any) -> Any:
        """What `read` makes of it, or REQUIRED when it can't be used."""
        try:
            return read(element)
        except ValueProblem as problem:
            self.note(path, problem.reason, problem.remedy)
            return REQUIRED

    def _check_names(self, path: KeyPath, content: Mapping[str, Any], known: list[str]) -> None:
        for name in content:
            if name not in known:
                noun = "key" if path else "table"
                self.note((*path, name), f"there is no such {noun}", nearest(name, known))


def nearest(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that is not known: the nearest one that is, or all."""
    candidates = list(known)
    close = difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(candidates)}" if candidates else "none is known here"


def render_path(path: KeyPath) -> str:
    """`("bearer", 0, "rate")` to `bearer[1].rate`: people count from 1."""
    text = ""
    for element in path:
        if isinstance(element, int):
            text += f"[{element + 1}]"
        else:
            text += f".{element}" if text else element
    return text if len(text) <= 120 else text[:117] + "..."
