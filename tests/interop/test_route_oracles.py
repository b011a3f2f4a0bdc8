# SPDX-License-Identifier: Apache-2.0
"""Arrivals on random plans as two others find them: the search of aiodtnsim's SABR node over a graph of dtn-tvg-util,
and aiodtnsim's simulation of what happens when every node passes on what it has to everybody it meets.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from aiodtnsim import Contact as SimContact
from aiodtnsim import EventDispatcher, Message
from aiodtnsim.simulation.cgr.tvdijkstra import tvdijkstra
from aiodtnsim.simulation.event_loop import DESEventLoop
from aiodtnsim.simulation.scheduling_event_node import SchedulingEventNode
from tvgutil import tvg
from tvgutil.contact_plan import SimpleContactTuple

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from meshd.routing.contact_graph import ContactGraph
from meshd.routing.delivery_tree import DeliveryTree
from meshd.routing.search import find_route

NODES: Final = [Eid(f"ipn:{number}.0") for number in range(1, 8)]
PLANS: Final = 1000
DAY_S: Final = 86_400.0
EXACT_S: Final = 1e-6


def random_plan(rng: random.Random) -> list[Contact]:
    """Up to 40 contacts of a day; those of one pair of nodes don't overlap, as the search of aiodtnsim wants it."""
    until_s: dict[tuple[Eid, Eid], float] = {}
    contacts = []
    for start_s in sorted(rng.uniform(0, DAY_S) for _ in range(rng.randint(1, 40))):
        pair = tuple(rng.sample(NODES, 2))
        if start_s < until_s.get((pair[0], pair[1]), 0.0):
            continue
        end_s = start_s + rng.choice((60.0, 600.0, 6000.0)) * rng.uniform(0.5, 2)
        until_s[pair[0], pair[1]] = end_s
        rate_bps, owd_s = rng.choice((9600, 64_000, 2_000_000)), rng.uniform(0, 30)
        contacts.append(Contact(pair[0], pair[1], "", start_s, end_s, rate_bps, owd_s))
    return contacts


@pytest.mark.parametrize("seed", range(0, PLANS, 100))
def test_as_a_search_without_sizes_finds_it(seed: int) -> None:
    reached = 0
    for number in range(seed, seed + 100):
        rng = random.Random(number)
        contacts, start_s = random_plan(rng), rng.uniform(0, DAY_S / 2)
        rows = [
            SimpleContactTuple(each.sender, each.receiver, each.start_s, each.end_s, each.rate_bps, 0.0, each.owd_s)
            for each in contacts
        ]
        graph = tvg.from_contact_plan(rows, contact_type=SimpleContactTuple)
        source = rows[0].tx_node
        found = tvdijkstra(graph, source, start_time=start_s, node_blacklist=(), contact_blacklist=())
        tree = DeliveryTree(ContactGraph(contacts), source, 0, start_s)
        reached += sum(tree.arrival_s(node) < math.inf for node in graph.vertices)
        for node in graph.vertices:
            assert _equal(tree.arrival_s(node), found.get_metrics(node).eat), f"plan {number}, {node}"
    assert reached > 200, "plans on which there is something to find"


@pytest.mark.parametrize("seed", range(0, PLANS, 100))
def test_as_a_flood_arrives(seed: int) -> None:
    """Whoever floods an otherwise empty network finds the earliest arrival, sizes and ends of contacts included."""
    reached = 0
    for number in range(seed, seed + 100):
        rng = random.Random(number)
        contacts, size_bytes = random_plan(rng), rng.choice((100, 10_000, 200_000))
        start_s = rng.uniform(0, DAY_S / 4)
        source, destination = contacts[0].sender, contacts[-1].receiver
        if source == destination:
            continue
        route = find_route(ContactGraph(contacts), source, destination, size_bytes, start_s)
        arrival_s = _flood(contacts, source, destination, size_bytes, start_s)
        assert _equal(math.inf if route is None else route.arrival_s, arrival_s), f"plan {number}"
        reached += route is not None
    assert reached > 20, "plans on which there is something to find"


def _equal(one_s: float, other_s: float) -> bool:
    return one_s == other_s or abs(one_s - other_s) < EXACT_S


async def _send_all_once(self: Any, rx_node: object) -> AsyncIterator[tuple[Message, None]]:
    """What a flooding node sends in one contact."""
    sent: set[Message] = set()
    while True:
        for message in [each for each in self.buf if each not in sent]:
            sent.add(message)
            yield message, None
        await self.wait_until_new_message_scheduled()


_Flooder: Final = type("Flooder", (SchedulingEventNode,), {"get_messages": _send_all_once})


class _Watch:
    """When the message first comes to its destination."""

    def __init__(self) -> None:
        self.arrival_s = math.inf

    def message_delivered(self, time: float, node: object, message: Message) -> None:
        """Called by the simulation."""
        self.arrival_s = min(self.arrival_s, time)


def _flood(contacts: list[Contact], source: Eid, destination: Eid, size_bytes: int, start_s: float) -> float:
    loop = DESEventLoop()
    asyncio.set_event_loop(loop)
    dispatcher, watch = EventDispatcher(), _Watch()
    dispatcher.add_subscriber(watch, no_parent=False)
    nodes: dict[Eid, Any] = {node: _Flooder(node, -1, dispatcher) for node in NODES}
    tasks: list[Any] = []
    for each in contacts:
        sender, receiver = nodes[each.sender], nodes[each.receiver]
        simulated = SimContact(sender, receiver, each.start_s, each.end_s, each.rate_bps, each.owd_s)
        tasks.append(loop.create_task(sender.schedule_contact(simulated)))
    message = Message(start_s, source, destination, size_bytes * 8, math.inf)
    tasks.append(loop.create_task(nodes[source].schedule_injection(message)))
    try:
        loop.run_forever()
    finally:
        asyncio.set_event_loop(None)
        asyncio.events._set_running_loop(None)
    return watch.arrival_s
