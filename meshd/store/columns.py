# SPDX-License-Identifier: Apache-2.0
"""Columns of the store's groups: one item where all rows have the same, else one for each row."""

from collections.abc import Sequence
from typing import Final, TypeVar

from meshd.base.errors import StoreError

BAD_COLUMN: Final = "a group of the store has columns that do not fit to each other: move its directory away"
_T = TypeVar("_T")


def packed(column: Sequence[_T]) -> Sequence[_T]:
    """One item when all are equal."""
    return column[:1] if column.count(column[0]) == len(column) else column


def spread(column: Sequence[_T], count: int) -> Sequence[_T]:
    """An item for each row."""
    if len(column) == count:
        return column
    if len(column) != 1:
        raise StoreError(BAD_COLUMN)
    return [column[0]] * count


def shared(column: Sequence[int], count: int) -> Sequence[int]:
    """As `spread`; equal numbers are one object: neighbours often share times and sizes, and memory is what counts."""
    if len(column) == count > 1:
        numbers: dict[int, int] = {}
        return list(map(numbers.setdefault, column, column))
    return spread(column, count)
