# SPDX-License-Identifier: Apache-2.0
"""The mesh at rest and when a line dies, beside babeld in the same lab; switches between equal links; route search.

Two nodes with two terrestrial lines and a radio link, in namespaces of their own. The better line dies silently, under
traffic and idle, and returns. Idle emission is counted on the radio device by a sniffer outside, each node's frames of
every kind, once beacons have come to rest: that takes a minute, and they are a minute apart, so that even --quick takes
two and a half. Added to it are the advertisements of seven nodes on one radio net (support/idle_advertising.py), which
come too seldom to be seen here. The kernel does not look for IPv6 routers on the radio device, in either lab. Switches
are those of two equal links on a virtual clock. babeld runs with the defaults of its Debian package.

    python -m tests.bench.mesh [--quick] [--json]
"""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.support.harness import ROOT, BenchError, print_table, run_main
from tests.bench.support.idle_advertising import count_advertising
from tests.bench.support.route_search import search_ms_1k_100k, search_ms_50_10k
from tests.sim.equal_links import CASES, count_switches

SCENARIOS: Final = ROOT / "tests" / "lab" / "scenarios"
LAB: Final = ROOT / "netns-lab" / "lab"
IDLE_S: Final = {True: 60, False: 300}
HOURS: Final = {True: 4, False: 24}
BABELD_FAILOVER_MAX_S: Final = 60
RUN_TIMEOUT_S: Final = 600.0

Figures = dict[str, float]


def run_scenario(name: str, *arguments: int) -> Figures:
    """What it measured. Errors: BenchError."""
    command = [sys.executable, str(LAB), "run", str(SCENARIOS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    if done.returncode:
        raise BenchError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def run_labs(idle_s: int) -> Figures:
    """meshd's and babeld's, in a sandbox each."""
    if shutil.which("babeld") is None and not Path("/usr/sbin/babeld").exists():
        raise BenchError("babeld is missing: `make test` installs it, or apt-get install babeld")
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(run_scenario, "babeld_failover.py", idle_s, BABELD_FAILOVER_MAX_S)
        return run_scenario("failover.py", idle_s) | other.result()


def measure(quick: bool) -> Figures:
    """All of it; prints the tables."""
    found = run_labs(IDLE_S[quick])
    if found["lost"] or found["twice"] or found["idle_missed"]:
        raise BenchError(f"{found['lost']:g} messages lost, {found['twice']:g} delivered twice")
    switches = {case: count_switches(case, HOURS[quick], 1) / HOURS[quick] for case in CASES}
    figures = found | {"switches_per_h": max(switches.values())}
    figures["idle_advertising_frames_per_min"], figures["idle_advertising_bytes_per_min"] = count_advertising()
    figures |= {"search_ms_50_10k": search_ms_50_10k(), "search_ms_1k_100k": search_ms_1k_100k()}
    figures["babeld_failover_ratio"] = found["babeld_failover_s"] / found["failover_s"]
    for name in ("frames", "bytes"):
        figures[f"idle_{name}_per_min"] += figures[f"idle_advertising_{name}_per_min"]
        mine = figures[f"idle_{name}_per_min"]
        figures[f"babeld_idle_{name}_ratio"] = figures[f"babeld_idle_{name}_per_min"] / max(mine, 1 / 60)
    rows = [("figure", "meshd", "babeld", "ratio")]
    for name, label in (("failover_s", "failover"), ("idle_frames_per_min", "frames"), ("idle_bytes_per_min", "bytes")):
        mine, theirs = figures[name], figures[f"babeld_{name}"]
        rows.append((f"{label}, {name.rpartition('_')[2]}", f"{mine:.2f}", f"{theirs:.2f}", f"{theirs / mine:.1f}"))
    print_table("two nodes, two lines, one radio link; idle figures per node and minute", rows)
    shown = ["failover_idle_s", "found_again_s", "failback_gap_s", "search_ms_50_10k", "search_ms_1k_100k"]
    shown += ["idle_advertising_frames_per_min", "idle_advertising_bytes_per_min"]
    rest = [("figure", "now"), *((name, f"{figures[name]:.3f}") for name in shown)]
    rest += [(f"switches/h, {case}", f"{count:.2f}") for case, count in switches.items()]
    print_table("one line dies, idle, and returns; search of one route; two equal links", rest)
    return figures


if __name__ == "__main__":
    sys.exit(run_main("The mesh at rest and when a line dies, beside babeld.", measure))
