# SPDX-License-Identifier: Apache-2.0
"""Half the maximum rate through one durable node for a long time: memory, files, CPU, latency and disk stay flat.

The maximum is measured first. Then, for so many minutes of real time, 1 KiB bundles at half of it, a sample each ten
seconds (two with --quick), and a verdict: the median of the last quarter against that of the second quarter, within
named bounds. Every bundle has to arrive, once. Latency is from the moment when a bundle was due to be sent until the
sink has it.

    python -m tests.bench.soak [--minutes 20] [--quick] [--json]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.forward import WARM_UP, Load, collect_in_order, sink_of
from tests.bench.support.harness import BenchError, helper, print_table, quick_share, scratch
from tests.bench.support.process import folder_mb, open_files, scheduled_s
from tests.bench.support.relay import chain

PACED: Final = "tests.bench.support.paced"
PAYLOAD_BYTES: Final = 1024
MAXIMUM: Final = Load("1 KiB", "1k", PAYLOAD_BYTES, 50_000, 20_000)
MAXIMUM_BATCHES: Final = 3
SHARE: Final = 0.5
MINUTES: Final = 20.0
QUICK_MINUTES: Final = 0.3
INTERVAL_S: Final = 10.0
QUICK_INTERVAL_S: Final = 2.0
SAMPLES_MIN: Final = 16
"""With fewer, a quarter is too short to say anything."""


class Sample(NamedTuple):
    """One line of the table."""

    at_s: float
    bundles_per_s: float
    rss_mb: float
    files: float
    cpu_percent: float
    p50_ms: float
    p99_ms: float
    store_mb: float


class Bound(NamedTuple):
    """How much more the last quarter may have than the second one: the larger of the two."""

    share: float
    absolute: float


BOUNDS: Final = {
    "rss_mb": Bound(0.05, 5.0),
    "files": Bound(0.0, 2.0),
    "cpu_percent": Bound(0.15, 3.0),
    "p50_ms": Bound(0.25, 1.0),
    "p99_ms": Bound(0.50, 5.0),
    "store_mb": Bound(0.25, 32.0),
}


def growth(samples: Sequence[Sample]) -> list[tuple[str, float, float, bool]]:
    """For each bounded column: median of the second quarter, median of the last, and whether that is flat."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    rows = []
    for name, bound in BOUNDS.items():
        before, after = (statistics.median(getattr(sample, name) for sample in part) for part in (second, last))
        rows.append((name, before, after, after - before <= max(bound.absolute, before * bound.share)))
    return rows


def maximum_rate(quick: bool) -> float:
    """Bundles a second through a fresh node."""
    batches = [WARM_UP, *[MAXIMUM] * MAXIMUM_BATCHES]
    with scratch() as directory, sink_of(batches, quick) as sink, chain(directory, 1, sink.read()["port"]) as nodes:
        results = collect_in_order(batches, quick, nodes, sink)
    return statistics.median(each["bundles_per_s"] for each in results[1:])


def soak(rate: int, seconds: float, interval_s: float) -> list[Sample]:
    """Carry the load; a sample each interval, printed as it is made."""
    count = int(rate * seconds)
    samples: list[Sample] = []
    with (
        scratch() as directory,
        helper(PACED, "sink", PAYLOAD_BYTES, count, int(interval_s * 1000)) as sink,
        chain(directory, 1, sink.read()["port"]) as nodes,
        helper(PACED, "source", nodes.port, PAYLOAD_BYTES, count, rate) as source,
    ):
        (daemon,) = nodes.daemons
        state = directory / "node-relay"
        begin = source.read()["begin"]
        print("  " + "".join(name.rjust(15) for name in Sample._fields), flush=True)
        cpu_s, at = scheduled_s(daemon.pid), time.monotonic()
        while "end" not in (told := sink.read()):
            last_cpu_s, last_at = cpu_s, at
            cpu_s, at = scheduled_s(daemon.pid), time.monotonic()
            passed_s = at - last_at
            samples.append(
                Sample(
                    at - begin,
                    told["bundles"] / passed_s,
                    daemon.rss_mb(),
                    open_files(daemon.pid),
                    (cpu_s - last_cpu_s) / passed_s * 100,
                    told["p50_ms"],
                    told["p99_ms"],
                    folder_mb(state),
                )
            )
            print("  " + "".join(f"{value:.1f}".rjust(15) for value in samples[-1]), flush=True)
        if "end" not in source.read():
            raise BenchError("the source was not told of every bundle")
    return samples


def measure(minutes: float, quick: bool) -> tuple[dict[str, float], bool]:
    """The whole run; its figures, and whether all is flat."""
    maximum = maximum_rate(quick)
    rate = max(1, int(maximum * SHARE))
    print(f"maximum {maximum:.0f} bundles/s of 1 KiB; {rate}/s for {minutes:g} minutes", flush=True)
    samples = soak(rate, minutes * 60, QUICK_INTERVAL_S * quick_share() if quick else INTERVAL_S)
    if len(samples) < 4:
        raise BenchError(f"{len(samples)} samples are too few: take more minutes")
    rows = growth(samples)
    table = [("", "second quarter", "last quarter", "")]
    table += [(name, f"{old:.2f}", f"{new:.2f}", "flat" if is_flat else "GROWS") for name, old, new, is_flat in rows]
    print_table("medians", table)
    is_flat = all(row[3] for row in rows)
    if len(samples) < SAMPLES_MIN:
        print("verdict: none, the run was too short")
        is_flat = True
    else:
        print(f"verdict: {'flat' if is_flat else 'NOT flat'}; every bundle arrived, once")
    figures = {
        f"{name}_{part}": value for name, *values, _ in rows for part, value in zip(("q2", "q4"), values, strict=True)
    }
    return {"bundles_per_s_max": maximum, "bundles_per_s_soak": float(rate), **figures}, is_flat


def main() -> int:
    """The command; exit code 1 when something grows."""
    parser = argparse.ArgumentParser(description="Half the maximum rate through one durable node, for a long time.")
    parser.add_argument("--minutes", type=float, help=f"of real time; {MINUTES:g} if not said, less with --quick")
    parser.add_argument("--quick", action="store_true", help="under 50 s, without a verdict")
    parser.add_argument("--json", action="store_true", help="end with one line: a JSON object, figure name to number")
    arguments = parser.parse_args()
    try:
        minutes = arguments.minutes or (QUICK_MINUTES * quick_share() if arguments.quick else MINUTES)
        figures, is_flat = measure(minutes, arguments.quick)
    except BenchError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
