# SPDX-License-Identifier: Apache-2.0
"""The table of silence: what left a node's radiating devices by a sniffer outside of it, as figure, bound and verdict.

    python -m tests.lab.silence_run [--rows NAME,NAME]

Real daemons, each row in a lab of its own (scenarios/silence_rows.py); half an hour. Every row has a count without the
gate beside it: a sniffer that hears nothing proves nothing. A day of scheduled windows is a matter of the simulation.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.lab.bypass import WAYS, LackingError, count_escapes
from tests.lab.radio_run import ROOT, Bound, Row, RowFailed, run_row, say, show
from tests.lab.snooping import measure_snooping

SCENARIO: Final = Path(__file__).resolve().parent / "scenarios" / "silence_rows.py"
TIMEOUT_S: Final = 900.0
WINDOW_S: Final = 60
RUNS: Final = 3
SNOOPED_S: Final = 600.0
ANSWERS_MIN: Final = 1000
NONE: Final = Bound("frames_silent", 0, 0)
ORDERED: Final = {"delay_s": 0.05}
BLIND: Final = {"rate_bps": 20_000_000, "loss": 0.2, "delay_s": 0.05}


def is_heard(figure: str = "frames_open", at_least: float = 1) -> Bound:
    """The count without the gate."""
    return Bound(figure, at_least=at_least)


def daemon_rows() -> list[Row]:
    """Scenarios between two daemons."""
    spared = [Bound("lost_on_others", 0, 0), Bound("messages_lost", 0, 0), Bound("heard_on_silent", 0, 0)]
    disk = [Bound(name, 1, 1) for name in ("is_alarm", "is_opening_refused", "is_silent")]
    refused = [Bound("exit_code", 7, 7), Bound("on_record", 2, 2), Bound("is_log_whole", 1, 1)]
    attacked = [Bound("runs_silent", RUNS, RUNS), Bound("multicast_pct", at_least=99)]
    closing = [Bound("last_frame_ms", at_most=5), Bound("late_frames", 0, 0), is_heard("open_frames_per_s", 1000)]
    leased = [Bound("last_frame_s", at_most=5), Bound("frames_after_lease", 0, 0)]
    return [
        Row("boot", "boot", {}, {"for_s": WINDOW_S}, [NONE, is_heard()]),
        Row(
            "attack",
            "attack",
            {},
            {"for_s": WINDOW_S, "runs": RUNS},
            [NONE, *attacked, is_heard(at_least=ANSWERS_MIN), is_heard("provoking_per_s", 19)],
        ),
        Row("25 closings", "closing", {}, {"count": 25}, closing),
        Row("2 s of backlog", "backlog", {}, {}, [NONE, is_heard()]),
        Row("kill -9 while OPEN", "lease", {}, {"lease_s": 5, "more_s": WINDOW_S}, [*leased, is_heard()]),
        Row("upkeep in silence", "survival", {}, {"for_s": WINDOW_S / 4}, [NONE, is_heard()]),
        Row("full disk", "full disk", {}, {"for_s": WINDOW_S / 4}, [NONE, *disk, is_heard()]),
        Row("one of three", "three", {}, {"for_s": WINDOW_S}, [NONE, *spared, is_heard()]),
        Row("no role", "stranger", {}, {"for_s": 5}, [NONE, *refused, is_heard()]),
        Row("order", "order", {}, {"count": 25}, [Bound("set_silent_ms", at_most=100), Bound("all_shut", 1, 1)]),
    ]


def radio_rows() -> list[Row]:
    """Of the fountain layer (scenarios/radio_rows.py): to a silent node, and what it says afterwards."""
    told = BLIND | {"bearer_lines": ["emcon_rtc = 0"]}
    blind = told | {"is_blind": True}
    complete = [
        Bound("blind_complete_pct", at_least=99),
        Bound("frames_back", 0, 0),
        Bound("wire_per_payload", at_most=1.5),
    ]
    broken = [NONE, is_heard(), Bound("bytes_by_the_kernel", 1, 30_000), Bound("late_s", at_most=0.05)]
    broken += [Bound(name, 1, 1) for name in ("flash_arrived", "single_arrived", "is_verified")]
    broken += [Bound(name, 0, 0) for name in ("routine_arrived", "others_arrived", "frames_afterwards")]
    leaving = [NONE, is_heard(), Bound("frames_early", 0, 0), Bound("is_in_order", 1, 1), Bound("complete", 200, 200)]
    late = [
        Bound("complete_pct", at_least=99),
        Bound("complete_afterwards", 100, 100),
        Bound("frames_back", 0, 0),
        Bound("frames_that_stopped", 1, 50),
    ]
    return [
        Row("1 MiB to a silent node", "blind", blind, {}, complete),
        Row("acknowledged later", "deferred", told, {"count": 20, "rounds": 5, "is_told": True}, late),
        Row("broken by order", "breach", ORDERED, {}, broken),
        Row("speaking again", "leaving", ORDERED, {"count": 200}, leaving),
    ]


def measure(wanted: Mapping[str, Mapping[str, Any]], timeout_s: float = TIMEOUT_S) -> dict[str, dict[str, float]]:
    """Several measures, one after the other in the same lab. Errors: RowFailed."""
    command = [sys.executable, str(ROOT / "netns-lab" / "lab"), "run", str(SCENARIO), json.dumps(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise RowFailed(f"{', '.join(wanted)}: no end after {timeout_s:g} s") from None
    if done.returncode:
        raise RowFailed(f"{', '.join(wanted)}: {done.stderr.strip()[-2000:]}")
    figures: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def show_bypasses() -> bool:
    """A row for each way round the gate; one that the kernel lacks is named and is no failure."""
    is_met = True
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = count_escapes(way, Path(folder))
            except LackingError as error:
                say(f"{way:<18} left out: this kernel has no such device: {error}")
                continue
        bounds = [is_heard(at_least=found.tried), NONE]
        is_met &= show(
            Row(way, "", {}, bounds=bounds), {"frames_open": found.gate_open, "frames_silent": found.gate_closed}
        )
    return is_met


def show_snooping() -> bool:
    """What is joined by IGMP alone is lost: that the switch snoops at all is seen by this."""
    kept = [Bound("static_pct", at_least=99), Bound("link_local_pct", at_least=99)]
    bounds = [NONE, *kept, Bound("joined_at_the_end_pct", 0, 0), is_heard()]
    with tempfile.TemporaryDirectory() as folder:
        figures = measure_snooping(SNOOPED_S, is_quick=False, shaping_dir=Path(folder))
    return show(Row("snooping switch", "", {}, bounds=bounds), figures)


def show_row(row: Row) -> bool:
    """One row in a lab of its own."""
    try:
        is_radio = row in radio_rows()
        return show(row, run_row(row, seed=1) if is_radio else measure({row.measure: row.values})[row.measure])
    except RowFailed as error:
        say(str(error))
        return False


def main() -> int:
    """The command."""
    rows = {row.name: row for row in (*daemon_rows(), *radio_rows())}
    names = [*rows, "ways round", "snooping switch"]
    parser = argparse.ArgumentParser(description="What leaves a silent node.")
    parser.add_argument("--rows", help=f"some, with commas between: {', '.join(names)}")
    arguments = parser.parse_args()
    wanted = arguments.rows.split(",") if arguments.rows else names
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(names)}")
    met = [show_row(rows[name]) for name in wanted if name in rows]
    if "ways round" in wanted:
        met.append(show_bypasses())
    if "snooping switch" in wanted:
        met.append(show_snooping())
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
