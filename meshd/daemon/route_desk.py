# SPDX-License-Identifier: Apache-2.0
"""Answers about routes: `routes.list` of the control protocol, and what `bundles.explain` says of a bundle's ways.

Every candidate comes with its arithmetic, hop by hop, so that people can check why this one was taken.
"""

import math
from collections.abc import Callable
from typing import Any, Final

from meshd.base.errors import SettingsError
from meshd.base.units import render_rate_bps
from meshd.bundle.dtn_time import DTN_EPOCH_UNIX_S
from meshd.bundle.eid import NULL_EID, Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.bundle.precedence import Precedence, parse_precedence
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.control.errors import ControlError
from meshd.control.methods import ROUTES_TO_MAX
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.dtn_clock import monotonic_s
from meshd.node.agent import Agent
from meshd.node.bundle_table import BundleState, Entry
from meshd.routing.candidates import LEVELS
from meshd.routing.contact_router import ContactRouter
from meshd.routing.copying import choose_ways
from meshd.routing.decision import Forward
from meshd.routing.route import Leg
from meshd.routing.way import Way
from meshd.settings.plan_value import instant
from meshd.settings.value import ValueProblem

LIFETIME_MS: Final = 366 * 86_400_000
"""Of the bundle whose seconds are asked for: ways that take longer are none."""
SMALL_BYTES: Final = 1024
UNPLANNED_S: Final = 86_400.0
"""Stands for the time that a way takes of which nothing but the next hop is known."""
_MOVING: Final = (BundleState.WAITING, BundleState.QUEUED, BundleState.IN_FLIGHT, BundleState.REPLICATING)


class RouteDesk:
    """Asks the router, and changes nothing."""

    def __init__(
        self, agent: Agent, router: ContactRouter, own_node: Eid, clock: Callable[[], float] = monotonic_s
    ) -> None:
        self._clock = clock
        self._agent = agent
        self._router = router
        self._own_node = own_node

    async def list_routes(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`routes.list`."""
        now = self._clock()
        at_s = self._at(params["at"], now)
        routes: list[dict[str, Any]] = []
        nodes = self._nodes(params["to"])
        for node in nodes[:ROUTES_TO_MAX]:
            precedence = parse_precedence(params["precedence"])
            record = _sample(node, params["size_bytes"], precedence, at_s, params["lifetime_ms"])
            routes += self._routes(record, now, at_s)
        return {"routes": routes, "at_ms": _unix_ms(at_s), "nodes": len(nodes)}

    def arithmetic(self, entry: Entry) -> list[str]:
        """What speaks for and against each way that a bundle can take now, in words."""
        record = entry.record
        if entry.state not in _MOVING or not record.destination.is_singleton:
            return []
        now = self._clock()
        at_s = now + self._agent.forwarding.view.utc_offset_s
        lines = []
        for route in self._routes(record, now, at_s):
            hops = "; ".join(_hop_text(hop) for hop in route["hops"])
            way = f"way {route['rank']} over {route['via']}" if route["hops"] else f"way {route['rank']}"
            lines.append(f"{way}: {route['why']}" + (f" ({hops})" if hops else ""))
        return lines

    def seconds_to(self, node: Eid) -> float:
        """How long a small bundle would take to a node by the best way; infinite where no way is known."""
        now = self._clock()
        at_s = now + self._agent.forwarding.view.utc_offset_s
        routes = self._routes(_sample(node, SMALL_BYTES, Precedence.ROUTINE, at_s), now, at_s)
        times = [float(route["takes_s"]) for route in routes if "takes_s" in route]
        if times:
            return min(times)
        return UNPLANNED_S if any(route["state"] == "static" for route in routes) else math.inf

    def _at(self, text: str | None, now: float) -> float:
        now_s = now + self._agent.forwarding.view.utc_offset_s
        if text is None:
            return now_s
        try:
            at_s = float(instant(now_s)(text))
        except (ValueProblem, SettingsError) as error:
            raise ControlError("bad_params", f"routes.list: at: {error}") from error
        if at_s < now_s - 1:
            raise ControlError("bad_params", f"routes.list: at: {text!r} is past; write a time to come")
        return at_s

    def _nodes(self, text: str | None) -> list[Eid]:
        if text is not None:
            try:
                return [check_node_id(parse_eid(text))]
            except EidError as error:
                raise ControlError("bad_params", f"routes.list: to: {error}") from error
        known = {link.id.neighbour for link in self._agent.links.links()} | set(self._router.graph.nodes)
        return sorted(known - {self._own_node}, key=str)

    def _routes(self, record: BundleRecord, now: float, at_s: float) -> list[dict[str, Any]]:
        view = self._agent.forwarding.view
        levels = self._router.ways(record, view, now, at_s)
        ways: list[Way] = []
        for level in levels:
            ways += [way for way in level if way.hops not in [each.hops for each in ways]]
        if not ways:
            return [self._static(record, now)]
        chosen = choose_ways(record, ways)
        return [_row(record, rank, way, ways[0], way in chosen, at_s) for rank, way in enumerate(ways, 1)]

    def _static(self, record: BundleRecord, now: float) -> dict[str, Any]:
        """Where no contact leads there."""
        decision = self._router.next_static(record, self._agent.forwarding.view, now)
        row: dict[str, Any] = {"to": record.destination.node.uri, "rank": 1, "via": None, "hops": []}
        if isinstance(decision, Forward):
            links = ", ".join(map(str, decision.links))
            return row | {"state": "static", "why": f"no contact leads there; by a static route over {links}"}
        return row | {"state": "none", "why": decision.reason}


def _row(record: BundleRecord, rank: int, way: Way, best: Way, is_chosen: bool, at_s: float) -> dict[str, Any]:
    return {
        "to": record.destination.node.uri,
        "rank": rank,
        "state": "chosen" if is_chosen else "other",
        "via": way.neighbour.uri,
        "links": [str(link) for link in way.links],
        "departure_ms": _unix_ms(way.legs[0].begin_s),
        "arrival_ms": _unix_ms(way.arrival_s),
        "takes_s": way.arrival_s - at_s,
        "confidence": way.confidence,
        "expected_s": way.expected_s,
        "level": way.level,
        "why": _why(way, best, is_chosen, at_s),
        "hops": [_hop(leg) for leg in way.legs],
    }


def _why(way: Way, best: Way, is_chosen: bool, at_s: float) -> str:
    takes = f"arrives after {way.arrival_s - at_s:.1f} s with probability {way.confidence:.2f}"
    if way.expected_s > way.arrival_s - at_s + 0.1:
        takes += f", counts {way.expected_s:.0f} s, a miss for all that is left of its lifetime"
    if way is best:
        return f"{takes}: the earliest of the surest{'' if way.level else ', though that is not very sure'}"
    if is_chosen:
        return f"{takes}: gets a further copy"
    if way.level < best.level:
        return f"{takes}: less sure than {_level_text(best.level)}"
    return f"{takes}: {way.expected_s - best.expected_s:.1f} s later than the best"


def _level_text(level: float) -> str:
    return f"the level of {level:.2f}" if level in LEVELS and level else "the lowest level"


def _hop(leg: Leg) -> dict[str, Any]:
    contact = leg.contact
    return {
        "from": contact.sender.uri,
        "to": contact.receiver.uri,
        "bearer": contact.bearer or None,
        "kind": contact.kind.value,
        "rate_bps": contact.rate_bps,
        "loss": contact.loss,
        "confidence": contact.confidence,
        "wait_s": leg.begin_s - leg.ready_s,
        "before_bytes": int(leg.booked_bytes),
        "send_s": leg.sent_s - leg.begin_s,
        "delay_s": contact.owd_s,
        "arrival_ms": _unix_ms(leg.arrival_s),
    }


def _hop_text(hop: dict[str, Any]) -> str:
    bearer = f" on {hop['bearer']}" if hop["bearer"] else ""
    return (
        f"to {hop['to']}{bearer}: waits {hop['wait_s']:.1f} s behind {hop['before_bytes']} bytes,"
        f" sends {hop['send_s']:.1f} s at {render_rate_bps(hop['rate_bps'])}, {hop['delay_s']:.2f} s under way"
    )


def _sample(node: Eid, size_bytes: int, precedence: int, at_s: float, lifetime_ms: int = LIFETIME_MS) -> BundleRecord:
    """A bundle made here, as it would be at that time."""
    bundle, payload = BundleId(NULL_EID, 0, 0), PayloadRef(-1, 0, size_bytes)
    now_ms = int(at_s * 1000)
    expiry_ms = now_ms + lifetime_ms
    return BundleRecord(bundle, node, precedence, expiry_ms, now_ms, size_bytes, 0, False, None, None, False, payload)


def _unix_ms(dtn_s: float) -> int:
    return int(dtn_s * 1000) + DTN_EPOCH_UNIX_S * 1000
