# SPDX-License-Identifier: Apache-2.0
"""The answer to `emcon.status`: which order holds, and what gate and bearers say. Looks only; changes nothing."""

from collections.abc import Sequence
from typing import Any

from meshd.base.errors import GateError
from meshd.bundle.precedence import Precedence
from meshd.emcon.gate import EmissionGate, GateCounters
from meshd.emcon.policy import EmconPolicy
from meshd.emcon.schedule_text import render_row
from meshd.emcon.settings import EmconSettings, Restriction
from meshd.link.settings import BearerSettings


def describe(
    policy: EmconPolicy,
    gate: EmissionGate,
    settings: EmconSettings,
    bearers: Sequence[BearerSettings],
    weakness: str,
    now: float,
) -> dict[str, Any]:
    """As the control protocol has it; `weakness` is what this kernel's gate leaves open."""
    order = policy.order
    return {
        "profile": order.profile,
        "by": order.by,
        "reason": order.reason,
        "since_ms": order.since_ms,
        "until_ms": order.until_ms,
        "source": policy.source.value,
        "profiles": sorted(settings.profiles),
        "schedule": _schedule_map(policy, now),
        "bearers": _bearer_maps(policy, gate, bearers, weakness),
    }


def restriction_map(restriction: Restriction) -> dict[str, Any]:
    """What may leave a bearer."""
    return {
        "quota_bytes_per_h": restriction.quota_bytes_per_h,
        "duty_pct": restriction.duty_pct,
        "precedence_min": Precedence(restriction.precedence_min).name,
    }


def _schedule_map(policy: EmconPolicy, now: float) -> dict[str, Any] | None:
    schedule = policy.schedule
    if schedule is None:
        return None
    return {
        "rows": [render_row(row) for row in schedule.rows],
        "otherwise": schedule.otherwise,
        "margin_s": schedule.margin_ms / 1000,
        "opens_ms": policy.opens_at_ms(now),
    }


def _bearer_maps(
    policy: EmconPolicy, gate: EmissionGate, bearers: Sequence[BearerSettings], weakness: str
) -> list[dict[str, Any]]:
    problems: dict[str, str] = {}
    try:
        counters = gate.counters()
    except GateError as exc:
        counters = {}
        problems = {bearer.device: str(exc) for bearer in bearers}
    problems = {**problems, **gate.problems(), **policy.problems}
    return [
        {
            "bearer": bearer.name,
            "device": bearer.device,
            "radiating": bearer.radiating,
            "posture": policy.postures[bearer.name].value,
            "gate": _gate_map(counters.get(bearer.device)),
            "restriction": _restriction_of(policy, bearer, counters.get(bearer.device)),
            "problem": problems.get(bearer.device) or policy.unsaved or weakness or None,
        }
        for bearer in bearers
    ]


def _gate_map(counted: GateCounters | None) -> dict[str, Any] | None:
    if counted is None:
        return None
    return {"open": counted.is_open, "tx_frames": counted.tx_frames, "blocked_frames": counted.blocked_frames}


def _restriction_of(policy: EmconPolicy, bearer: BearerSettings, counted: GateCounters | None) -> dict[str, Any] | None:
    restriction = policy.restrictions.get(bearer.name)
    if restriction is None:
        return None
    return {**restriction_map(restriction), "used_bytes": None if counted is None else counted.quota_used_bytes}
