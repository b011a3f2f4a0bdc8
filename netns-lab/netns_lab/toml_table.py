# SPDX-License-Identifier: Apache-2.0
"""Strict reading of the lab's TOML files: every error names the file, the key and what would be right.

Each key is taken once; `end` refuses what nobody took, with the nearest known key as a hint.
"""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from netns_lab.errors import LabError
from netns_lab.units import parse_duration, parse_rate, parse_share

FILE_SIZE_MAX_BYTES: Final = 1024 * 1024

T = TypeVar("T")


class TomlTable:
    """One table of a file, its keys to be taken one by one."""

    def __init__(self, values: Mapping[str, object], source: str, path: str = "") -> None:
        self._values: Final = dict(values)
        self._source: Final = source
        self._path: Final = path
        self._known: set[str] = set()

    def error(self, key: str, reason: str) -> LabError:
        """An error that names the file and the key, for the caller to raise."""
        return LabError(f"{self._source}: key {self._full(key)!r}: {reason}")

    def has(self, key: str) -> bool:
        """True when the file gives `key`; counts as knowing it."""
        self._known.add(key)
        return key in self._values

    def keys(self) -> list[str]:
        """Keys of a table that maps free names, in the file's order; all count as known."""
        self._known.update(self._values)
        return list(self._values)

    def text(self, key: str, default: str | None = None) -> str:
        """A string; required when there is no default."""
        if not self.has(key) and default is not None:
            return default
        value = self._take(key)
        if not isinstance(value, str):
            raise self.error(key, f"must be a string, is {value!r}")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of strings; required."""
        value = self._take(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"must be a list of strings, is {value!r}")
        return list(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        if not self.has(key):
            return default
        value = self._take(key)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, is {value!r}")
        return value

    def count(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        if not self.has(key):
            return default
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"must be a whole number from {low} to {high}, is {value!r}")
        return value

    def duration(self, key: str, default_s: float) -> float:
        """Seconds, from text such as `300 ms`."""
        return self._quantity(key, parse_duration, default_s)

    def rate(self, key: str) -> int | None:
        """Bits per second, from text such as `2 Mbit/s`; None when the file gives none."""
        return self._quantity(key, parse_rate, None)

    def share(self, key: str, default: float) -> float:
        """A probability, from text such as `1 %`."""
        return self._quantity(key, parse_share, default)

    def table(self, key: str) -> "TomlTable":
        """A table inside this one; required."""
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table, is {value!r}")
        return TomlTable(value, self._source, self._full(key))

    def end(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(self._known))}"
                raise self.error(key, f"unknown key; {hint}")

    def _quantity(self, key: str, parse: Callable[[str], T], default: T) -> T:
        if not self.has(key):
            return default
        try:
            return parse(self.text(key))
        except ValueError as error:
            raise self.error(key, str(error)) from None

    def _take(self, key: str) -> object:
        if not self.has(key):
            raise self.error(key, "is missing")
        return self._values[key]

    def _full(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key


def read_toml(path: Path) -> TomlTable:
    """The file's top table. LabError when it can't be read or is no TOML."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_SIZE_MAX_BYTES + 1)
    except OSError as error:
        raise LabError(f"{path}: can't be read: {error.strerror}") from None
    if len(data) > FILE_SIZE_MAX_BYTES:
        raise LabError(f"{path}: is larger than {FILE_SIZE_MAX_BYTES} bytes")
    try:
        return TomlTable(tomllib.loads(data.decode("utf-8")), str(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path}: is no TOML: {error}") from None
