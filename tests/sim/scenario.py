# SPDX-License-Identifier: Apache-2.0
"""A day of a mesh as a simulation needs it: what is planned, what really happens, and what is to be carried.

Everything follows from the seed. Times are seconds from the beginning of the day. Contacts come from a random plan or
from moving nodes (mobility.py); an outage plan takes planned contacts away, or cuts pieces out of them, unannounced.
A contact is directed: a one-way link is one that has no counterpart.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.bundle.precedence import Precedence
from meshd.routing.contact import Contact

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
BEARERS: Final = (("satcom0", 0.3), ("los0", 0.01), ("lan0", 0.005))
"""With their one-way delays."""
PRECEDENCES: Final = (
    *(Precedence.DEFERRED,) * 2,
    *(Precedence.ROUTINE,) * 10,
    *(Precedence.PRIORITY,) * 4,
    *(Precedence.IMMEDIATE,) * 3,
    Precedence.FLASH,
)
CONTACT_MIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """A bundle that has to be carried."""

    number: int
    source: Eid
    destination: Eid
    precedence: int
    size_bytes: int
    created_s: float
    expiry_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """One day."""

    nodes: tuple[Eid, ...]
    plan: tuple[Contact, ...]
    """What everybody believes, sorted by start."""
    actual: tuple[Contact, ...]
    """What takes place, sorted by start."""
    loads: tuple[Load, ...]
    """Sorted by creation."""
    buffer_bytes: int


@dataclass(frozen=True, slots=True)
class Day:
    """What a random day is like; the defaults are the congested case.

    Its bundles are together a fifth of all that the contacts of the whole day can carry. They go over two contacts in
    the mean, most of them in half of the day, and are for one node each: with every bundle everywhere, which is four
    copies, the contacts are full, and half of the bundles never arrive.
    """

    nodes: int = 7
    bundles: int = 1000
    outage: float = 0.3
    """Share of the planned contacts that do not take place, known to nobody before."""
    one_way: float = 0.1
    """Share of the contacts that work in one direction only."""
    contacts_per_pair: float = 6.0
    length_s: tuple[float, float] = (300.0, 1800.0)
    rate_bps: tuple[int, ...] = (19_200, 64_000, 128_000, 256_000)
    size_bytes: tuple[int, ...] = (10_000, 100_000, 600_000, 1_500_000)
    lifetime_s: tuple[float, float] = (12 * HOUR_S, 24 * HOUR_S)
    send_until_s: float = 10 * HOUR_S
    buffer_bytes: int = 60_000_000


def names(count: int) -> tuple[Eid, ...]:
    """Node IDs: the home station and its DPOPs."""
    return Eid("dtn://home/"), *(Eid(f"dtn://dpop{number}/") for number in range(1, count))


def random_day(seed: int, day: Day) -> Scenario:
    """A random plan, its outages and its load."""
    rng = random.Random(seed)
    nodes = names(day.nodes)
    plan = random_plan(rng, nodes, day)
    return Scenario(nodes, plan, with_outages(rng, plan, day.outage), random_loads(rng, nodes, day), day.buffer_bytes)


def random_plan(rng: random.Random, nodes: Sequence[Eid], day: Day) -> tuple[Contact, ...]:
    """Each pair meets a few times, over a bearer of its own; most contacts have a counterpart at the same time."""
    plan: list[Contact] = []
    for index, first in enumerate(nodes):
        for second in nodes[index + 1 :]:
            bearer, owd_s = rng.choice(BEARERS)
            rate_bps = rng.choice(day.rate_bps)
            at = rng.expovariate(day.contacts_per_pair / DAY_S)
            while at < DAY_S:
                end = min(DAY_S, at + rng.uniform(*day.length_s))
                there = Contact(first, second, bearer, at, end, rate_bps, owd_s, confidence=1 - day.outage)
                ways = [there, structs.replace(there, sender=second, receiver=first)]
                plan += [rng.choice(ways)] if rng.random() < day.one_way else ways
                at = end + CONTACT_MIN_S + rng.expovariate(day.contacts_per_pair / DAY_S)
    return tuple(sorted(plan, key=order))


def with_outages(rng: random.Random, plan: Sequence[Contact], share: float) -> tuple[Contact, ...]:
    """What is left of a plan when each meeting fails with this probability, in both directions at once."""
    fails: dict[frozenset[object], bool] = {}
    for contact in plan:
        fails.setdefault(_meeting(contact), rng.random() < share)
    return tuple(contact for contact in plan if not fails[_meeting(contact)])


def with_gaps(rng: random.Random, plan: Sequence[Contact], share: float, gap_s: float = 600.0) -> tuple[Contact, ...]:
    """What is left when each pair's links go out at random for `gap_s` in the mean, for this share of the time."""
    gaps: dict[frozenset[Eid], list[tuple[float, float]]] = {}
    left: list[Contact] = []
    for contact in plan:
        pair = frozenset((contact.sender, contact.receiver))
        if pair not in gaps:
            gaps[pair] = _gaps(rng, share, gap_s)
        start_s = contact.start_s
        for begin, end in gaps[pair]:
            if end <= start_s or begin >= contact.end_s:
                continue
            if begin - start_s >= 1:
                left.append(structs.replace(contact, start_s=start_s, end_s=begin))
            start_s = end
        if contact.end_s - start_s >= 1:
            left.append(structs.replace(contact, start_s=start_s))
    return tuple(sorted(left, key=order))


def random_loads(rng: random.Random, nodes: Sequence[Eid], day: Day) -> tuple[Load, ...]:
    """Bundles between random nodes, at random times of the first part of the day."""
    times = sorted(rng.uniform(0, day.send_until_s) for _ in range(day.bundles))
    loads: list[Load] = []
    for number, at in enumerate(times):
        source, destination = rng.sample(list(nodes), 2)
        size_bytes = rng.choice(day.size_bytes)
        expiry_s = at + rng.uniform(*day.lifetime_s)
        loads.append(Load(number, source, destination, rng.choice(PRECEDENCES), size_bytes, at, expiry_s))
    return tuple(loads)


def order(contact: Contact) -> tuple[float, str, str, str]:
    """By start; the rest makes it the same on every run."""
    return contact.start_s, contact.sender.uri, contact.receiver.uri, contact.bearer


def _meeting(contact: Contact) -> frozenset[object]:
    return frozenset((contact.sender, contact.receiver, contact.bearer, contact.start_s))


def _gaps(rng: random.Random, share: float, gap_s: float) -> list[tuple[float, float]]:
    gaps: list[tuple[float, float]] = []
    at = rng.expovariate(share / (gap_s * (1 - share))) if share > 0 else DAY_S
    while at < DAY_S:
        end = at + rng.expovariate(1 / gap_s)
        gaps.append((at, end))
        at = end + rng.expovariate(share / (gap_s * (1 - share)))
    return gaps
