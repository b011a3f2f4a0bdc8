# SPDX-License-Identifier: Apache-2.0
"""Silence as an outsider sees it: frames that leave a node under attack, with the gate and without; how fast it falls
silent on order, and how late after a SIGKILL.

Two daemons in namespaces of their own, three wires, a sniffer in the middle of each. Without the gate the frames are
the answers to what provokes them. `last_frame_ms` counts from the moment when the caller has its answer, 1 500
datagrams a second meanwhile: below 0, the last frame left before that. `set_silent_ms` is the command `meshctl emcon
set silent` from its start to its end, Python's own start in it. `lease_last_frame_s` counts from the SIGKILL.

    python -m tests.bench.emcon [--quick] [--json]
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "netns-lab"))

from tests.bench.support.harness import BenchError, print_table, run_main
from tests.lab.radio_run import RowFailed
from tests.lab.silence_run import measure as measure_rows

FULL: Final[Mapping[str, Mapping[str, Any]]] = {
    "attack": {"for_s": 60, "runs": 3},
    "closing": {"count": 25},
    "order": {"count": 25},
    "lease": {"lease_s": 5, "more_s": 5},
}
QUICK: Final[Mapping[str, Mapping[str, Any]]] = {
    "attack": {"for_s": 5},
    "closing": {"count": 10},
    "order": {"count": 5},
    "lease": {"lease_s": 2, "more_s": 1},
}


def measure(quick: bool) -> dict[str, float]:
    """All of it; prints the table."""
    try:
        found = measure_rows(QUICK if quick else FULL)
    except RowFailed as error:
        raise BenchError(str(error)) from error
    attack, closing = found["attack"], found["closing"]
    figures = {
        "frames_silent_under_attack": attack["frames_silent"],
        "frames_open_under_attack": attack["frames_open"],
        "last_frame_ms": closing["last_frame_ms"],
        "set_silent_ms": found["order"]["set_silent_ms"],
        "lease_last_frame_s": found["lease"]["last_frame_s"],
    }
    if closing["late_frames"] or found["lease"]["frames_after_lease"] or not found["order"]["all_shut"]:
        raise BenchError(f"frames left when none may: {closing}, {found['lease']}")
    rows = [("figure", "now"), *((name, f"{value:.3f}") for name, value in figures.items())]
    rows.append(("multicast received in silence, %", f"{attack['multicast_pct']:.1f}"))
    rows.append(
        (f"lease, s, of which last frame after {figures['lease_last_frame_s']:.2f}", f"{found['lease']['lease_s']}")
    )
    rows.append(("order over the control socket, ms", f"{closing['order_median_ms']:.2f}"))
    print_table(f"{attack['provoking_per_s']:.0f} provoking frames a second for {attack['for_s']:g} s", rows)
    return figures


if __name__ == "__main__":
    sys.exit(run_main("What leaves a silent node, and how fast it falls silent.", measure))
