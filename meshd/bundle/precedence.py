# SPDX-License-Identifier: Apache-2.0
"""Precedence: its names, and how it travels in ION's quality-of-service block (private block type 193).

ION honours ordinals in class 2 only, so that the six precedences of RFC 6477 are told by class and ordinal together
(DESIGN: wire formats). A ceiling on what somebody may claim is policy and lives elsewhere.
"""

from enum import IntEnum
from typing import Final

from meshd.bundle import cbor
from meshd.bundle.errors import BundleError


class Precedence(IntEnum):
    """Higher goes first (RFC 6477 numbers)."""

    DEFERRED = 0
    ROUTINE = 1
    PRIORITY = 2
    IMMEDIATE = 3
    FLASH = 4
    OVERRIDE = 5


PRECEDENCE_DEFAULT: Final = Precedence.ROUTINE
"""Of a bundle without the block."""

_CLASS_AND_ORDINAL: Final = ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))
_CLASS_MAX: Final = 2
_ORDINALS: Final = ((0, 0, 0), (1, 2, 2), (3, 4, 5))
"""Precedence by class and ordinal as received, higher ordinals counting as 2."""


def parse_precedence(text: str) -> Precedence:
    """The precedence of this name, in capitals or not.

    Errors:
        ValueError: no such name; the message lists the names.
    """
    try:
        return Precedence[text.upper()]
    except KeyError:
        names = ", ".join(member.name for member in reversed(Precedence))
        raise ValueError(f"unknown precedence {text!r}: one of {names}") from None


def encode_precedence(precedence: int) -> bytes:
    """The block's data: the CBOR array `[flags, class, ordinal, data label]`, flags and label 0."""
    service_class, ordinal = _CLASS_AND_ORDINAL[precedence]
    return bytes((0x84, 0, service_class, ordinal, 0))


def read_precedence(data: bytes, pos: int) -> tuple[int, int]:
    """Read the block's data; the precedence as a plain number and the position after it.

    Errors:
        BundleError: `precedence` for a class above 2, `cbor` or `truncated`.
    """
    length, pos = cbor.read_array_header(data, pos)
    if length not in (3, 4):
        raise BundleError("precedence", "a quality-of-service block is an array [flags, class, ordinal, data label]")
    _, pos = cbor.read_uint(data, pos)
    service_class, pos = cbor.read_uint(data, pos)
    ordinal, pos = cbor.read_uint(data, pos)
    if length == 4:
        pos = cbor.skip_item(data, pos)
    if service_class > _CLASS_MAX:
        raise BundleError("precedence", f"a quality-of-service block of class {service_class}: 0, 1 and 2 are known")
    return _ORDINALS[service_class][min(ordinal, 2)], pos
