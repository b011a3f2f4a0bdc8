# SPDX-License-Identifier: Apache-2.0
"""How long one search for a route takes, in a plan of 50 nodes and 10 000 contacts and in one of 1 000 and 100 000.

CPU time, over pairs of nodes and times drawn from a seed; the index is built before.
"""

import random
import statistics
import time
from typing import Final

from meshd.bundle.eid import Eid, parse_eid
from meshd.routing.contact import Contact
from meshd.routing.contact_graph import ContactGraph
from meshd.routing.search import find_route

DAY_S: Final = 86_400.0
NEIGHBOURS: Final = 8
"""Of each node: meshes are sparse."""
SIZE_BYTES: Final = 100_000


def search_ms_50_10k(searches: int = 200) -> float:
    """Median ms of a search among 50 nodes and 10 000 contacts."""
    return _search_ms(50, 10_000, searches)


def search_ms_1k_100k(searches: int = 30) -> float:
    """Median ms of a search among 1 000 nodes and 100 000 contacts."""
    return _search_ms(1000, 100_000, searches)


def random_plan(nodes: int, contacts: int, rng: random.Random) -> list[Contact]:
    """Contacts of a few minutes over a day, between neighbours that are drawn once."""
    eids = [parse_eid(f"dtn://n{number}/") for number in range(nodes)]
    links = [(each, other) for each in eids for other in rng.sample(eids, NEIGHBOURS) if other != each]
    return [_random_contact(*rng.choice(links), rng) for _ in range(contacts)]


def _random_contact(sender: Eid, receiver: Eid, rng: random.Random) -> Contact:
    start_s = rng.uniform(0, DAY_S)
    rate_bps = rng.choice((64_000, 512_000, 2_000_000))
    return Contact(sender, receiver, "satcom0", start_s, start_s + rng.uniform(60, 900), rate_bps, rng.uniform(0, 0.6))


def _search_ms(nodes: int, contacts: int, searches: int) -> float:
    rng = random.Random(6)
    graph = ContactGraph(random_plan(nodes, contacts, rng))
    for node in range(nodes):
        graph.outgoing(node)
        graph.incoming(node)
    taken_ms = []
    for _ in range(searches):
        source, destination = rng.sample(graph.nodes, 2)
        start_s = rng.uniform(0, DAY_S / 2)
        begin = time.process_time()
        find_route(graph, source, destination, SIZE_BYTES, start_s)
        taken_ms.append((time.process_time() - begin) * 1000)
    return statistics.median(taken_ms)
