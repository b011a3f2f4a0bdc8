# SPDX-License-Identifier: Apache-2.0
"""How a node says when it will be silent by its plan of emission control: a part of its advertisement.

    [is_silent_otherwise, margin_ms, [[is_silent, begins_s, lasts_s, every_s], ...]]

Where several rows hold the silent ones win; where none holds, `otherwise` does; every clock may be off by the margin.
`begins_s` is DTN time in seconds, `every_s` 0 where a row comes once. What follows from it is for others.
"""

from typing import Annotated, Final

import msgspec

ROWS_MAX: Final = 32
MARGIN_MAX_MS: Final = 60_000
EVERY_MIN_S: Final = 60
SPAN_MAX_S: Final = 366 * 86_400

_DtnSeconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 36)]
_Lasts = Annotated[int, msgspec.Meta(ge=1, le=SPAN_MAX_S)]
_Every = Annotated[int, msgspec.Meta(ge=0, le=SPAN_MAX_S)]
_Margin = Annotated[int, msgspec.Meta(ge=0, le=MARGIN_MAX_MS)]


class PlanRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Silent, or not, for one span that comes once or again and again."""

    is_silent: bool
    begins_s: _DtnSeconds
    lasts_s: _Lasts
    every_s: _Every = 0

    def __post_init__(self) -> None:
        if self.every_s and (self.every_s < EVERY_MIN_S or self.lasts_s >= self.every_s):
            raise ValueError(f"a row that lasts {self.lasts_s} s can't come again every {self.every_s} s")


class SilencePlan(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Of one node."""

    is_silent_otherwise: bool
    margin_ms: _Margin
    rows: Annotated[tuple[PlanRow, ...], msgspec.Meta(min_length=1, max_length=ROWS_MAX)]
