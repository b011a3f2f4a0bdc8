# SPDX-License-Identifier: Apache-2.0
"""A day of virtual time: the simulated mesh under steady traffic and steady trouble, and every table stays bounded.

    python -m tests.sim.day_run --hours 24 --seed 1

The oracle watches as in every simulation: nothing acknowledged is lost, nothing is delivered twice or wrong. Besides,
the size of each container that the agents, engines, stores and sessions own is looked at each virtual minute; what a
table has at most in the last quarter may not be more than a half above what it had at most in the second quarter.
"""

import argparse
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from meshd.node.sent_messages import MESSAGES_MAX
from tests.sim.sim_node import SimNode
from tests.sim.world import NODES, PEACE_S, World

HOUR_S: Final = 3600.0
LOOK_EVERY_S: Final = 60.0
MESSAGE_EVERY_S: Final = 40.0
LIFETIME_MS: Final = 3_600_000
"""Of the messages: well above the longest trouble, well below a quarter of the day, so that all memory is used up."""
CUT_MAX_S: Final = 600.0
CUTS_AN_HOUR: Final = 3
RESETS_AN_HOUR: Final = 6
CRASHES_AN_HOUR: Final = 3
POWER_CUTS_AN_HOUR: Final = 1
LIMITS: Final = dict.fromkeys(("SentMessages.", "Contents.notes", "Contents.segments", "Segment.marks"), MESSAGES_MAX)
"""What is kept for users fills up to a limit of its own over days; so do the small segments that hold it."""
SETTLED_S: Final = 120.0
"""A node that has just started has not yet forgotten what expired while it was away."""
GROWTH_MAX: Final = 0.5
SLACK: Final = 64
"""Small tables go up and down by chance."""
QUARTERS: Final = 4
CONTAINERS: Final = (dict, list, set, frozenset, deque, bytearray)


def table_sizes(roots: Iterable[object]) -> Counter[str]:
    """Entries of every container that these objects of meshd own, by class and attribute."""
    sizes: Counter[str] = Counter()
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        owner = waiting.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        for name, value in attributes(owner):
            if isinstance(value, CONTAINERS):
                waiting += count(f"{type(owner).__name__}.{name}", value, sizes)
            elif is_ours(value):
                waiting.append(value)
    return sizes


def count(label: str, container: object, sizes: Counter[str]) -> list[object]:
    """Add up a container and those within it; the objects of meshd that it holds."""
    assert isinstance(container, CONTAINERS)
    sizes[label] += len(container)
    ours: list[object] = []
    for item in container.values() if isinstance(container, dict) else container:
        if isinstance(item, CONTAINERS):
            ours += count(f"{label}[]", item, sizes)
        elif is_ours(item):
            ours.append(item)
    return ours


def is_ours(value: object) -> bool:
    """An object with a state of its own; rows, names and settings have none."""
    kind = type(value)
    return (
        kind.__module__.startswith("meshd.") and not hasattr(kind, "__struct_fields__") and kind.__eq__ is object.__eq__
    )


def attributes(owner: object) -> Iterator[tuple[str, object]]:
    """Of an object with or without slots."""
    yield from getattr(owner, "__dict__", {}).items()
    for kind in type(owner).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(owner, name):
                yield name, getattr(owner, name)


class Day(World):
    """A world that goes on for hours."""

    def __init__(self, seed: int, hours: int) -> None:
        super().__init__(seed)
        self.oracle.lifetime_ms = LIFETIME_MS
        self._hours = hours
        self._lives: dict[SimNode, tuple[object, float]] = {}
        self.maxima: list[Counter[str]] = []

    def live(self) -> None:
        """All the hours, then peace; AssertionError when the oracle is not content."""
        for node in self.nodes:
            node.start()
        for wire in self.wires:
            wire.dial()
        for _ in range(self._hours):
            self._plan_hour()
            self.maxima.append(self._watch(HOUR_S))
        for wire in self.wires:
            wire.restore()
        for node in self.nodes:
            node.disk.power_cut_in = 0
        self.time.run_until(self.time.now + PEACE_S)
        assert not self.oracle.missing(), f"accepted, never delivered: {self.oracle.missing()}"
        assert not self.oracle.unreported(), f"delivered, sender never told: {self.oracle.unreported()}"

    def _plan_hour(self) -> None:
        rng, later = self._rng, self.time.call_later
        for _ in range(int(HOUR_S / MESSAGE_EVERY_S)):
            node, other = rng.sample(self.nodes, 2)
            later(rng.uniform(0, HOUR_S), partial(self._send, node, other))
        for _ in range(CUTS_AN_HOUR):
            wire, start_s = rng.choice(self.wires), rng.uniform(0, HOUR_S)
            later(start_s, wire.cut)
            later(start_s + rng.uniform(1, CUT_MAX_S), wire.restore)
        for _ in range(RESETS_AN_HOUR):
            later(rng.uniform(0, HOUR_S), rng.choice(self.wires).reset)
        for _ in range(CRASHES_AN_HOUR):
            later(rng.uniform(0, HOUR_S), rng.choice(self.nodes).crash)
        for _ in range(POWER_CUTS_AN_HOUR):
            later(rng.uniform(0, HOUR_S), partial(self._cut_power, rng.choice(self.nodes), rng.randint(1, 6)))

    def _watch(self, for_s: float) -> Counter[str]:
        """Let time pass; what each table had at most, in any node."""
        most: Counter[str] = Counter()
        end = self.time.now + for_s
        while self.time.now < end:
            self.time.run_until(min(end, self.time.now + LOOK_EVERY_S))
            for node in self.nodes:
                self._reclaim(node)
                if node.is_alive and self._has_settled(node):
                    most |= table_sizes([node.engine, node.log, *sessions_of(node)])
        return most

    def _reclaim(self, node: SimNode) -> None:
        """As the writer does now and then: marks expire silently."""
        if node.is_alive:
            with node.power():
                while node.log.reclaim(node.engine.agent.dtn_ms(self.time.now)):
                    pass

    def _has_settled(self, node: SimNode) -> bool:
        """Whether this life of it is old enough."""
        engine, since = self._lives.get(node, (None, 0.0))
        if engine is not node.engine:
            since = self.time.now
            self._lives[node] = node.engine, since
        return self.time.now - since >= SETTLED_S


def sessions_of(node: SimNode) -> list[object]:
    """The TCPCLv4 sessions of a node."""
    return [bearer.session for bearer in node.bearers.values() if bearer.session is not None]


def growth(maxima: list[Counter[str]]) -> list[str]:
    """The tables that grow; in less than four hours none is said to."""
    quarter = len(maxima) // QUARTERS
    if not quarter:
        return []
    before, after = Counter[str](), Counter[str]()
    for hour in maxima[quarter : 2 * quarter]:
        before |= hour
    for hour in maxima[-quarter:]:
        after |= hour
    return [
        f"{name} had {before[name]} at most, then {after[name]}"
        for name in sorted(after)
        if after[name] > max(before[name] * (1 + GROWTH_MAX) + SLACK, limit_of(name))
    ]


def limit_of(name: str) -> int:
    """The limit of a table that may fill up; 0 for all others."""
    return next((limit for prefix, limit in LIMITS.items() if name.startswith(prefix)), 0)


def run(seed: int, hours: int) -> tuple[str, list[str]]:
    """The line of figures, and what is wrong."""
    begun = time.monotonic()
    day = Day(seed, hours)
    try:
        day.live()
        problems = growth(day.maxima)
    except AssertionError as error:
        problems = [str(error)]
    figures: dict[str, object] = {"seed": seed, "virtual_hours": hours, "nodes": len(NODES)}
    figures |= {"messages": day.oracle.accepted_messages(), "offers": day.oracle.offers, "crashes": day.oracle.crashes}
    largest: Counter[str] = Counter()
    for hour in day.maxima:
        largest |= hour
    figures |= {"tables": len(largest), "problems": len(problems), "seconds": round(time.monotonic() - begun, 1)}
    lines = ["day " + " ".join(f"{key}={value}" for key, value in figures.items())]
    lines += [
        f"  {name}: at most {' '.join(str(hour[name]) for hour in day.maxima)}" for name, _ in largest.most_common(12)
    ]
    return "\n".join(lines), problems


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="A mesh in virtual time, for a day")
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    text, problems = run(arguments.seed, arguments.hours)
    sys.stdout.write(text + "\n")
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
