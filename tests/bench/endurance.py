# SPDX-License-Identifier: Apache-2.0
"""The rate of a node that has forwarded 1 000 000 bundles against its rate when it was fresh, in one life of a daemon.

With --quick there are fewer: the figure `bundles_in_between` says how many.

    python -m tests.bench.endurance [--quick] [--json]
"""

import statistics
import sys
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.forward import WARM_UP, Load, collect_in_order, sink_of
from tests.bench.support.harness import print_table, run_main, scratch
from tests.bench.support.relay import chain

BETWEEN: Final = Load("100 B", "100b", 100, 100_000, 50_000)
BETWEEN_BATCHES: Final = 10
QUICK_BETWEEN_BATCHES: Final = 4
MEASURED: Final = Load("1 KiB", "1k", 1024, 50_000, 20_000)
MEASURED_BATCHES: Final = 5
QUICK_MEASURED_BATCHES: Final = 3


def measure(quick: bool) -> dict[str, float]:
    """Fresh, a long time, and again; prints the table."""
    between = QUICK_BETWEEN_BATCHES if quick else BETWEEN_BATCHES
    measured = QUICK_MEASURED_BATCHES if quick else MEASURED_BATCHES
    batches = [WARM_UP, *[MEASURED] * measured, *[BETWEEN] * between, *[MEASURED] * measured]
    with scratch() as directory, sink_of(batches, quick) as sink, chain(directory, 1, sink.read()["port"]) as nodes:
        fresh_mb = nodes.rss_mb()
        results = collect_in_order(batches, quick, nodes, sink)
        after_mb = nodes.rss_mb()
    fresh, after = results[1 : 1 + measured], results[-measured:]
    rates = [statistics.median(each["bundles_per_s"] for each in part) for part in (fresh, after)]
    cpu_us = [statistics.median(each["cpu_us"] for each in part) for part in (fresh, after)]
    figures = {
        "bundles_per_s_fresh": rates[0],
        "bundles_per_s_after_1m": rates[1],
        "rate_after_1m_ratio": rates[1] / rates[0],
        "cpu_after_1m_ratio": cpu_us[1] / cpu_us[0],
        "bundles_in_between": float(BETWEEN.count(quick) * between),
        "rss_after_1m_mb": after_mb,
    }
    rows = [
        ("", "1 KiB bundles/s", "CPU us/bundle", "resident MB"),
        ("fresh", f"{rates[0]:.0f}", f"{cpu_us[0]:.1f}", f"{fresh_mb:.0f}"),
        ("after", f"{rates[1]:.0f}", f"{cpu_us[1]:.1f}", f"{after_mb:.0f}"),
    ]
    print_table(f"one node before and after {figures['bundles_in_between']:.0f} bundles that it forwarded", rows)
    print(f"  rate after them against fresh: {figures['rate_after_1m_ratio']:.3f}")
    return figures


if __name__ == "__main__":
    sys.exit(run_main("The rate of a node that has carried a million bundles, against fresh.", measure))
