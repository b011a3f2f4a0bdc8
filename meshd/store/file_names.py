# SPDX-License-Identifier: Apache-2.0
"""Names of the store's files: `0000000001.seg` is a segment, `0000000002.big` holds one large bundle.

Both count in one row of numbers, none of which is used twice while anything may still refer to it.
"""

from typing import Final

_SEGMENT_SUFFIX: Final = ".seg"
_LARGE_SUFFIX: Final = ".big"
_DIGITS: Final = 10


def segment_name(number: int) -> str:
    """The file of a segment."""
    return f"{number:0{_DIGITS}d}{_SEGMENT_SUFFIX}"


def large_name(number: int) -> str:
    """The file of a large bundle."""
    return f"{number:0{_DIGITS}d}{_LARGE_SUFFIX}"


def segment_number(name: str) -> int | None:
    """The segment of a file; None for a file that is none."""
    return _number(name, _SEGMENT_SUFFIX)


def large_number(name: str) -> int | None:
    """The number of a large bundle's file; None for any other file."""
    return _number(name, _LARGE_SUFFIX)


def _number(name: str, suffix: str) -> int | None:
    digits = name.removesuffix(suffix)
    if name == digits or len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)
