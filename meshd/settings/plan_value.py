# SPDX-License-Identifier: Apache-2.0
"""What may stand behind the keys of a contact plan, and how it is written: times, delays and shares.

Times are RFC 3339 in UTC (`2026-05-01T10:00:00.5Z`) or relative to when the plan is read (`+10.5 s`).
"""

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

from meshd.base.units import DURATION_UNITS_MS
from meshd.settings.value import Reader, ValueProblem, shown

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?[Zz]")
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?([a-z]{1,3})")
_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%")
_EXAMPLE: Final = "'2026-05-01T10:00:00Z' or '+90 s'"


def instant(reference_s: float) -> Reader:
    """A time, to DTN seconds; relative ones count from `reference_s`."""

    def read(value: Any) -> float:
        if isinstance(value, datetime):
            return _of_datetime(value)
        if not isinstance(value, str):
            raise ValueProblem(f"{shown(value)} is no time", f"write one such as {_EXAMPLE}")
        if value.startswith("+"):
            return reference_s + seconds(value[1:])
        if not _INSTANT.fullmatch(value):
            raise ValueProblem(f"{shown(value)} is no time in UTC", f"write one such as {_EXAMPLE}")
        try:
            return _of_datetime(datetime.fromisoformat(value))
        except ValueError as error:
            raise ValueProblem(f"{shown(value)} is no time ({error})", f"write one such as {_EXAMPLE}") from None

    return read


def _of_datetime(value: datetime) -> float:
    if value.tzinfo is None:
        raise ValueProblem(f"{value.isoformat()} has no time zone", "add a Z: times of a plan are in UTC")
    return (value - _EPOCH) / timedelta(microseconds=1) / 1e6


def seconds(value: Any) -> float:
    """A duration such as `0.27 s`, in seconds."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    unit_ms = DURATION_UNITS_MS.get(match[2]) if match is not None else None
    if match is None or unit_ms is None:
        raise ValueProblem(
            f"{shown(value)} is no duration", f"write one such as '0.27 s' (units: {', '.join(DURATION_UNITS_MS)})"
        )
    return float(Fraction(match[1]) * unit_ms / 1000)


def share(value: Any) -> float:
    """A share such as `2.5 %`, from 0 to 1."""
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is None or Fraction(match[1]) > 100:
        raise ValueProblem(f"{shown(value)} is no share", "write one from '0 %' to '100 %'")
    return float(Fraction(match[1]) / 100)


def render_instant(dtn_s: float) -> str:
    """DTN seconds as RFC 3339, to the microsecond."""
    moment = _EPOCH + timedelta(microseconds=round(dtn_s * 1e6))
    return trimmed(moment.strftime("%Y-%m-%dT%H:%M:%S.%f")) + "Z"


def render_seconds(duration_s: float) -> str:
    """As a number of seconds, to the microsecond."""
    return f"{trimmed(f'{duration_s:.6f}')} s"


def render_share(of_one: float) -> str:
    """In percent, to the ten thousandth."""
    return f"{trimmed(f'{of_one * 100:.4f}')} %"


def trimmed(decimals: str) -> str:
    """Without zeros at the end of the decimals."""
    return decimals.rstrip("0").rstrip(".")
