# SPDX-License-Identifier: Apache-2.0
"""The index of contacts, its changes by sender, and the tree to all nodes."""

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from meshd.routing.contact import Contact
from meshd.routing.contact_graph import ContactGraph
from meshd.routing.delivery_tree import DeliveryTree
from meshd.routing.search import find_route
from tests.unit.routing.contact_samples import TUTORIAL, contact, node, nodes_of, plan


def test_what_can_carry_nothing_is_left_out() -> None:
    one = contact((1, 2, 0, 10))
    empty = [msgspec.structs.replace(one, **changes) for changes in ({"rate_bps": 0}, {"loss": 1.0}, {"end_s": 0.0})]
    graph = ContactGraph([*empty, one])
    assert len(graph) == 1
    assert graph.contacts(node(1)) == graph.contacts() == [one]
    assert (graph.contacts(node(2)), graph.contacts(node(3))) == ([], [])


def test_a_contact_without_an_end_hides_no_other() -> None:
    graph = ContactGraph(plan((1, 2, 0, math.inf, 8), (1, 2, 500, 510), (1, 2, 5, 6), (1, 3, 0, 9)))
    found = find_route(graph, node(1), node(2), 1000, 100.0)
    assert found is not None
    assert found.arrival_s == 501.0


ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(0, 20), st.integers(1, 20)).map(
        lambda row: contact((row[0], (row[0] + row[1]) % 5, row[2], row[2] + row[3]))
    ),
    max_size=12,
)


@given(ROWS, ROWS, st.integers(0, 4))
def test_contacts_of_one_sender_replaced(rows: list[Contact], others: list[Contact], number: int) -> None:
    sender = node(number)
    before = ContactGraph(rows)
    arrivals = _arrivals(before)
    after = before.with_sender(sender, [each for each in others if each.sender == sender])
    kept = [each for each in rows if each.sender != sender] + [each for each in others if each.sender == sender]
    assert _arrivals(after) == _arrivals(ContactGraph(kept))
    assert _routes(after) == _routes(ContactGraph(kept))
    assert _arrivals(before) == arrivals, "the graph of before is as it was"
    assert len(before) == len(rows)


def _arrivals(graph: ContactGraph) -> list[float]:
    trees = {each: DeliveryTree(graph, node(each), 1000, 0.0) for each in range(5)}
    return [tree.arrival_s(node(each)) for source, tree in trees.items() for each in range(5) if each != source]


def _routes(graph: ContactGraph) -> list[object]:
    pairs = [(node(one), node(other)) for one in range(5) for other in range(5) if one != other]
    return [find_route(graph, one, other, 1000, 0.0) for one, other in pairs]


class TestTree:
    """Earliest arrivals at all nodes at once."""

    def test_as_each_route_by_itself(self) -> None:
        graph = ContactGraph(TUTORIAL)
        tree = DeliveryTree(graph, node(1), 1000, 0.0)
        for number in range(2, 6):
            alone, shared = find_route(graph, node(1), node(number), 1000, 0.0), tree.route_to(node(number))
            assert alone is not None
            assert shared is not None
            assert alone.arrival_s == shared.arrival_s == tree.arrival_s(node(number))

    def test_members_behind_one_contact_share_it(self) -> None:
        rows = plan((1, 2, 0, 90), (2, 3, 0, 90), (2, 4, 0, 90), (1, 5, 0, 90), (5, 4, 80, 90))
        served = DeliveryTree(ContactGraph(rows), node(1), 1000, 0.0).first_hops(map(node, (3, 4, 5, 6)))
        assert {first: [*map(nodes_of, [[first]]), members] for first, members in served.items()} == {
            rows[0]: [[1, 2], [node(3), node(4)]],
            rows[3]: [[1, 5], [node(5)]],
        }

    def test_a_source_without_contacts_reaches_nobody(self) -> None:
        tree = DeliveryTree(ContactGraph(TUTORIAL), node(9), 1, 0.0)
        assert (tree.arrival_s(node(1)), tree.route_to(node(1)), tree.first_hops([node(1)])) == (math.inf, None, {})
        assert DeliveryTree(ContactGraph(TUTORIAL), node(1), 1, 0.0).route_to(node(9)) is None
