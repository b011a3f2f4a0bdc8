# SPDX-License-Identifier: Apache-2.0
"""What routing is worth: meshd's router and others on the same random days, beside an oracle that knows the future.

    python -m tests.sim.routing_table [--seeds 0-9] [--bundles 1000] [--outage 0.3] [--unplanned]

Seven nodes, 24 hours, a random contact plan of which 30 % does not take place, 1 000 bundles, congested. Of each
strategy: the share of bundles delivered before they expire; the median of the delay over all bundles, in which one
that is not delivered counts as never, so that no strategy is the faster for what it loses; that of the delivered ones,
and their 95th percentile; the copies of a bundle in the mean, and the most of any. With --unplanned nobody knows a
plan, and only those are compared that need none. Everything follows from the seeds; it fails when the target is missed.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Final

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.routing.decision import Router
from tests.sim.contact_mesh import Figures, Mesh, Strategy
from tests.sim.scenario import Day, Scenario, random_day
from tests.sim.strategies.contact_routing import UTC_OFFSET_S, ContactRouting
from tests.sim.strategies.flooding import Epidemic, Prophet, SprayAndWait
from tests.sim.strategies.oracle import run_oracle
from tests.sim.strategies.static_cgr import StaticCgr

RATIO_MIN: Final = 0.95
"""Of the oracle's delivery ratio."""
DELAY_MAX: Final = 1.25
"""Of the oracle's median delay."""
COPIES_MAX: Final = 2.0
COPIES_UNPLANNED_MAX: Final = 3.0
ORACLE: Final = "oracle"
OURS: Final = "meshd"
OTHERS: Final[Mapping[str, Callable[[Eid, Scenario], Strategy]]] = {
    "static CGR": StaticCgr,
    "epidemic": Epidemic,
    "spray and wait": SprayAndWait,
    "PRoPHET": Prophet,
}


PLANLESS: Final = ("epidemic", "spray and wait", "PRoPHET")


class Row:
    """One strategy over all seeds."""

    def __init__(self, name: str, results: Sequence[Figures], cpu_s: float) -> None:
        self.name = name
        self.ratio = fmean(each.ratio for each in results)
        self.median_s = fmean(each.median_of_all_s for each in results)
        self.delivered_median_s = fmean(each.median_s for each in results)
        self.p95_s = fmean(each.p95_s for each in results)
        self.copies = fmean(each.copies for each in results)
        self.copies_max = max(each.copies_max for each in results)
        self.cpu_s = cpu_s


def make_router(node: Eid, scenario: Scenario) -> Router:
    """The product's router, which knows the plan."""
    return ContactRouter(
        node,
        ContactPlan(
            structs.replace(each, start_s=each.start_s + UTC_OFFSET_S, end_s=each.end_s + UTC_OFFSET_S)
            for each in scenario.plan
        ),
    )


def make_planless_router(node: Eid, scenario: Scenario) -> Router:
    """The product's router, which knows nothing."""
    return ContactRouter(node, ContactPlan())


def run(seeds: Sequence[int], day: Day, *, is_planned: bool = True) -> list[Row]:
    """All strategies, the oracle first, then ours."""
    scenarios = [random_day(seed, day) for seed in seeds]
    runs: dict[str, Callable[[Scenario], Figures]] = {
        ORACLE: run_oracle,
        OURS: partial(_simulate, ours if is_planned else ours_without_plan),
    }
    names = OTHERS if is_planned else PLANLESS
    runs |= {name: partial(_simulate, OTHERS[name]) for name in names}
    rows: list[Row] = []
    for name, simulate in runs.items():
        begun = time.process_time()
        results = [simulate(scenario) for scenario in scenarios]
        rows.append(Row(name, results, time.process_time() - begun))
    return rows


def ours(node: Eid, scenario: Scenario) -> Strategy:
    """meshd at a node that has the plan."""
    return ContactRouting(node, scenario, make_router)


def ours_without_plan(node: Eid, scenario: Scenario) -> Strategy:
    """meshd at a node that learns as it goes."""
    return ContactRouting(node, scenario, make_planless_router, learns=True)


def _simulate(kind: Callable[[Eid, Scenario], Strategy], scenario: Scenario) -> Figures:
    return Mesh(scenario, lambda node: kind(node, scenario)).run()


def misses(rows: Sequence[Row]) -> list[str]:
    """What is not as it has to be."""
    by_name = {row.name: row for row in rows}
    oracle, mine = by_name[ORACLE], by_name[OURS]
    wrong: list[str] = []
    if mine.ratio < RATIO_MIN * oracle.ratio:
        wrong.append(f"delivery ratio {mine.ratio:.3f} is below {RATIO_MIN} of the oracle's {oracle.ratio:.3f}")
    if mine.median_s > DELAY_MAX * oracle.median_s:
        wrong.append(f"median delay {mine.median_s:.0f} s is above {DELAY_MAX} of the oracle's {oracle.median_s:.0f}")
    if mine.copies > COPIES_MAX:
        wrong.append(f"{mine.copies:.2f} copies of a bundle")
    for name in OTHERS:
        other = by_name[name]
        if mine.ratio < other.ratio or mine.median_s > other.median_s:
            wrong.append(f"{name} is better: {other.ratio:.3f} of the bundles, median {other.median_s:.0f} s")
    return wrong


def misses_unplanned(rows: Sequence[Row]) -> list[str]:
    """The same where nobody knows a plan: not worse than those who never need one, and within the copies."""
    _, mine, *others = rows
    wrong = [f"{mine.copies:.2f} copies of a bundle"] if mine.copies > COPIES_UNPLANNED_MAX else []
    return wrong + [f"{other.name} is better: {other.ratio:.3f}" for other in others if mine.ratio < other.ratio]


def render(rows: Sequence[Row]) -> str:
    """The table."""
    oracle = rows[0]
    lines = [
        f"{'strategy':<15}{'ratio':>7}{'of oracle':>10}{'median s':>10}{'of oracle':>10}"
        f"{'delivered':>10}{'p95 s':>8}{'copies':>8}{'most':>6}{'CPU s':>7}"
    ]
    for row in rows:
        lines.append(
            f"{row.name:<15}{row.ratio:>7.3f}{row.ratio / oracle.ratio:>10.3f}{row.median_s:>10.0f}"
            f"{row.median_s / oracle.median_s:>10.2f}{row.delivered_median_s:>10.0f}{row.p95_s:>8.0f}"
            f"{row.copies:>8.2f}{row.copies_max:>6}{row.cpu_s:>7.1f}"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Routing strategies beside an oracle")
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--bundles", type=int, default=1000)
    parser.add_argument("--outage", type=float, default=0.3)
    parser.add_argument("--unplanned", action="store_true")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    day = Day(bundles=arguments.bundles, outage=arguments.outage)
    rows = run(range(int(first), int(last or first) + 1), day, is_planned=not arguments.unplanned)
    sys.stdout.write(render(rows))
    wrong = misses_unplanned(rows) if arguments.unplanned else misses(rows)
    sys.stderr.writelines(f"{each}\n" for each in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
