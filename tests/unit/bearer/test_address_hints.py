# SPDX-License-Identifier: Apache-2.0
"""Which hints are believed, and what comes of them."""

import dataclasses
import random
from collections.abc import Sequence

import trio

from meshd.bearer.address_hints import FOUND_MAX, HINT_LAST_S, HINT_MIN_S, AddressHints
from meshd.bearer.bearer import Bearer
from meshd.bearer.mdns_records import Hint
from meshd.bearer.mtcp import MtcpAdapter
from meshd.bearer.tcp import TcpBearer
from meshd.bundle.eid import parse_eid
from meshd.link.settings import ConvergenceLayer, NeighbourSettings, TlsPolicy
from meshd.node.events import LinkUp
from tests.unit.bearer.fountain_peers import make_fountain_part
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO, CHARLIE, Recorder, make_bearer, make_settings

THERE = "10.0.0.2:4556"
SETTINGS = make_settings()


def make(tls: TlsPolicy = TlsPolicy.REQUIRE) -> AddressHints:
    return AddressHints(dataclasses.replace(SETTINGS, tls=tls), ALPHA)


def test_a_neighbour_without_an_address_gets_one() -> None:
    hints = make(TlsPolicy.NEVER)
    neighbour = NeighbourSettings(BRAVO, "lan0", None)
    assert hints.merge([neighbour]) == [neighbour]
    assert hints.take(Hint(BRAVO, THERE), 0.0)
    assert hints.merge([neighbour]) == [dataclasses.replace(neighbour, address=THERE)]


def test_configured_addresses_other_layers_and_other_bearers_are_left_alone() -> None:
    hints = make()
    assert hints.take(Hint(BRAVO, THERE), 0.0)
    for neighbour in (
        NeighbourSettings(BRAVO, "lan0", "10.0.0.9:4556"),
        NeighbourSettings(BRAVO, "lan0", None, cl=ConvergenceLayer.FOUNTAIN),
    ):
        assert hints.merge([neighbour]) == [neighbour]
    elsewhere = NeighbourSettings(BRAVO, "sat0", None)
    assert hints.merge([elsewhere]) == [elsewhere, NeighbourSettings(BRAVO, "lan0", THERE)]


def test_who_is_not_configured_is_a_neighbour_only_where_tls_proves_who_it_is() -> None:
    for policy in TlsPolicy:
        hints = make(policy)
        assert hints.take(Hint(CHARLIE, THERE), 0.0)
        expected = [NeighbourSettings(CHARLIE, "lan0", THERE)] if policy is TlsPolicy.REQUIRE else []
        assert hints.merge([]) == expected


def test_a_hint_is_not_replaced_at_once_and_never_about_ourselves() -> None:
    hints = make()
    assert not hints.take(Hint(ALPHA, THERE), 0.0)
    assert hints.take(Hint(BRAVO, THERE), 0.0)
    assert not hints.take(Hint(BRAVO, THERE), 1.0)
    assert not hints.take(Hint(BRAVO, "10.0.0.3:4556"), HINT_MIN_S - 1)
    assert hints.take(Hint(BRAVO, "10.0.0.3:4556"), HINT_MIN_S)


def test_only_so_many_are_kept_and_the_oldest_makes_room() -> None:
    hints = make()
    for number in range(FOUND_MAX):
        assert hints.take(Hint(parse_eid(f"dtn://n{number}/"), THERE), float(number))
    assert not hints.take(Hint(BRAVO, THERE), 100.0)
    assert hints.take(Hint(BRAVO, THERE), HINT_LAST_S + 1)
    assert len(hints.merge([])) == FOUND_MAX


async def test_a_hint_leads_the_dialer_to_the_neighbour_and_a_wrong_one_to_nobody_else(nursery: trio.Nursery) -> None:
    told, there, stranger = Recorder(), Recorder(), Recorder()
    listening = make_bearer(there, BRAVO, {ALPHA: None})
    other = make_bearer(stranger, CHARLIE, {ALPHA: None})
    for each in (listening, other):
        await nursery.start(each.run)
    neighbours = [NeighbourSettings(BRAVO, "lan0", None)]
    dialling = whole_bearer(told, neighbours)
    await nursery.start(dialling.run)
    dialling._take_hint(Hint(BRAVO, str(other.bound_address)))
    await told.wait_for_report("session.refused")
    assert not told.all(LinkUp)
    dialling.configure([])
    dialling._hints = AddressHints(SETTINGS, ALPHA)
    dialling.configure(neighbours)
    dialling._take_hint(Hint(BRAVO, str(listening.bound_address)))
    assert [event.link.neighbour for event in await told.wait_for(LinkUp)] == [BRAVO]


def whole_bearer(told: Recorder, neighbours: Sequence[NeighbourSettings]) -> Bearer:
    settings = make_settings(None)
    return Bearer(
        "lan0",
        neighbours,
        told.dispatch,
        lambda dispatch: TcpBearer(settings, neighbours, ALPHA, dispatch, told.report, random.Random(1)),
        lambda dispatch: MtcpAdapter(settings, neighbours, dispatch, told.report, random.Random(2)),
        lambda dispatch: make_fountain_part(ALPHA, settings, neighbours, told, dispatch),
    )
