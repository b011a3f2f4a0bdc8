# SPDX-License-Identifier: Apache-2.0
"""What others have to know of a schedule: when nothing leaves this node's bearers that radiate.

The plan is a schedule itself, of two profiles: `SILENT` and `OPEN`. It says nothing of profiles, bearers or reasons, so
that whoever may read it learns no more than when to send blind. How it travels is for `routing.silence_plan`.
"""

import math
from collections.abc import Sequence
from typing import Final

from meshd.emcon.schedule import Schedule, ScheduleRow, postures_of
from meshd.emcon.settings import EmconSettings
from meshd.link.settings import BearerSettings

SILENT: Final = "silent"
OPEN: Final = "open"
SPANS_MAX: Final = 256
"""Silences that are looked ahead for, and"""
CHANGES_MAX: Final = 2 * SPANS_MAX
"""changes of a plan."""

Span = tuple[float, float]
"""From one Unix time in ms until another, which may be infinite."""


def plan_of(schedule: Schedule, settings: EmconSettings, bearers: Sequence[BearerSettings]) -> Schedule | None:
    """None: no bearer radiates, so there is nothing to tell. Errors: UnknownProfileError."""
    radiating = [bearer for bearer in bearers if bearer.radiating]
    if not radiating:
        return None

    def name(profile: str) -> str:
        postures = postures_of([profile], settings, radiating)
        return OPEN if any(each.may_send for each in postures.values()) else SILENT

    rows = tuple(ScheduleRow(name(row.profile), row.begins_ms, row.lasts_ms, row.every_ms) for row in schedule.rows)
    return Schedule(rows, name(schedule.otherwise), schedule.margin_ms)


def is_silent(plan: Schedule, at_ms: int) -> bool:
    """The margin kept: what may be silent is."""
    return SILENT in plan.profiles_near(at_ms)


def silent_spans(plan: Schedule, from_ms: int, to_ms: int) -> list[Span]:
    """Silences from one time on that begin before another, the first ones; in order."""
    spans: list[Span] = []
    began_ms = from_ms if is_silent(plan, from_ms) else None
    at_ms = from_ms
    for _ in range(CHANGES_MAX):
        change_ms = plan.next_change_ms(at_ms)
        if change_ms is None:
            break
        at_ms = change_ms
        if began_ms is not None and not is_silent(plan, at_ms):
            spans.append((began_ms, at_ms))
            began_ms = None
        elif began_ms is None and is_silent(plan, at_ms):
            began_ms = at_ms
        if began_ms is None and (at_ms >= to_ms or len(spans) >= SPANS_MAX):
            return spans
    return spans if began_ms is None else [*spans, (began_ms, math.inf)]
