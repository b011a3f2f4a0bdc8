# SPDX-License-Identifier: Apache-2.0
"""Quantities as people write them (`300 ms`, `2 Mbit/s`, `1 %`) to numbers in the lab's units, and back.

A quantity always carries its unit: a bare number in a file is refused, so nobody mistakes seconds for milliseconds.
"""

import re
from collections.abc import Mapping
from typing import Final

DURATION_UNITS: Final[Mapping[str, float]] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
RATE_UNITS: Final[Mapping[str, float]] = {"bit/s": 1.0, "kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9}
SHARE_UNITS: Final[Mapping[str, float]] = {"%": 0.01}

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z%/]+)")


def _parse(text: str, units: Mapping[str, float], what: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not a {what}; write a number and one of {', '.join(units)}")
    return float(match[1]) * units[match[2]]


def parse_duration(text: str) -> float:
    """Seconds. ValueError when `text` is no duration."""
    return _parse(text, DURATION_UNITS, "duration")


def parse_rate(text: str) -> int:
    """Bits per second. ValueError when `text` is no rate or rounds to zero."""
    rate_bps = round(_parse(text, RATE_UNITS, "rate"))
    if rate_bps == 0:
        raise ValueError(f"{text!r} is a rate of zero; cut the link instead")
    return rate_bps


def parse_share(text: str) -> float:
    """A probability from 0 to 1. ValueError when `text` is no percentage or is above 100 %."""
    share = _parse(text, SHARE_UNITS, "percentage")
    if share > 1.0:
        raise ValueError(f"{text!r} is more than 100 %")
    return share


def show_duration(seconds: float) -> str:
    """As `parse_duration` reads it, to the microsecond."""
    return f"{seconds:.9g} s" if seconds >= 1.0 else f"{round(seconds * 1e3, 6):.9g} ms"


def show_rate(rate_bps: float) -> str:
    """As `parse_rate` reads it, for people: the largest unit that leaves a number above one."""
    for unit in ("Gbit/s", "Mbit/s", "kbit/s"):
        if rate_bps >= RATE_UNITS[unit]:
            return f"{rate_bps / RATE_UNITS[unit]:.9g} {unit}"
    return f"{rate_bps:.9g} bit/s"


def show_share(share: float) -> str:
    """As `parse_share` reads it."""
    return f"{round(share * 100, 9):.9f}".rstrip("0").rstrip(".") + " %"
