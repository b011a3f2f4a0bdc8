# SPDX-License-Identifier: Apache-2.0
"""Work counted in steps, not in time: bytes that know how often and how much of them was looked at."""

from typing import Any, SupportsIndex

STEP_BYTES = 16
"""A slice of so many bytes counts as one step more: copying is cheap, but not free."""


class CountedBytes(bytes):
    """As bytes; every item, slice and search counts into `steps`. What is cut from it are plain bytes again."""

    steps: int

    def __new__(cls, data: bytes) -> "CountedBytes":
        """Begin at 0."""
        counted = super().__new__(cls, data)
        counted.steps = 0
        return counted

    def __getitem__(self, key: Any) -> Any:
        """One step, and more for a long slice."""
        value = super().__getitem__(key)
        self.steps += 1 if isinstance(value, int) else 1 + len(value) // STEP_BYTES
        return value

    def find(self, sub: Any, start: SupportsIndex | None = None, end: SupportsIndex | None = None, /) -> int:
        """Counts the bytes that the search may cover."""
        first, last, _ = slice(start, end).indices(len(self))
        self.steps += 1 + max(0, last - first) // STEP_BYTES
        return super().find(sub, start, end)


def assert_linear(data: CountedBytes, steps_per_byte: int, constant: int) -> None:
    """What was looked at is at most so much for every byte of input."""
    limit = constant + steps_per_byte * len(data)
    assert data.steps <= limit, f"{data.steps} steps for {len(data)} bytes, more than {limit}"
