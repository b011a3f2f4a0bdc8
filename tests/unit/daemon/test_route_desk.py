# SPDX-License-Identifier: Apache-2.0
"""Routes as people see them: every candidate with its arithmetic, and why one is preferred."""

from typing import Any, cast

import pytest

from meshd.bundle.eid import parse_eid
from meshd.control.errors import ControlError
from meshd.control.methods import METHODS
from meshd.control.params import check_params
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.route_desk import RouteDesk
from meshd.routing.contact import Contact
from meshd.routing.contact_router import ContactRouter
from meshd.routing.settings import RouteSettings
from tests.unit.node.playbook import DPOP2, HOME, LAN, NODE, SAT, START_S, STRANGER, UTC_OFFSET_MS, Playbook

T = START_S + UTC_OFFSET_MS / 1000
SESSION = cast(SessionHandle, object())


class Desk:
    """A desk at a node whose neighbours dpop2 and home meet the stranger later."""

    def __init__(self, *routes: RouteSettings) -> None:
        self.play = Playbook(routes)
        for neighbour, start_s in ((DPOP2, 100), (HOME, 50)):
            self.play.plan.add([Contact(neighbour, STRANGER, "x", T + start_s, T + 200, 8000, 0.5)])
        self.play.up(LAN, SAT)
        router = self.play.agent.forwarding.router
        assert isinstance(router, ContactRouter)
        self.desk = RouteDesk(self.play.agent, router, NODE, lambda: self.play.now)

    async def routes(self, **params: Any) -> list[dict[str, Any]]:
        """As the control server asks."""
        checked = check_params("routes.list", METHODS["routes.list"].params, params)
        reply: list[dict[str, Any]] = (await self.desk.list_routes(SESSION, checked))["routes"]
        return reply


async def test_every_way_with_its_arithmetic() -> None:
    best, other = await Desk().routes(to="dtn://stranger/", size_bytes=1000)
    assert (best["state"], best["via"], best["rank"], round(best["takes_s"], 3)) == ("chosen", HOME.uri, 1, 51.5)
    assert (other["state"], other["via"], round(other["takes_s"], 3)) == ("other", DPOP2.uri, 101.5)
    assert other["why"] == "arrives after 101.5 s with probability 1.00: 50.0 s later than the best"
    hop = best["hops"][1]
    assert (hop["from"], hop["to"], hop["kind"], round(hop["send_s"], 3)) == (HOME.uri, STRANGER.uri, "scheduled", 1.0)
    assert hop["wait_s"] == pytest.approx(50, abs=1.5)


async def test_what_is_not_sure_counts_by_what_is_left_of_the_lifetime() -> None:
    """The relay gets it there 400 s earlier, if both of its contacts come about."""
    desk = Desk()
    far = parse_eid("dtn://far/")
    desk.play.plan.add(
        [
            Contact(HOME, DPOP2, "x", T + 10, T + 60, 8000, 0.5, confidence=0.7),
            Contact(DPOP2, far, "x", T + 100, T + 200, 8000, 0.5, confidence=0.7),
            Contact(HOME, far, "x", T + 500, T + 600, 8000, 0.5, confidence=0.7),
        ]
    )
    best, other = await desk.routes(to=far.uri, lifetime_ms=3_600_000)
    assert (best["via"], other["via"]) == (DPOP2.uri, HOME.uri)
    assert best["expected_s"] == pytest.approx(0.7 * best["takes_s"] + 0.3 * 3600, abs=1)
    counts = f", counts {best['expected_s']:.0f} s, a miss for all that is left of its lifetime"
    assert best["why"].endswith(f"{counts}: the earliest of the surest")
    (none,) = await desk.routes(to=far.uri, lifetime_ms=90_000)
    assert none["state"] == "none", "no way is as quick"


async def test_at_another_time_and_to_all() -> None:
    desk = Desk()
    (best, _) = await desk.routes(to="dtn://stranger/", at="+150 s")
    assert best["takes_s"] == pytest.approx(1024 / 1000 + 0.5, abs=0.5)
    assert {route["to"] for route in await desk.routes()} == {DPOP2.uri, HOME.uri, STRANGER.uri}


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"to": "home"}, "to: 'home' is no endpoint ID"),
        ({"at": "soon"}, "at: 'soon' is no time"),
        ({"at": "2001-01-01T00:00:00Z"}, "is past"),
    ],
)
async def test_refusals(params: dict[str, Any], text: str) -> None:
    with pytest.raises(ControlError, match=text):
        await Desk().routes(**params)


async def test_static_routes_and_none() -> None:
    far = parse_eid("dtn://far/")
    (route,) = await Desk(RouteSettings(far, DPOP2, ())).routes(to=far.uri)
    assert (route["state"], route["why"]) == (
        "static",
        "no contact leads there; by a static route over lan0>dtn://dpop2/",
    )
    (route,) = await Desk().routes(to=far.uri)
    assert (route["state"], "no route to dtn://far/" in route["why"]) == ("none", True)


def test_a_bundle_that_is_here_is_explained() -> None:
    desk = Desk()
    desk.play.bundle("a", parse_eid("dtn://stranger/inbox"))
    desk.play.take_in("a", link=LAN)
    entry = desk.play.agent.entry(desk.play.id("a"))
    assert entry is not None
    (line,) = desk.desk.arithmetic(entry)
    assert line.startswith("way 1 over dtn://home/: arrives after 5")
    assert "to dtn://stranger/ on x: waits" in line
