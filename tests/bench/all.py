# SPDX-License-Identifier: Apache-2.0
"""Every benchmark, one after the other: their tables, the targets, the ratios to references of the same run, JSON.

    python -m tests.bench.all                     what `make bench` does
    python -m tests.bench.all --compare           what `make bench-compare` does: what changed as well
    python -m tests.bench.all --write-baseline    the machine and the figures into BASELINE.json; on a quiet machine
    python -m tests.bench.all --out FILE          the same into another file
    python -m tests.bench.all --compare --figures FILE    compare that file, run nothing

MESHD_BENCH_BUILD=build/compiled runs the daemons from there; MESHD_BENCH_PEER names another node to measure beside
(support/relay.py). With --quick each is short, for a look. `--only forward,memory` runs some. The soak is a command
of its own (soak.py).
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.support.baseline import (
    BaselineError,
    RunResult,
    compare,
    notes_on,
    ratio_rows,
    read_result,
    target_rows,
)
from tests.bench.support.harness import ROOT, BenchError, print_table
from tests.bench.support.machine import describe_machine

FOLDER: Final = Path(__file__).resolve().parent
BASELINE: Final = FOLDER / "BASELINE.json"
NOT_HERE: Final = frozenset({"all", "soak"})
FIRST: Final = ("forward", "latency", "endurance", "store", "memory")


def bench_names() -> list[str]:
    """All benchmarks in this folder that are made of one number each, the most asked for first."""
    found = {path.stem for path in FOLDER.glob("[!_]*.py") if not path.stem.startswith("test_")} - NOT_HERE
    return [*(name for name in FIRST if name in found), *sorted(found.difference(FIRST))]


def run_bench(name: str, quick: bool) -> Mapping[str, float]:
    """Run one in a process of its own; pass on what it prints. Errors: BenchError."""
    print(f"== {name}", flush=True)
    command = [sys.executable, "-m", f"tests.bench.{name}", "--json", *(["--quick"] if quick else [])]
    lines = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if not line.startswith("{"):
                print(line, end="", flush=True)
    if process.returncode or not lines:
        raise BenchError(f"{name} ended with {process.returncode}")
    figures: dict[str, float | None] = json.loads(lines[-1])
    return {name: value for name, value in figures.items() if value is not None}


def run_all(names: list[str], quick: bool) -> RunResult:
    """All of these and the machine."""
    machine = describe_machine()
    print("machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()))
    return RunResult(machine, quick, {name: run_bench(name, quick) for name in names})


def show(result: RunResult, before: RunResult | None) -> None:
    """The tables at the end, and one line of JSON."""
    print_table("against references of the same run", ratio_rows(result))
    print_table("targets", target_rows(result))
    if before is not None:
        print_table("against the baseline", compare(before, result))
        for note in notes_on(before, result):
            print(f"note: {note}")
    print(json.dumps(json.loads(result.to_json())))


def main() -> int:
    """The command."""
    names = bench_names()
    parser = argparse.ArgumentParser(description="Every benchmark, and what changed.")
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--only", help=f"some, with commas between: {', '.join(names)}")
    parser.add_argument("--compare", action="store_true", help="show what changed against the baseline")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="the file to compare with")
    parser.add_argument("--figures", type=Path, help="take the figures from this file instead of running anything")
    parser.add_argument("--out", type=Path, help="write the figures into this file")
    parser.add_argument(
        "--write-baseline", dest="out", action="store_const", const=BASELINE, help=f"into {BASELINE.name}"
    )
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(names)}")
    try:
        before = read_result(arguments.baseline) if arguments.compare else None
        result = read_result(arguments.figures) if arguments.figures else run_all(chosen, arguments.quick)
    except (BenchError, BaselineError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    show(result, before)
    if arguments.out:
        arguments.out.write_text(result.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
