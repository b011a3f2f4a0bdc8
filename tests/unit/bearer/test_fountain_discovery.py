# SPDX-License-Identifier: Apache-2.0
"""The fountain bearer and neighbours that are not configured, on the loopback device."""

from collections.abc import Sequence

import pytest
import trio

from meshd.bearer.connection import accept
from meshd.bearer.fountain_settings import split_by_index
from meshd.bundle.eid import parse_eid
from meshd.link.settings import NeighbourSettings
from meshd.node.events import BundlesReceived, Event, LinkUp, LinkWritable, TransfersAcknowledged
from meshd.security.node_index import node_index
from tests.unit.bearer.fountain_peers import (
    Station,
    fountain_neighbour,
    free_ports,
    link_files,
    make_bundle,
    radio_settings,
)
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO, CHARLIE, make_link

GROUP = "239.77.3.1"


def keep(station: Station) -> None:
    """Its node keeps whatever arrives."""

    def take(event: Event) -> None:
        if isinstance(event, BundlesReceived):
            accept([row.transfer for row in event.rows])

    station.told.on_event = take


async def start(nursery: trio.Nursery, *stations: Station) -> None:
    for station in stations:
        keep(station)
        await nursery.start(station.bearer.run)


def named(station: Station, kind: str) -> list[dict[str, object]]:
    return [dict(fields) for each, fields in station.told.reports if each == kind]


def make_unicast(*, here_knows: bool, there_discovers: bool) -> tuple[Station, Station, str]:
    here, there = free_ports(2)
    known: Sequence[NeighbourSettings] = [fountain_neighbour(BRAVO, there)] if here_knows else []
    alpha = Station(ALPHA, radio_settings(listen=here), known)
    bravo = Station(BRAVO, radio_settings(listen=there, discovery=there_discovers), [])
    return alpha, bravo, here


async def test_who_is_heard_is_a_neighbour_and_where_it_sends_from_is_its_address(nursery: trio.Nursery) -> None:
    alpha, bravo, here = make_unicast(here_knows=True, there_discovers=True)
    await start(nursery, bravo, alpha)
    await bravo.told.wait_for(LinkWritable)
    await alpha.told.wait_for(LinkWritable)
    assert named(bravo, "neighbour.found") == [{"bearer": "lan0", "node": ALPHA.uri, "address": here}]
    bundle, chunks = make_bundle(1)
    bravo.bearer.send_bundles(make_link(ALPHA), [(bundle, chunks)])
    await alpha.told.wait_for(BundlesReceived)
    await bravo.told.wait_for(TransfersAcknowledged)
    (row,) = bravo.bearer.snapshot()
    assert (row["neighbour"], row["address"], row["peer"]) == (ALPHA.uri, here, "up")


async def test_a_neighbour_that_is_found_does_not_disturb_the_others(nursery: trio.Nursery) -> None:
    here, there, third = free_ports(3)
    alpha = Station(ALPHA, radio_settings(listen=here, discovery=True), [fountain_neighbour(BRAVO, there)])
    bravo = Station(BRAVO, radio_settings(listen=there), [fountain_neighbour(ALPHA, here)])
    charlie = Station(CHARLIE, radio_settings(listen=third), [fountain_neighbour(ALPHA, here)])
    await start(nursery, alpha, bravo)
    await alpha.told.wait_for(LinkWritable)
    await start(nursery, charlie)
    await charlie.told.wait_for(LinkUp)
    await alpha.told.until(lambda: len(alpha.told.all(LinkUp)) == 2)
    assert len(named(alpha, "bearer.started")) == 1
    assert {row["state"] for row in alpha.bearer.snapshot()} == {"up"}


async def test_nobody_is_found_where_discovery_is_off(nursery: trio.Nursery) -> None:
    alpha, bravo, _ = make_unicast(here_knows=True, there_discovers=False)
    await start(nursery, bravo, alpha)
    assert bravo.bearer.bound_address is None
    assert not bravo.bearer.snapshot()


async def test_a_neighbour_by_another_layer_is_not_found_by_this_one(nursery: trio.Nursery) -> None:
    here, there, third = free_ports(3)
    by_tcp = NeighbourSettings(BRAVO, "lan0", None)
    alpha = Station(ALPHA, radio_settings(listen=here, discovery=True), [by_tcp])
    bravo = Station(BRAVO, radio_settings(listen=there), [fountain_neighbour(ALPHA, here)])
    charlie = Station(CHARLIE, radio_settings(listen=third), [fountain_neighbour(ALPHA, here)])
    await start(nursery, alpha, bravo, charlie)
    await alpha.told.wait_for(LinkUp)
    assert [fields["node"] for fields in named(alpha, "neighbour.found")] == [CHARLIE.uri]


async def test_who_is_no_member_is_not_found(nursery: trio.Nursery) -> None:
    here, there, third = free_ports(3)
    files = link_files(ALPHA, without=BRAVO)
    alpha = Station(ALPHA, radio_settings(listen=here, discovery=True), [], files=files)
    bravo = Station(BRAVO, radio_settings(listen=there), [fountain_neighbour(ALPHA, here)])
    charlie = Station(CHARLIE, radio_settings(listen=third), [fountain_neighbour(ALPHA, here)])
    await start(nursery, alpha, bravo)
    await start(nursery, charlie)
    await alpha.told.wait_for(LinkUp)
    assert [fields["node"] for fields in named(alpha, "neighbour.found")] == [CHARLIE.uri]


@pytest.mark.parametrize("is_named", [False, True])
def test_nodes_with_the_same_index_can_not_be_found(*, is_named: bool) -> None:
    first_of: dict[int, str] = {}
    for number in range(2000):
        uri = f"dtn://n{number}/"
        other = first_of.setdefault(node_index(parse_eid(uri), "rad0"), uri)
        if other != uri:
            break
    first, second, third = parse_eid(other), parse_eid(uri), parse_eid("dtn://third/")
    own, others = ([first], [second, third]) if is_named else ([], [first, second, third])
    unique, alike = split_by_index("rad0", own, others)
    assert unique == [third]
    assert alike == ([second] if is_named else [first, second])
