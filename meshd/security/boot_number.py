# SPDX-License-Identifier: Apache-2.0
"""The number of a node's start: the part of a sealed datagram's nonce that makes it new after every start.

A number is max(saved + 1, Unix seconds). It is saved, and the disk has synced it, before anything is sealed under it;
`cl/fountain/sealer.py` says why that is enough. Reading and writing the file is left to the shell, which makes a
`DurableBootNumber` once it has synced, and only then.
"""

import re
from dataclasses import dataclass
from typing import Final

from meshd.base.errors import MeshdError, SettingsError

BOOT_NUMBER_MAX: Final = (1 << 32) - 1
CLOCK_FLOOR_S: Final = 1_767_225_600
"""2026-01-01: a clock that says less was never set."""
BOOT_FILE_MAX_BYTES: Final = 256

_FILE: Final = re.compile(r"meshd-boot 1\nboot ([1-9][0-9]{0,9})\n")


class BootNumberError(MeshdError):
    """There is no number that is surely new: nothing may be sent until the node is enrolled anew."""


@dataclass(frozen=True)
class DurableBootNumber:
    """A number that a synced file holds: to be made after the sync, by whoever did it."""

    number: int


def choose_boot_number(saved: int | None, utc_s: int | None) -> int:
    """The number for this start; save it before use.

    Args:
        saved: what the file holds; None: there is no file.
        utc_s: Unix seconds; None: the clock is known to be wrong.

    Errors:
        BootNumberError: state and clock are both lost, or the numbers are used up.
    """
    clock = 0 if utc_s is None or utc_s < CLOCK_FLOOR_S else utc_s
    if saved is None and not clock:
        text = (
            "the boot number is lost and the clock is not set: set the clock, or put link.boot of a new issue in place"
        )
        raise BootNumberError(text)
    number = max((saved or 0) + 1, clock)
    if number > BOOT_NUMBER_MAX:
        raise BootNumberError(f"the boot number {number} is out of range: remove it and enrol the node anew")
    return number


def pack_boot_number(number: int) -> bytes:
    """The file's content."""
    assert 0 < number <= BOOT_NUMBER_MAX
    return f"meshd-boot 1\nboot {number}\n".encode()


def parse_boot_number_untrusted(data: bytes, name: str) -> int:
    """What the file says. Errors: SettingsError: a damaged file is no lost one, and nobody may guess what it said."""
    match = _FILE.fullmatch(data.decode("ascii", "replace")) if len(data) <= BOOT_FILE_MAX_BYTES else None
    if match is None or int(match[1]) > BOOT_NUMBER_MAX:
        raise SettingsError(f"{name} holds no boot number: remove it if the clock is right, else enrol the node anew")
    return int(match[1])
