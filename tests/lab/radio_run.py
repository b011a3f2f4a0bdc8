# SPDX-License-Identifier: Apache-2.0
"""The fountain layer's table between real daemons over emulated links: every row as figures, target and verdict.

    python -m tests.lab.radio_run [--rows NAME,NAME] [--jobs N] [--seed N]

Each row is a lab of its own (scenarios/radio_rows.py); N of them run at once. Nothing is tuned: the daemons are told
rate and kind of the bearer, and in the rows named `found` not even the rate. 25 minutes with one job. A machine that is
busy with other things makes it worse.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
SCENARIO: Final = Path(__file__).resolve().parent / "scenarios" / "radio_rows.py"
TIMEOUT_S: Final = 600.0
LOSSES_PCT: Final = (0, 1, 5, 10, 20)
FILE_MAX_S: Final = {0: 18.6, 1: 19.0, 5: 20.3, 10: 21.8}
GOODPUT_MIN: Final = 0.93


class RowFailed(Exception):
    """A lab ended without figures; the text has its own words."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What one figure has to be."""

    figure: str
    at_least: float = float("-inf")
    at_most: float = float("inf")

    def is_met(self, value: float) -> bool:
        """Within the bound."""
        return self.at_least <= value <= self.at_most

    def describe(self) -> str:
        """For people."""
        if self.at_least == self.at_most:
            return f"= {self.at_least:g}"
        if self.at_most == float("inf"):
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:.4g}" if self.at_least == float("-inf") else f"{self.at_least:g}-{self.at_most:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    name: str
    measure: str
    net: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    bounds: Sequence[Bound] = ()


def run_row(row: Row, seed: int) -> dict[str, Any]:
    """Its figures. Errors: RowFailed."""
    command = [sys.executable, str(ROOT / "netns-lab" / "lab"), "run", "--seed", str(seed), str(SCENARIO)]
    command += [row.measure, json.dumps(dict(row.net)), json.dumps(dict(row.values))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise RowFailed(f"{row.name}: no end after {TIMEOUT_S:g} s") from None
    if done.returncode:
        raise RowFailed(f"{row.name}: {done.stderr.strip()[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def wire_bound(loss: float) -> Bound:
    """Bytes on the wire for each byte of payload."""
    return Bound("wire_per_payload", at_most=1.07 / (1 - loss) + 0.03)


def loss_rows() -> list[Row]:
    """10 Mbit/s and 600 ms there and back, at every loss: the file, the steady state, FLASH during bulk."""
    rows = []
    for pct in LOSSES_PCT:
        net = {"loss": pct / 100}
        goodput = [Bound("goodput_ratio", at_least=GOODPUT_MIN)]
        file = [Bound("file_s", at_most=FILE_MAX_S[pct])] if pct in FILE_MAX_S else []
        rows.append(Row(f"file {pct} %", "file", net, bounds=[*file, wire_bound(pct / 100), Bound("wrong", 0, 0)]))
        rows.append(Row(f"steady {pct} %", "file", net, {"size_mib": 48}, [*goodput, wire_bound(pct / 100)]))
        if pct <= 10:
            flash = [Bound("flash_p50_s", at_most=0.40), Bound("flash_p95_s", at_most=0.60)]
            rows.append(Row(f"flash {pct} %", "flash", net, {"bulk_mib": 52}, flash))
    return rows


def other_rows() -> list[Row]:
    """The rest of the table."""
    slow = {"rate_bps": 64_000, "delay_s": 0.1, "loss": 0.05, "modem_s": 2.0}
    slow_flash = {"count": 40, "bulk_mib": 10, "every_s": 1.0}
    all_wrong = Bound("wrong", 0, 0)
    found = [Bound("goodput_ratio", at_least=0.85), Bound("found_ratio", 0.85, 1.15), all_wrong]
    group = {"loss": 0.05, "receivers": 5, "is_multicast": True}
    silent = {"rate_bps": 20_000_000, "loss": 0.2, "delay_s": 0.05, "is_blind": True, "bearer_lines": ["emcon_rtc = 0"]}
    bursts = {"rate_bps": 2_000_000, "loss": 0.1, "burst_s": 0.2}
    damage = {"duplicate": 0.02, "reorder": 0.25, "corrupt": 0.01}
    return [
        *(Row(f"found {pct} %", "found", {"loss": pct / 100, "floor_bps": 64_000}, bounds=found) for pct in (0, 5, 10)),
        Row(
            "10 000 small",
            "small",
            {"loss": 0.05},
            bounds=[Bound("small_ratio", at_least=0.80), Bound("missing", 0, 0)],
        ),
        Row("64 kbit/s flash", "flash", slow, slow_flash, [Bound("flash_p95_s", at_most=0.6)]),
        Row(
            "multicast to 5",
            "multicast",
            group,
            bounds=[Bound("multicast_bytes_ratio", at_most=1.25), Bound("receivers_complete", 5, 5), all_wrong],
        ),
        Row("blind", "blind", silent, bounds=[Bound("blind_complete_pct", at_least=99), Bound("frames_back", 0, 0)]),
        Row("bursts", "file", bursts, {"size_mib": 16}, [Bound("goodput_ratio", at_least=0.88), all_wrong]),
        Row("outage of 30 s", "outage", {"loss": 0.01}, bounds=[Bound("resumed_s", at_most=1.6), all_wrong]),
        *bad_rows(),
        Row("damage", "file", damage, {"size_mib": 8}, [all_wrong, Bound("file_s", at_most=PATIENT_S)]),
    ]


PATIENT_S: Final = 60.0
"""Any file that is complete is; the row is about what is in it."""


def bad_rows() -> list[Row]:
    """Every kind of bad datagram, and as many of the cheapest as one sender can make."""
    net, kept = {"loss": 0.05}, [Bound("kept", at_least=0.8), Bound("wrong", 0, 0), Bound("bad_ended_early", 0, 0)]
    kinds = ["random", "replayed", "truncated", "damaged", "oversized"]
    rows = [Row("bad input", "bad", net, {"kinds": kinds, "per_s": 2000, "for_s": 25}, kept)]
    for kind in ("random", "replayed"):
        values = {"kinds": [kind], "per_s": 100_000, "for_s": 25}
        rows.append(Row(f"flood, {kind}", "bad", net, values, kept))
    return rows


def say(line: str) -> None:
    """At once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def show(row: Row, figures: Mapping[str, float]) -> bool:
    """One line for each bound, and the other figures behind them. True when all are met."""
    is_met = True
    for bound in row.bounds:
        value = figures[bound.figure]
        is_met &= bound.is_met(value)
        verdict = "met" if bound.is_met(value) else "NOT MET"
        say(f"{row.name:<18} {bound.figure:<24} {value:>9.4g}  {bound.describe():<12} {verdict}")
    bounded = {bound.figure for bound in row.bounds}
    rest = ", ".join(f"{key} {value:.4g}" for key, value in figures.items() if key not in bounded)
    say(f"{'':<18} ({rest})")
    return is_met


def main() -> int:
    """The command."""
    rows = [*loss_rows(), *other_rows()]
    parser = argparse.ArgumentParser(description="The fountain layer's table over emulated radio links.")
    names = ", ".join(row.name for row in rows)
    parser.add_argument("--rows", help=f"some, with commas between: {names.replace('%', '%%')}")
    parser.add_argument("--jobs", type=int, default=1, help="labs at once")
    parser.add_argument("--seed", type=int, default=1, help="of the emulated losses")
    arguments = parser.parse_args()
    wanted = arguments.rows.split(",") if arguments.rows else [row.name for row in rows]
    chosen = [row for row in rows if any(row.name.startswith(name) for name in wanted)]
    is_met = True
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for row, result in [(row, pool.submit(run_row, row, arguments.seed)) for row in chosen]:
            try:
                is_met &= show(row, result.result())
            except RowFailed as error:
                say(str(error))
                is_met = False
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
