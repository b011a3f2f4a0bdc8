# SPDX-License-Identifier: Apache-2.0
"""Static routing: direct neighbours first, routes second, the default last, and never back."""

from collections.abc import Callable, Sequence

import pytest

from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.link.identity import LinkId
from meshd.link.metric import LinkMetric
from meshd.routing.decision import Contraindicated, Forward
from meshd.routing.settings import RouteSettings
from meshd.routing.static_router import StaticRouter

HOME = parse_eid("dtn://home/")
HOME_INBOX = parse_eid("dtn://home/inbox")
DPOP2 = parse_eid("dtn://dpop2/")
DPOP3 = parse_eid("dtn://dpop3/")


class View:
    """Links by neighbour, best first; neighbours without links are down."""

    def __init__(self, **links: list[str]) -> None:
        self._links = {parse_eid(f"dtn://{node}/"): bearers for node, bearers in links.items()}
        self.version: int | None = 0
        self.volumes_bytes: dict[str, int] = {}

    @property
    def base(self) -> "View":
        """Nothing is left out."""
        return self

    @property
    def utc_offset_s(self) -> float:
        """Static routes do not ask."""
        raise AssertionError

    def links(self) -> Sequence[LinkId]:
        """All that were given."""
        return [LinkId(bearer, node) for node, bearers in self._links.items() for bearer in bearers]

    def is_open(self, bearer: str) -> bool:
        """Static routes do not ask."""
        raise AssertionError(bearer)

    def radiates(self, bearer: str) -> bool:
        """Static routes do not ask."""
        raise AssertionError(bearer)

    def backlog_bytes(self, link: LinkId, precedence: int) -> int:
        """Static routes do not ask."""
        raise AssertionError(link, precedence)

    def usable_links(self, neighbour: Eid) -> Sequence[LinkId]:
        """Those that were given."""
        return [LinkId(bearer, neighbour) for bearer in self._links.get(neighbour, [])]

    def is_neighbour(self, node: Eid) -> bool:
        """Whether the node was named."""
        return node in self._links

    def volume_bytes(self, link: LinkId) -> int | None:
        """By bearer, as given."""
        return self.volumes_bytes.get(link.bearer)

    def metric(self, link: LinkId) -> LinkMetric | None:
        """Static routes do not ask."""
        raise AssertionError(link)

    def change(self, node: str, bearers: list[str]) -> None:
        """Something happens to the links of a neighbour."""
        self._links[parse_eid(f"dtn://{node}/")] = bearers


def record(previous_node: Eid | None = None, destination: Eid = HOME_INBOX) -> BundleRecord:
    """A bundle to route."""
    return BundleRecord(
        BundleId(DPOP3, 1, 1), destination, 1, 9, 0, 5, 0, False, previous_node, None, False, PayloadRef(0, 0, 5)
    )


def hops(decision: Forward | Contraindicated) -> list[str]:
    """The links chosen."""
    assert isinstance(decision, Forward), decision
    return [f"{link.bearer}>{link.neighbour.uri}" for link in decision.links]


def why(decision: Forward | Contraindicated) -> str:
    """The reason for waiting; only a change makes a static route better."""
    assert isinstance(decision, Contraindicated), decision
    assert decision.wake_at is None
    return decision.reason


TO_HOME_BY_2 = RouteSettings(HOME, DPOP2, ())
TO_HOME_BY_3 = RouteSettings(HOME, DPOP3, ())
DEFAULT_BY_3 = RouteSettings(None, DPOP3, ())


def test_direct_neighbour_goes_before_routes() -> None:
    router = StaticRouter((TO_HOME_BY_2,))
    decision = router.choose_next_hops(record(), View(home=["sat0", "los0"], dpop2=["lan0"]), 0)
    assert hops(decision) == ["sat0>dtn://home/", "los0>dtn://home/"]


def test_route_where_the_neighbour_is_down() -> None:
    router = StaticRouter((TO_HOME_BY_2, TO_HOME_BY_3))
    assert hops(router.choose_next_hops(record(), View(home=[], dpop2=["lan0"], dpop3=["lan0"]), 0)) == [
        "lan0>dtn://dpop2/"
    ]
    assert hops(router.choose_next_hops(record(), View(home=[], dpop2=[], dpop3=["lan0"]), 0)) == ["lan0>dtn://dpop3/"]


def test_default_route_only_without_one_of_its_own() -> None:
    router = StaticRouter((TO_HOME_BY_2, DEFAULT_BY_3))
    view = View(dpop2=[], dpop3=["lan0"])
    assert "nor to its next hops dtn://dpop2/" in why(router.choose_next_hops(record(), view, 0))
    other = record(destination=parse_eid("dtn://far/x"))
    assert hops(router.choose_next_hops(other, view, 0)) == ["lan0>dtn://dpop3/"]


def test_bearers_in_the_order_of_the_route() -> None:
    router = StaticRouter((RouteSettings(HOME, DPOP2, ("los0", "lan0")),))
    assert hops(router.choose_next_hops(record(), View(dpop2=["lan0", "sat0", "los0"]), 0)) == [
        "los0>dtn://dpop2/",
        "lan0>dtn://dpop2/",
    ]
    assert "no usable link" in why(router.choose_next_hops(record(), View(dpop2=["sat0"]), 0))


@pytest.mark.parametrize("back", [HOME, DPOP2])
def test_never_back(back: Eid) -> None:
    router = StaticRouter((TO_HOME_BY_2,))
    view = View(home=["sat0"]) if back == HOME else View(dpop2=["lan0"])
    assert isinstance(router.choose_next_hops(record(back), view, 0), Contraindicated)


def test_around_the_node_that_it_came_from() -> None:
    router = StaticRouter((TO_HOME_BY_2, TO_HOME_BY_3))
    assert hops(router.choose_next_hops(record(DPOP2), View(dpop2=["lan0"], dpop3=["lan0"]), 0)) == [
        "lan0>dtn://dpop3/"
    ]


def test_a_route_by_way_of_the_destination_is_none() -> None:
    router = StaticRouter((RouteSettings(HOME, HOME, ("los0",)),))
    assert isinstance(router.choose_next_hops(record(), View(home=[]), 0), Contraindicated)


def test_reasons() -> None:
    router = StaticRouter(())
    assert why(router.choose_next_hops(record(), View(), 0)).startswith("no route to dtn://home/")
    assert "are down or silent" in why(router.choose_next_hops(record(), View(home=[]), 0))


def test_a_decision_holds_until_the_view_has_another_version() -> None:
    router, view = StaticRouter(()), View(home=["los0"])
    assert hops(router.choose_next_hops(record(), view, 0)) == ["los0>dtn://home/"]
    view.change("home", ["sat0"])
    assert hops(router.choose_next_hops(record(), view, 0)) == ["los0>dtn://home/"]
    assert why(router.choose_next_hops(record(previous_node=HOME), view, 0)).startswith("the links to neighbour")
    view.version = 1
    assert hops(router.choose_next_hops(record(), view, 0)) == ["sat0>dtn://home/"]
    assert hops(router.choose_next_hops(record(), View(home=["lan0"]), 0)) == ["lan0>dtn://home/"]
    view.version = None
    view.change("home", ["los0"])
    assert hops(router.choose_next_hops(record(), view, 0)) == ["los0>dtn://home/"]


def test_remembered_decisions_are_bounded(set_limit: Callable[[str, int], None]) -> None:
    set_limit("meshd.routing.static_router.REMEMBERED_MAX", 3)
    router, view = StaticRouter(()), View(home=["los0"])
    for number in range(10):
        router.choose_next_hops(record(destination=parse_eid(f"dtn://home/{number}")), view, 0)
        assert len(router._decisions) <= 3


def test_the_volume_of_a_link_goes_along() -> None:
    view = View(home=["los0", "sat0"])
    view.volumes_bytes = {"sat0": 5000}
    decision = StaticRouter(()).choose_next_hops(record(), view, 0)
    assert isinstance(decision, Forward)
    assert decision.volumes_bytes == {LinkId("sat0", HOME): 5000}
