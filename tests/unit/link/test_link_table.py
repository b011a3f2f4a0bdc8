# SPDX-License-Identifier: Apache-2.0
"""The neighbour table: configured and unexpected links, postures, and the order of bearers."""

from dataclasses import replace
from typing import Any

import pytest

from meshd.bundle.eid import parse_eid
from meshd.link.identity import LinkId
from meshd.link.link_table import LinkTable
from meshd.link.metric import LinkSample
from meshd.link.settings import BearerKind, BearerSettings, NeighbourSettings, Posture, RadioSettings, TlsPolicy
from meshd.link.switching import EVALUATIONS

DPOP2 = parse_eid("dtn://dpop2/")
HOME = parse_eid("dtn://home/")


def bearer(name: str, rate_bps: int) -> BearerSettings:
    """A bearer of this rate."""
    return BearerSettings(name, BearerKind.LOS, name, True, None, rate_bps, 0, 15)


BEARERS = (bearer("slow", 1000), bearer("quick", 5000), bearer("also", 5000))
SLOW, QUICK, ALSO = (LinkId(name, DPOP2) for name in ("slow", "quick", "also"))


def neighbours(*links: LinkId) -> list[NeighbourSettings]:
    """Settings of these links."""
    return [NeighbourSettings(link.neighbour, link.bearer, None) for link in links]


def table(*links: LinkId) -> LinkTable:
    """A table with these configured."""
    return LinkTable(BEARERS, neighbours(*links), 10.0)


def test_a_configured_link_is_down_at_first() -> None:
    links = table(SLOW)
    row = links.get(SLOW)
    assert row is not None
    assert (row.is_up, row.since, row.reason) == (False, 10.0, "not connected yet")
    assert links.is_neighbour(DPOP2)
    assert not links.is_neighbour(HOME)
    assert links.usable_links(DPOP2) == []
    assert links.usable_links(HOME) == []


def test_up_and_down() -> None:
    links = table(SLOW)
    row = links.mark_up(SLOW, 20.0)
    assert (row.is_up, row.since, row.reason, links.is_usable(SLOW)) == (True, 20.0, "", True)
    links.mark_down(SLOW, "cut", 30.0)
    assert (row.is_up, row.since, row.reason, links.is_usable(SLOW)) == (False, 30.0, "cut", False)
    assert links.get(SLOW) is row


def test_best_rate_first_then_name() -> None:
    links = table(SLOW, QUICK, ALSO)
    for link in (SLOW, QUICK, ALSO):
        links.mark_up(link, 0)
    assert links.usable_links(DPOP2) == [ALSO, QUICK, SLOW]


def test_posture_makes_a_link_unusable_not_down() -> None:
    links = table(SLOW, QUICK)
    links.mark_up(SLOW, 0)
    links.mark_up(QUICK, 0)
    links.set_postures({"quick": Posture.RX_ONLY})
    assert (links.posture("quick"), links.posture("slow")) == (Posture.RX_ONLY, Posture.OPEN)
    assert links.usable_links(DPOP2) == [SLOW]
    links.set_postures({})
    assert links.usable_links(DPOP2) == [QUICK, SLOW]


def test_unexpected_neighbour_lives_as_long_as_its_session() -> None:
    links = table()
    stranger = LinkId("slow", HOME)
    row = links.mark_up(stranger, 5.0)
    assert not row.is_configured
    assert links.usable_links(HOME) == [stranger]
    links.mark_down(stranger, "cut", 6.0)
    assert links.get(stranger) is None
    assert not links.is_neighbour(HOME)
    links.mark_down(stranger, "again", 7.0)


def test_removed_from_the_configuration_while_up() -> None:
    links = table(SLOW, QUICK)
    links.mark_up(SLOW, 0)
    links.configure([], 1.0)
    assert [row.id for row in links.links()] == [SLOW]
    links.mark_down(SLOW, "cut", 2.0)
    assert list(links.links()) == []


def test_configured_while_up_stays_when_down() -> None:
    links = table()
    row = links.mark_up(SLOW, 0)
    links.configure(neighbours(SLOW), 1.0)
    links.mark_down(SLOW, "cut", 2.0)
    assert links.get(SLOW) is row


def test_one_of_two_links_to_a_neighbour_goes() -> None:
    links = table(SLOW, QUICK)
    links.configure(neighbours(QUICK), 1.0)
    links.mark_up(QUICK, 1.0)
    assert links.usable_links(DPOP2) == [QUICK]
    assert str(QUICK) == "quick>dtn://dpop2/"


def test_the_order_follows_what_is_measured() -> None:
    links = table(QUICK, ALSO)
    for link in (QUICK, ALSO):
        links.mark_up(link, 0)
    version = links.version
    assert links.usable_links(DPOP2) == [ALSO, QUICK]
    for second in range(2 * EVALUATIONS):
        links.measure(ALSO, LinkSample(goodput_bps=100), float(second))
    assert links.usable_links(DPOP2) == [QUICK, ALSO]
    assert links.version > version
    metric = links.metric(ALSO)
    assert metric is not None
    assert metric.rate_bps < 5000


def test_a_link_that_returns_has_to_prove_itself() -> None:
    links = table(SLOW, QUICK)
    for link in (SLOW, QUICK):
        links.mark_up(link, 0)
    links.mark_down(QUICK, "cut", 1.0)
    assert links.usable_links(DPOP2) == [SLOW]
    links.mark_up(QUICK, 2.0)
    orders = []
    for second in range(EVALUATIONS):
        orders.append(links.usable_links(DPOP2))
        links.measure(QUICK, LinkSample(rtt_s=0.1), 3.0 + second)
    assert orders == [[SLOW, QUICK]] * EVALUATIONS
    assert links.usable_links(DPOP2) == [QUICK, SLOW]
    metric = links.metric(QUICK)
    assert metric is not None
    assert (metric.outages, metric.mean_outage_s) == (1, 1.0)


def test_what_is_measured_on_a_link_that_is_gone_is_passed_over() -> None:
    links = table(SLOW)
    links.measure(QUICK, LinkSample(goodput_bps=1), 1.0)
    assert links.metric(QUICK) is None


@pytest.mark.parametrize(
    ("changes", "ceiling"),
    [({}, 1), ({"radio": RadioSettings(discovery=True)}, 2), ({"tls": TlsPolicy.REQUIRE}, 2)],
)
def test_who_is_found_and_proven_may_claim_what_it_may_elsewhere(changes: dict[str, Any], ceiling: int) -> None:
    bearers = (replace(BEARERS[0], **changes), *BEARERS[1:])
    configured = [NeighbourSettings(DPOP2, "quick", None, 4), NeighbourSettings(DPOP2, "also", None, 2)]
    links = LinkTable(bearers, configured, 10.0)
    assert [links.precedence_max(each) for each in (SLOW, QUICK, ALSO)] == [ceiling, 4, 2]
    assert links.precedence_max(LinkId("slow", HOME)) == 1, "nothing is configured of it"
