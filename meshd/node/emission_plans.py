# SPDX-License-Identifier: Apache-2.0
"""Plans of emission control, this node's and those that others advertise: who will be silent when.

The router gets them as spans of silence, so that what is left between them are contacts; whoever is sent to blind while
it keeps silent is told of by a command when a neighbour's silence begins by its plan. A plan counts as long as the
advertisement that brought it. Without a clock nothing can be planned.
"""

import math
from typing import Final

from meshd.bundle.dtn_time import DTN_EPOCH_UNIX_S
from meshd.bundle.eid import Eid
from meshd.emcon.schedule import Schedule, ScheduleRow
from meshd.emcon.silence_plan import OPEN, SILENT, Span, silent_spans
from meshd.link.identity import LinkId
from meshd.node.commands import NeighbourFallsSilent
from meshd.node.forwarding import Forwarding
from meshd.node.state import NodeState
from meshd.routing.silence_plan import PlanRow, SilencePlan
from meshd.routing.topology import SilenceSink

AHEAD_MS: Final = 48 * 3_600_000
EXPAND_S: Final = 600.0
"""As time goes by, later silences come into sight."""
STEP_MAX_MS: Final = 1000
"""Of the clock, until the silences are reckoned anew."""

_EPOCH_MS: Final = DTN_EPOCH_UNIX_S * 1000


class EmissionPlans:
    """Owns the plans, and the silences that follow from them, as Unix times in ms."""

    def __init__(self, state: NodeState, forwarding: Forwarding) -> None:
        self._state = state
        self._forwarding = forwarding
        self._plans: dict[Eid, Schedule] = {}
        self._spans: dict[Eid, list[Span]] = {}
        self._told: dict[Eid, float] = {}
        """Ends of the silences that were told of, by neighbour."""
        self._expand_at = math.inf
        self._offset_ms = state.utc_offset_ms

    def set_own(self, plan: Schedule | None, now: float) -> None:
        """This node's, while its order leaves it to a schedule; None: it has none."""
        self._set(self._state.settings.id, plan, now)

    def hear(self, node: Eid, said: SilencePlan | None, now: float) -> None:
        """What another node plans; None: nothing."""
        self._set(node, None if said is None else _as_schedule(said), now)

    def forget(self, node: Eid, now: float) -> None:
        """What it said holds no more."""
        self._set(node, None, now)

    def own(self, now: float) -> SilencePlan | None:
        """For the others: without what is over."""
        plan = self._plans.get(self._state.settings.id)
        return None if plan is None or not self._state.has_clock else _as_said(plan, self._unix_ms(now))

    def silences(self, now: float) -> dict[Eid, list[Span]]:
        """Of every node with a plan, those that are not over, for people."""
        unix_ms = self._unix_ms(now)
        return {node: [span for span in spans if span[1] > unix_ms] for node, spans in self._spans.items()}

    def quiet_s(self, now: float) -> float:
        """Until the end of this node's next silence, or the one under way; 0: none is planned, or it has no end."""
        unix_ms = self._unix_ms(now)
        ends_ms = (end_ms for _, end_ms in self._spans.get(self._state.settings.id, ()) if end_ms > unix_ms)
        end_ms = next(ends_ms, math.inf)
        return (end_ms - unix_ms) / 1000 if math.isfinite(end_ms) else 0.0

    @property
    def next_at(self) -> float | None:
        """Monotonic time at which to call `look`; None where there is no plan."""
        if not self._plans:
            return None
        begins = (self._begin_ms(node) for node in self._plans)
        begin_ms = min(begins, default=math.inf)
        begin_at = self._state.monotonic(int(begin_ms) - _EPOCH_MS) if math.isfinite(begin_ms) else math.inf
        return min(self._expand_at, begin_at)

    def look(self, now: float) -> None:
        """Time has gone by, or the clock was set."""
        if self._plans and abs(self._state.utc_offset_ms - self._offset_ms) > STEP_MAX_MS:
            self._told.clear()
            self._expand_at = now
        if now >= self._expand_at:
            for node in self._plans:
                self._expand(node, now)
        for node in self._plans:
            self._tell(node, self._unix_ms(now))

    def _set(self, node: Eid, plan: Schedule | None, now: float) -> None:
        if plan == self._plans.get(node):
            return
        self._told.pop(node, None)
        if plan is None:
            self._plans.pop(node)
            self._spans.pop(node)
            self._plan_silence(node, [])
        else:
            self._plans[node] = plan
            self._expand(node, now)
        if not self._plans:
            self._expand_at = math.inf

    def _expand(self, node: Eid, now: float) -> None:
        unix_ms = self._unix_ms(now)
        self._expand_at, self._offset_ms = now + EXPAND_S, self._state.utc_offset_ms
        self._spans[node] = (
            silent_spans(self._plans[node], unix_ms, unix_ms + AHEAD_MS) if self._state.has_clock else []
        )
        self._plan_silence(node, self._spans[node])

    def _plan_silence(self, node: Eid, spans: list[Span]) -> None:
        router = self._forwarding.router
        if isinstance(router, SilenceSink):
            router.plan_silence(node, [(_dtn_s(begin_ms), _dtn_s(end_ms)) for begin_ms, end_ms in spans])

    def _begin_ms(self, node: Eid) -> float:
        """Of the next silence that a neighbour is to be told of: its clock is behind ours by the margin at most."""
        margin_ms, told_ms = self._plans[node].margin_ms, self._told.get(node, -math.inf)
        begins = (begin_ms + margin_ms for begin_ms, end_ms in self._spans[node] if end_ms > told_ms)
        return next(begins, math.inf) if self._radio_links(node) else math.inf

    def _radio_links(self, node: Eid) -> list[LinkId]:
        links = self._state.links.links()
        return [link.id for link in links if link.id.neighbour == node and link.bearer.radiating]

    def _tell(self, node: Eid, unix_ms: int) -> None:
        if self._begin_ms(node) > unix_ms:
            return
        _, end_ms = next(span for span in self._spans[node] if span[1] > self._told.get(node, -math.inf))
        self._told[node] = end_ms
        if end_ms > unix_ms:
            for_s = math.ceil((end_ms - unix_ms) / 1000) if math.isfinite(end_ms) else 0
            self._state.commands.append(NeighbourFallsSilent(self._radio_links(node), for_s))

    def _unix_ms(self, now: float) -> int:
        return self._state.dtn_ms(now) + _EPOCH_MS


def _dtn_s(unix_ms: float) -> float:
    return (unix_ms - _EPOCH_MS) / 1000


def _as_schedule(said: SilencePlan) -> Schedule:
    rows = tuple(
        ScheduleRow(
            _name(row.is_silent), row.begins_s * 1000 + _EPOCH_MS, row.lasts_s * 1000, row.every_s * 1000 or None
        )
        for row in said.rows
    )
    return Schedule(rows, _name(said.is_silent_otherwise), said.margin_ms)


def _as_said(plan: Schedule, unix_ms: int) -> SilencePlan | None:
    """None: all of it is over."""
    rows = [row for row in plan.rows if row.every_ms is not None or row.begins_ms + row.lasts_ms > unix_ms]
    said = [
        PlanRow(row.profile == SILENT, _begin_s(row), row.lasts_ms // 1000, (row.every_ms or 0) // 1000) for row in rows
    ]
    return SilencePlan(plan.otherwise == SILENT, plan.margin_ms, tuple(said)) if said else None


def _begin_s(row: ScheduleRow) -> int:
    """A span that comes again began before DTN time did."""
    begin_s = row.begins_ms // 1000 - DTN_EPOCH_UNIX_S
    return begin_s if row.every_ms is None else begin_s % (row.every_ms // 1000)


def _name(is_silent: bool) -> str:
    return SILENT if is_silent else OPEN
