# SPDX-License-Identifier: Apache-2.0
"""Durations, sizes and rates as people write them (`24 h`, `8 GiB`, `2 Mbit/s`), to whole numbers and back.

The configuration file and the options of meshctl use these words. A number without a unit is refused: whoever writes
`30` for a lifetime means seconds on one day and hours on the next. Parsing knows no floating point and rounds down to a
whole unit; rendering is for eyes and rounds to three digits.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from meshd.base.errors import MeshdError

TEXT_CHARACTERS_MAX: Final = 64
"""A longer text is refused unread."""

DURATION_UNITS_MS: Final[Mapping[str, Fraction]] = {
    "ms": Fraction(1),
    "s": Fraction(1000),
    "min": Fraction(60_000),
    "h": Fraction(3_600_000),
    "d": Fraction(86_400_000),
}
SIZE_UNITS_BYTES: Final[Mapping[str, Fraction]] = {
    "B": Fraction(1),
    "kB": Fraction(10**3),
    "MB": Fraction(10**6),
    "GB": Fraction(10**9),
    "TB": Fraction(10**12),
    "KiB": Fraction(2**10),
    "MiB": Fraction(2**20),
    "GiB": Fraction(2**30),
    "TiB": Fraction(2**40),
}
RATE_UNITS_BPS: Final[Mapping[str, Fraction]] = {
    "bit/s": Fraction(1),
    "kbit/s": Fraction(10**3),
    "Mbit/s": Fraction(10**6),
    "Gbit/s": Fraction(10**9),
}

_QUANTITY = re.compile(r"([0-9][0-9_]{0,17})(\.[0-9]{1,6})? ?([A-Za-z/]{1,8})")
_NUMBER_ALONE = re.compile(r"[0-9._]+")


class QuantityError(MeshdError, ValueError):
    """A text is no duration, size or rate; the message says why and what one looks like."""


def parse_duration_ms(text: str) -> int:
    """`24 h` to 86400000. Units: ms, s, min, h, d. Raises QuantityError."""
    return _parse(text, DURATION_UNITS_MS, "duration", "24 h")


def parse_size_bytes(text: str) -> int:
    """`8 GiB` to 8589934592. Units: B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024).

    Raises QuantityError.
    """
    return _parse(text, SIZE_UNITS_BYTES, "size", "8 GiB")


def parse_rate_bps(text: str) -> int:
    """`2 Mbit/s` to 2000000. Units: bit/s, kbit/s, Mbit/s, Gbit/s (powers of 1000). Raises QuantityError."""
    return _parse(text, RATE_UNITS_BPS, "rate", "2 Mbit/s")


def render_duration_ms(duration_ms: int) -> str:
    """86400000 to `1 d`; 5400000 to `1.5 h`. Three digits."""
    return _render(duration_ms, DURATION_UNITS_MS)


def render_size_bytes(size_bytes: int) -> str:
    """8589934592 to `8 GiB`; 1500 to `1.46 KiB`. Three digits, powers of 1024."""
    binary = {name: unit for name, unit in SIZE_UNITS_BYTES.items() if name == "B" or name.endswith("iB")}
    return _render(size_bytes, binary)


def render_rate_bps(rate_bps: int) -> str:
    """2000000 to `2 Mbit/s`. Three digits."""
    return _render(rate_bps, RATE_UNITS_BPS)


def _parse(text: str, units: Mapping[str, Fraction], noun: str, example: str) -> int:
    known = ", ".join(units)
    if len(text) > TEXT_CHARACTERS_MAX:
        raise QuantityError(f"a {noun} has at most {TEXT_CHARACTERS_MAX} characters; write one such as '{example}'")
    stripped = text.strip()
    if _NUMBER_ALONE.fullmatch(stripped):
        raise QuantityError(f"{text!r} has no unit; write a {noun} such as '{example}' (units: {known})")
    match = _QUANTITY.fullmatch(stripped)
    if match is None:
        raise QuantityError(f"{text!r} is not a {noun}; write one such as '{example}' (units: {known})")
    whole, decimals, unit_name = match.groups()
    unit = units.get(unit_name)
    if unit is None:
        raise QuantityError(f"{unit_name!r} is not a unit of a {noun}; known units are {known}")
    value = Fraction(whole.replace("_", "") + (decimals or "")) * unit
    if 0 < value < 1:
        raise QuantityError(f"{text!r} is less than one {next(iter(units))}, the smallest unit of a {noun}")
    return int(value)


def _render(value: int, units: Mapping[str, Fraction]) -> str:
    if value < 0:
        return "-" + _render(-value, units)
    names = list(units)
    position = 0
    while position + 1 < len(names) and value >= units[names[position + 1]]:
        position += 1
    # 1023.9 KiB would round to `1020 KiB` beside a `1 MiB` of one byte more: four digits stay whole instead.
    number = float(value / units[names[position]])
    digits = f"{number:.0f}" if number >= 100 else f"{number:.3g}"
    return f"{digits} {names[position]}"
