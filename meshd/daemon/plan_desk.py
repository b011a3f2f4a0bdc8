# SPDX-License-Identifier: Apache-2.0
"""`emcon.plan` of the control protocol: when this node and others may send by the plans that they advertise."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from meshd.bundle.eid import Eid
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.dtn_clock import monotonic_s
from meshd.emcon.silence_plan import Span
from meshd.node.agent import Agent

WINDOWS_TOLD_MAX: Final = 8
"""Of one node, the next ones."""


class PlanDesk:
    """Asks the agent."""

    def __init__(self, agent: Agent, own_node: Eid, wall_ms: Callable[[], int]) -> None:
        self._agent = agent
        self._own_node = own_node
        self._wall_ms = wall_ms

    async def plan(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`emcon.plan`."""
        now_ms = self._wall_ms()
        plans = self._agent.advertising.plans.silences(monotonic_s())
        wanted = params["node"]
        if wanted is not None and wanted not in {node.uri for node in plans}:
            raise ControlError("not_found", f"no plan of {wanted} is known: it advertises none, or was not heard")
        nodes = sorted(plans, key=lambda node: (node != self._own_node, node.uri))
        return {
            "now_ms": now_ms,
            "plans": [
                {
                    "node": node.uri,
                    "own": node == self._own_node,
                    "silent": any(begin_ms <= now_ms < end_ms for begin_ms, end_ms in plans[node]),
                    "windows": windows_between(plans[node], now_ms),
                }
                for node in nodes
                if wanted in {None, node.uri}
            ],
        }


def windows_between(silences: Sequence[Span], now_ms: int) -> list[dict[str, int | None]]:
    """What is left between silences, from now on; the last one ends where nothing more is known of: None."""
    windows: list[dict[str, int | None]] = []
    at_ms: float = now_ms
    for begin_ms, end_ms in silences:
        if begin_ms > at_ms:
            windows.append({"begins_ms": int(at_ms), "ends_ms": int(begin_ms)})
        at_ms = max(at_ms, end_ms)
    if math.isfinite(at_ms):
        windows.append({"begins_ms": int(at_ms), "ends_ms": None})
    return windows[:WINDOWS_TOLD_MAX]
