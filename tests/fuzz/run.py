#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the fuzz targets, each in a process of its own, two at a time, and prints what came of it.

    tests/fuzz/run.py [--seconds N | --runs N] [--target T]... [--jobs N] [--keep FOLDER]

An input that breaks a target is saved into tests/fuzz/regressions/TARGET: commit it together with the repair. What
else a run finds is forgotten, unless --keep names a folder; a later run with the same folder goes on from there.
Exit code 1 when anything was found, or nothing was executed.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.target import CORPUS, REGRESSIONS, load, names

REPOSITORY: Final = Path(__file__).resolve().parents[2]
INPUT_MAX_BYTES: Final = 4096
MEMORY_MAX_MIB: Final = 1024
"""A target that takes more has found a way to make meshd hoard."""
INPUT_TIMEOUT_S: Final = 10
"""For one input; the invariants count steps, this only ends endless loops."""
STOP_PATIENCE_S: Final = 120
LOG_LINES_SHOWN: Final = 40

_EXECUTED: Final = re.compile(r"stat::number_of_executed_units: (\d+)")
_PER_SECOND: Final = re.compile(r"stat::average_exec_per_sec: +(\d+)")
_COVERAGE: Final = re.compile(r"cov: (\d+) ft: (\d+)")
_LAST: Final = re.compile(r"^#(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What one target's run came to."""

    name: str
    executed: int
    per_second: int
    coverage: int
    crashes: list[Path]
    is_failed: bool
    log: str


def main() -> int:
    """Entry point."""
    args = _arguments()
    if importlib.util.find_spec("atheris") is None:
        print(
            "fuzz: atheris is not installed: it has wheels for x86-64 and Python below 3.14 only; tools/setup.sh fuzz"
        )
        return 1 if os.environ.get("CI") == "true" else 0
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda name: run_target(name, args), args.target or names()))
    _print_table(results)
    for result in results:
        if result.is_failed:
            print(f"\n== {result.name}\n" + "\n".join(result.log.splitlines()[-LOG_LINES_SHOWN:]))
    failed = sum(result.is_failed for result in results)
    print(f"\n{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz every way into meshd.")
    parser.add_argument("--seconds", type=int, default=20, help="for each target (default 20)")
    parser.add_argument("--runs", type=int, default=-1, help="executions of each target, instead of --seconds")
    parser.add_argument("--target", action="append", choices=names(), help="only this one; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default 2)")
    parser.add_argument("--keep", type=Path, help="folder for what is found, by target")
    return parser.parse_args()


def run_target(name: str, args: argparse.Namespace) -> Result:
    """Fuzz one target to the end of its time or runs, or to its first finding."""
    with tempfile.TemporaryDirectory(prefix="meshd-fuzz-") as scratch:
        found = args.keep / name if args.keep else Path(scratch) / "found"
        found.mkdir(parents=True, exist_ok=True)
        words = Path(scratch) / "dictionary"
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in load(name).dictionary()))
        crashes = REGRESSIONS / name
        crashes.mkdir(parents=True, exist_ok=True)
        before = set(crashes.iterdir())
        limit = [f"-runs={args.runs}"] if args.runs >= 0 else [f"-max_total_time={args.seconds}"]
        options = [
            *limit,
            f"-max_len={INPUT_MAX_BYTES}",
            f"-rss_limit_mb={MEMORY_MAX_MIB}",
            f"-timeout={INPUT_TIMEOUT_S}",
            "-len_control=20",
            f"-dict={words}",
            f"-artifact_prefix={crashes}/",
            "-print_final_stats=1",
            str(found),
            str(CORPUS / name),
            str(crashes),
        ]
        command = [sys.executable, "-m", "tests.fuzz.fuzz_one", name, *options]
        patience = args.seconds + STOP_PATIENCE_S if args.runs < 0 else None
        try:
            done = subprocess.run(
                command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=patience, check=False
            )
            log, code = done.stdout.decode(errors="replace"), done.returncode
        except subprocess.TimeoutExpired as error:
            log, code = (error.stdout or b"").decode(errors="replace") + "\nit did not stop when its time was up", 1
        new = sorted(set(crashes.iterdir()) - before)
        if not any(crashes.iterdir()):
            crashes.rmdir()
    return _result(name, log, code, new)


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _result(name: str, log: str, code: int, new: list[Path]) -> Result:
    executed = _last_number(_EXECUTED, log) or _last_number(_LAST, log)
    coverage = _COVERAGE.findall(log)
    return Result(
        name=name,
        executed=executed,
        per_second=_last_number(_PER_SECOND, log),
        coverage=int(coverage[-1][0]) if coverage else 0,
        crashes=new,
        is_failed=code != 0 or bool(new) or not executed,
        log=log,
    )


def _last_number(pattern: re.Pattern[str], log: str) -> int:
    numbers = pattern.findall(log)
    return int(numbers[-1]) if numbers else 0


def _print_table(results: list[Result]) -> None:
    print(f"{'TARGET':<20} {'EXECUTIONS':>11} {'PER SECOND':>11} {'COVERAGE':>9}  FOUND")
    for result in results:
        found = ", ".join(path.name for path in result.crashes) or ("failed" if result.is_failed else "nothing")
        print(f"{result.name:<20} {result.executed:>11} {result.per_second:>11} {result.coverage:>9}  {found}")


if __name__ == "__main__":
    sys.exit(main())
