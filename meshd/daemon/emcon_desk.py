# SPDX-License-Identifier: Apache-2.0
"""`emcon.*` of the control protocol: orders, the schedule, and what an order would change before it is given."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from meshd.base.errors import GateError
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.emission import EmissionControl, OrderRefusedError
from meshd.daemon.emission_status import restriction_map
from meshd.emcon.order import SCHEDULED
from meshd.emcon.profile import UnknownProfileError
from meshd.emcon.schedule import Schedule
from meshd.emcon.schedule_text import ScheduleError, parse_schedule_untrusted
from meshd.emcon.settings import Restriction
from meshd.link.link_table import Link
from meshd.link.settings import Posture
from meshd.node.agent import Agent

_ORDER: Final = ("for_s", "until_ms", "reason", "announce")


class EmconDesk:
    """Between the control server and emission control."""

    def __init__(self, agent: Agent, emission: EmissionControl, who: Callable[[SessionHandle], str]) -> None:
        self._agent = agent
        self._emission = emission
        self._who = who

    async def status(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`emcon.status`."""
        return self._emission.status()

    async def set(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`emcon.set`."""
        return await self._order(session, params["profile"], None, params)

    async def schedule(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`emcon.schedule`."""
        return await self._order(session, SCHEDULED, _schedule(params), params)

    async def preview(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`emcon.preview`."""
        schedule = _schedule(params) if params["rows"] else None
        try:
            then = self._emission.preview(params["profile"], schedule)
            limits = self._emission.preview_restrictions(params["profile"], schedule)
        except UnknownProfileError as error:
            raise ControlError("not_found", str(error)) from error
        except OrderRefusedError as error:
            raise ControlError("failed", str(error)) from error
        return self._describe(self._emission.postures, then, limits)

    async def _order(
        self, session: SessionHandle, profile: str, schedule: Schedule | None, params: dict[str, Any]
    ) -> dict[str, Any]:
        more = {name: params[name] for name in _ORDER}
        if more["for_s"] is not None and more["until_ms"] is not None:
            raise ControlError("bad_params", "an order has one end: give how long it holds, or until when")
        try:
            return await self._emission.order(profile, by=self._who(session), schedule=schedule, **more)
        except UnknownProfileError as error:
            raise ControlError("not_found", str(error)) from error
        except (OrderRefusedError, GateError) as error:
            raise ControlError("failed", str(error)) from error

    def _describe(
        self, now: Mapping[str, Posture], then: Mapping[str, Posture], limits: Mapping[str, Restriction]
    ) -> dict[str, Any]:
        """What would become of bearers, neighbours, and bundles on their way to them."""
        links = list(self._agent.links.links())
        carrying = [link for link in links if link.is_up and now[link.id.bearer].may_send]
        left = {link.id.neighbour for link in links if link.is_up and then[link.id.bearer].may_send}
        cut_off = sorted({link.id.neighbour for link in carrying} - left, key=lambda node: node.uri)
        waiting = [self._waiting(link) for link in carrying if link.id.neighbour in cut_off]
        return {
            "bearers": [
                {
                    "bearer": name,
                    "posture": posture.value,
                    "then": then[name].value,
                    "restriction": restriction_map(limits[name]) if then[name] is Posture.RESTRICTED else None,
                }
                for name, posture in now.items()
            ],
            "cut_off": [node.uri for node in cut_off],
            "waiting_bundles": sum(bundles for bundles, _ in waiting),
            "waiting_bytes": sum(size_bytes for _, size_bytes in waiting),
        }

    def _waiting(self, link: Link) -> tuple[int, int]:
        return self._agent.forwarding.queued(link.id)


def _schedule(params: dict[str, Any]) -> Schedule:
    try:
        return parse_schedule_untrusted(params["rows"], params["otherwise"], round(params["margin_s"] * 1000))
    except ScheduleError as error:
        raise ControlError("bad_params", str(error)) from error
