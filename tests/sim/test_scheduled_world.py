# SPDX-License-Identifier: Apache-2.0
"""Whole nodes on contact schedules: one-way links, outages, mobility; the short form of what routing_table prints."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.routing.decision import Router
from tests.sim.mobility import Terrain, moving_contacts
from tests.sim.scenario import DAY_S, Day, Load, Scenario, names, random_day, random_loads, with_gaps, with_outages
from tests.sim.scheduled_world import ScheduledWorld

SLOW_BPS = (300, 1200, 2400)
"""Messages of these simulations are small."""
DAY = Day(bundles=60, rate_bps=SLOW_BPS, outage=0.3, one_way=0.2)


def _direct(node: Eid, plan: tuple[Contact, ...]) -> Router:
    """Knows no plan: waits for a contact with the destination."""
    return ContactRouter(node, ContactPlan())


def _planned(node: Eid, plan: tuple[Contact, ...]) -> Router:
    return ContactRouter(node, ContactPlan(plan))


@pytest.mark.parametrize("seed", range(4))
def test_a_day_of_contacts_outages_and_crashes_loses_nothing(seed: int) -> None:
    oracle = ScheduledWorld(seed, random_day(seed, DAY), _direct).run(crashes=10)
    assert oracle.accepted_messages() > 40
    assert oracle.crashes > 0


def test_a_bundle_that_an_outage_leads_back_is_taken_again() -> None:
    home, near, far, other = nodes = names(4)
    broken = Contact(other, far, "los0", 150.0, 200.0, 1200, 0.1)
    actual = (
        Contact(home, near, "los0", 20.0, 60.0, 1200, 0.1),
        Contact(near, other, "los0", 80.0, 120.0, 1200, 0.1),
        Contact(other, home, "los0", 500.0, 600.0, 1200, 0.1),
        Contact(home, far, "los0", 700.0, 800.0, 1200, 0.1),
    )
    loads = (Load(0, home, far, 1, 100, 10.0, DAY_S),)
    world = ScheduledWorld(1, Scenario(nodes, (*actual[:2], broken, *actual[2:]), actual, loads, 10**6), _planned)
    oracle = world.run()
    assert 700.0 < oracle.offered_s[1] - world.begin_s < 800.0


@pytest.mark.parametrize("seed", [1, 4])
def test_nothing_is_lost_where_plans_fail(seed: int) -> None:
    """Routers that know the plan lead bundles around outages and back."""
    oracle = ScheduledWorld(seed, random_day(seed, replace(DAY, bundles=100)), _planned).run()
    assert oracle.accepted_messages() == 100


def test_a_seed_replays_exactly() -> None:
    first, second = (ScheduledWorld(5, random_day(5, DAY), _direct).run(crashes=5) for _ in range(2))
    assert first.trace.digest() == second.trace.digest()
    assert first.trace.digest() != ScheduledWorld(6, random_day(5, DAY), _direct).run(crashes=5).trace.digest()


def test_moving_nodes_meet_and_deliver() -> None:
    rng = random.Random(3)
    nodes = names(5)
    contacts = moving_contacts(rng, nodes, Terrain(rate_bps=1200))
    scenario = Scenario(nodes, contacts, contacts, random_loads(rng, nodes, DAY), DAY.buffer_bytes)
    world = ScheduledWorld(3, scenario, _direct)
    world.run()
    assert world.delivered_by_day() > 0.5


def test_a_one_way_link_carries_one_way() -> None:
    first, second = nodes = names(2)
    contact = Contact(first, second, "los0", 100.0, 5000.0, 1200, 0.1)
    loads = (Load(0, first, second, 1, 100, 10.0, DAY_S), Load(1, second, first, 1, 100, 10.0, DAY_S))
    world = ScheduledWorld(1, Scenario(nodes, (contact,), (contact,), loads, 10**6), _direct)
    oracle = world.run()
    assert 100.0 < oracle.offered_s[1] - world.begin_s < 110.0
    assert oracle.offered_s[2] - world.begin_s > DAY_S, "only in peace"


# What scenarios are made of


def test_an_outage_takes_both_directions_of_a_meeting() -> None:
    plan = random_day(1, Day(one_way=0.0)).plan
    left = with_outages(random.Random(1), plan, 0.3)
    assert 0.6 < len(left) / len(plan) < 0.8
    meetings = {(contact.sender, contact.receiver, contact.start_s) for contact in left}
    assert all((receiver, sender, start_s) in meetings for sender, receiver, start_s in meetings)
    assert with_outages(random.Random(1), plan, 0.0) == plan


def test_gaps_take_their_share_of_the_time() -> None:
    first, second = names(2)
    plan = [Contact(first, second, "los0", 0.0, DAY_S, 1200, 0.1)]
    shares = []
    for seed in range(20):
        left = with_gaps(random.Random(seed), plan, 0.3)
        shares.append(sum(contact.end_s - contact.start_s for contact in left) / DAY_S)
        assert all(one.end_s < other.start_s for one, other in pairwise(left))
    assert 0.65 < sum(shares) / len(shares) < 0.75
    assert with_gaps(random.Random(1), plan, 0.0) == tuple(plan)


def test_range_makes_one_way_links() -> None:
    nodes = names(7)
    contacts = moving_contacts(random.Random(1), nodes, Terrain())
    both = {(contact.sender, contact.receiver, contact.start_s, contact.end_s) for contact in contacts}
    mirrored = {(receiver, sender, *times) for sender, receiver, *times in both}
    assert both - mirrored, "some node reaches further than the other"
    equal = moving_contacts(random.Random(1), nodes, Terrain(range_m=(7000.0, 7000.0)))
    assert {structs.replace(each, sender=each.receiver, receiver=each.sender) for each in equal} == set(equal)
