# SPDX-License-Identifier: Apache-2.0
"""Routes: the earliest arrival, the order of choice among equals, and the conditions."""

import math
from functools import partial

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from meshd.link.identity import LinkId
from meshd.routing.contact import Contact
from meshd.routing.contact_graph import ContactGraph
from meshd.routing.earliest_arrival import ANY_ROUTE, Conditions
from meshd.routing.route import VOLUME_MAX_BYTES, Route, walk
from meshd.routing.search import find_route, find_routes
from tests.unit.routing.contact_samples import TUTORIAL, best_by_trying, contact, node, nodes_of, plan


def route(
    contacts: list[Contact], conditions: Conditions = ANY_ROUTE, size_bytes: int = 1000, start_s: float = 0.0
) -> Route | None:
    """The best one from the first line's sender to the last one's receiver."""
    return find_route(
        ContactGraph(contacts), contacts[0].sender, contacts[-1].receiver, size_bytes, start_s, conditions
    )


def test_a_bundle_waits_at_a_node_for_the_next_contact() -> None:
    found = route(plan((1, 2, 0, 10), (2, 3, 100, 110)))
    assert found is not None
    assert (found.departure_s, found.arrival_s, found.ends_s) == (0.0, 101.0, 10.0)
    assert found.volume_bytes == 10_000


def test_rate_delay_and_loss_make_the_arrival() -> None:
    hop = msgspec.structs.replace(contact((1, 2, 5, 100, 16_000, 0.25)), loss=0.5)
    found = route([hop], size_bytes=2000)
    assert found is not None
    assert found.arrival_s == 5 + 2.0 + 0.25


def test_what_is_not_sent_by_the_end_goes_another_way() -> None:
    contacts = plan((1, 2, 0, 1.5), (1, 3, 20, 40), (3, 2, 20, 40), (1, 2, 90, 99))
    short, long = route(contacts, size_bytes=1500), route(contacts, size_bytes=1501)
    assert short is not None
    assert long is not None
    assert (nodes_of(short.hops), nodes_of(long.hops)) == ([1, 2], [1, 3, 2])


def test_no_route_and_unknown_nodes() -> None:
    graph = ContactGraph(plan((1, 2, 35, 40), (2, 3, 20, 40), (3, 4, 20, 25)))
    assert find_route(graph, node(1), node(4), 1, 0.0) is None
    assert find_route(graph, node(1), node(9), 1, 0.0) is None
    assert find_route(graph, node(9), node(1), 1, 0.0) is None


def test_without_an_end_the_volume_has_none_either() -> None:
    found = route(plan((1, 2, 0, math.inf)))
    assert found is not None
    assert found.volume_bytes == VOLUME_MAX_BYTES
    assert found.ends_s == math.inf


class TestAmongEquals:
    """Arrivals are equal where all wait for the same contact."""

    def test_fewest_hops(self) -> None:
        found = route(plan((1, 2, 0, 9), (2, 3, 0, 9), (1, 3, 20, 40), (3, 4, 50, 60)))
        assert found is not None
        assert nodes_of(found.hops) == [1, 3, 4]

    def test_then_the_latest_termination(self) -> None:
        found = route(plan((1, 2, 0, 30), (1, 3, 0, 40), (2, 4, 0, 90), (3, 4, 0, 90), (4, 5, 50, 60)))
        assert found is not None
        assert (nodes_of(found.hops), found.ends_s) == ([1, 3, 4, 5], 40)

    def test_then_the_smallest_id_as_a_number(self) -> None:
        found = route(plan((1, 10, 0, 40), (1, 9, 0, 40), (10, 4, 0, 90), (9, 4, 0, 90), (4, 5, 50, 60)))
        assert found is not None
        assert nodes_of(found.hops) == [1, 9, 4, 5]

    def test_real_times_are_compared_as_exactly_as_floats_allow(self) -> None:
        start_s = 820_454_400.123
        rows = plan((1, 2, 0, 9), (2, 3, 0, 9.7), (1, 3, 3.3, 9.9), (3, 4, 50.1, 60), (4, 5, 50.1, 70))
        shifted = [
            msgspec.structs.replace(each, start_s=each.start_s + start_s, end_s=each.end_s + start_s) for each in rows
        ]
        found = route(shifted, size_bytes=333, start_s=start_s)
        assert found is not None
        assert nodes_of(found.hops) == [1, 3, 4, 5]


class TestConditions:
    """What a route has to keep to."""

    contacts = plan((1, 2, 0, 90), (2, 4, 0, 90), (1, 3, 10, 90), (3, 4, 10, 90))

    def test_confidence(self) -> None:
        unsure = [msgspec.structs.replace(self.contacts[0], confidence=0.9), *self.contacts[1:]]
        likely, sure = route(unsure, Conditions(confidence_min=0.9)), route(unsure, Conditions(confidence_min=0.95))
        assert likely is not None
        assert sure is not None
        assert (nodes_of(likely.hops), nodes_of(sure.hops)) == ([1, 2, 4], [1, 3, 4])
        assert likely.confidence == 0.9

    def test_radiating(self) -> None:
        loud = [self.contacts[0], msgspec.structs.replace(self.contacts[1], radiates=True), *self.contacts[2:]]
        for conditions in (Conditions(radiating=False), Conditions(silent_nodes=[node(2)])):
            found = route(loud, conditions)
            assert found is not None
            assert nodes_of(found.hops) == [1, 3, 4]
        still = route(loud, Conditions(silent_nodes=[node(1), node(9)]))
        assert still is not None
        assert nodes_of(still.hops) == [1, 2, 4], "contacts that do not radiate are left to a silent node"

    def test_excluded(self) -> None:
        for conditions in (
            Conditions(excluded_neighbours=[node(2)]),
            Conditions(excluded_nodes=[node(2)]),
            Conditions(excluded_links=[LinkId("", node(2))]),
        ):
            found = route(self.contacts, conditions)
            assert found is not None
            assert nodes_of(found.hops) == [1, 3, 4]
        assert route(self.contacts, Conditions(excluded_nodes=[node(2), node(3)])) is None
        assert route(self.contacts, Conditions(excluded_nodes=[node(4)])) is None

    def test_a_neighbour_that_is_no_first_hop_may_be_a_later_one(self) -> None:
        contacts = plan((1, 2, 0, 90), (1, 3, 0, 90), (3, 2, 0, 90), (2, 4, 0, 90))
        found = route(contacts, Conditions(excluded_neighbours=[node(2)]))
        assert found is not None
        assert nodes_of(found.hops) == [1, 3, 2, 4]

    def test_deadline(self) -> None:
        assert route(self.contacts, Conditions(deadline_s=2.0)) is not None
        assert route(self.contacts, Conditions(deadline_s=1.999)) is None

    def test_booked(self) -> None:
        volumes = {self.contacts[0]: 20_000.0}
        found = route(self.contacts, Conditions(booked=partial(_volume, volumes)))
        assert found is not None
        assert (nodes_of(found.hops), found.arrival_s) == ([1, 3, 4], 12.0)
        volumes[self.contacts[2]] = 9000.0
        found = route(self.contacts, Conditions(booked=partial(_volume, volumes)))
        assert found is not None
        assert (found.departure_s, found.arrival_s, found.volume_bytes) == (19.0, 21.0, 70_000)
        volumes[self.contacts[2]] = math.inf
        found = route(self.contacts, Conditions(booked=partial(_volume, volumes)))
        assert found is not None
        assert (nodes_of(found.hops), found.volume_bytes) == ([1, 2, 4], 69_000)

    def test_what_is_booked_ahead_of_now_begins_now(self) -> None:
        found = route(self.contacts[:2], Conditions(booked=lambda each: 1000.0), start_s=50.0)
        assert found is not None
        assert found.departure_s == 51.0


class TestAlternatives:
    """Other first links."""

    def test_tutorial(self) -> None:
        found = find_routes(ContactGraph(TUTORIAL), node(1), node(5), 0, 0.0)
        assert [each.next_node for each in found] == [node(3), node(2), node(5)]
        assert [each.arrival_s for each in found] == [3, 4, 11]

    def test_tutorial_all_seven(self) -> None:
        """Yen's algorithm over contacts, with contacts taken away by booking them out."""
        graph, asked = ContactGraph(TUTORIAL), (node(1), node(5))
        known: list[Route] = []
        candidates = {each.hops: each for each in [find_route(graph, *asked, 0, 0.0)] if each is not None}
        while candidates:
            best = min(candidates.values(), key=lambda each: (each.arrival_s, len(each.hops)))
            known.append(candidates.pop(best.hops))
            for position in range(len(best.hops)):
                root = best.hops[:position]
                taken = {each.hops[position]: math.inf for each in known if each.hops[:position] == root}
                ready_s = walk(root, 0, 0.0)[-1].arrival_s if root else 0.0
                conditions = Conditions(
                    excluded_nodes=[each.sender for each in root],
                    booked=partial(_volume, taken),
                )
                spur = find_route(graph, best.hops[position].sender, node(5), 0, ready_s, conditions)
                if spur is not None and root + spur.hops not in {each.hops for each in known}:
                    candidates[root + spur.hops] = msgspec.structs.replace(spur, hops=root + spur.hops)
        assert [each.arrival_s for each in known] == [3, 4, 11, 31, 31, 51, 51]
        assert [each.next_node for each in known[:3]] == [node(3), node(2), node(5)]

    def test_parallel_links_to_one_neighbour(self) -> None:
        contacts = [contact((1, 2, 0, 90), "los0"), contact((1, 2, 0, 90, 800), "satcom0")]
        found = find_routes(ContactGraph(contacts), node(1), node(2), 1000, 0.0)
        assert [each.next_link.bearer for each in found] == ["los0", "satcom0"]

    def test_no_more_than_asked(self) -> None:
        assert len(find_routes(ContactGraph(TUTORIAL), node(1), node(5), 0, 0.0, routes_max=2)) == 2


def _volume(volumes: dict[Contact, float], contact: Contact) -> float:
    return volumes.get(contact, 0.0)


CONTACTS = st.lists(
    st.builds(
        lambda sender, step, start, length, rate, owd, bearer: contact(
            (sender, (sender + step) % 5, start, start + length, rate, owd), bearer
        ),
        st.integers(0, 4),
        st.integers(1, 4),
        st.integers(0, 12),
        st.integers(1, 20),
        st.sampled_from((8000, 4000)),
        st.sampled_from((0.0, 1.0)),
        st.sampled_from(("los0", "satcom0")),
    ),
    max_size=11,
)
TIMES = st.integers(0, 15).map(float)


@given(CONTACTS, TIMES)
def test_as_good_as_trying_all(contacts: list[Contact], start_s: float) -> None:
    found = find_route(ContactGraph(contacts), node(0), node(1), 1000, start_s)
    best = best_by_trying(contacts, node(0), node(1), 1000, start_s)
    assert (None if found is None else _quality(found.hops, start_s)) == (best and _quality(best, start_s))


def _quality(hops: tuple[Contact, ...], start_s: float) -> tuple[object, ...]:
    names = [(hop.receiver.uri, hop.bearer) for hop in hops]
    return walk(hops, 1000, start_s)[-1].arrival_s, len(hops), min(hop.end_s for hop in hops), names


@given(CONTACTS, TIMES, TIMES)
def test_who_starts_later_never_arrives_earlier(contacts: list[Contact], one_s: float, other_s: float) -> None:
    graph = ContactGraph(contacts)
    early, late = (find_route(graph, node(0), node(1), 1000, each) for each in sorted((one_s, other_s)))
    assert late is None or (early is not None and early.arrival_s <= late.arrival_s)


@given(CONTACTS, TIMES)
def test_no_node_twice(contacts: list[Contact], start_s: float) -> None:
    for each in find_routes(ContactGraph(contacts), node(0), node(1), 1000, start_s):
        numbers = nodes_of(each.hops)
        assert len(set(numbers)) == len(numbers)


@given(CONTACTS, TIMES, st.sets(st.integers(2, 4)))
def test_never_by_way_of_a_silent_node(contacts: list[Contact], start_s: float, silent: set[int]) -> None:
    loud = [msgspec.structs.replace(each, radiates=True) for each in contacts]
    conditions = Conditions(silent_nodes=[node(each) for each in silent])
    for each in find_routes(ContactGraph(loud), node(0), node(1), 1000, start_s, conditions):
        assert silent.isdisjoint(nodes_of(each.hops)[:-1])
