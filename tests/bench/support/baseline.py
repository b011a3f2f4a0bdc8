# SPDX-License-Identifier: Apache-2.0
"""Figures of one run of all benchmarks against those of another: the file, the table of changes, the targets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.support.machine import Machine

CHANGE_MIN: Final = 0.10
"""Smaller changes are noise, and are not called better or worse."""
SYNC_FACTOR: Final = 1.5
"""A disk that syncs this many times slower or faster is another disk, or a busy one."""
LOWER_IS_BETTER: Final = ("_us", "_ms", "_s", "_mb", "_percent", "_bytes_per_bundle")
LOWER_IS_BETTER_FROM: Final = (
    "cpu_",
    "rss_",
    "start_",
    "latency_",
    "rtt_",
    "recover",
    "wire_",
    "file_20mib_",
    "flash_",
    "multicast_",
    "frames_silent_",
    "added_latency_",
    "overhead_",
)
NEUTRAL: Final = (
    "tcp_copy_",
    "srt_",
    "dd_",
    "peer_",
    "bare_",
    "bundles_in_between",
    "fdatasync_",
    "limit_",
    "frames_open_",
)
"""References: they say how fast the machine was, not how good we are."""
TARGETS: Final[Mapping[str, Mapping[str, tuple[str, float]]]] = {
    "forward": {
        "bundles_per_s_1k": (">=", 57_000),
        "bundles_per_s_100b": (">=", 63_000),
        "mbit_per_s_1m": (">=", 8_000),
        "mbit_per_s_1m_tls": (">=", 3_500),
        "mbit_per_s_64k": (">=", 6_000),
    },
    "endurance": {"rate_after_1m_ratio": (">=", 0.95)},
    "latency": {"latency_p50_ms": ("<=", 1.0), "latency_p99_ms": ("<=", 3.0)},
    "memory": {
        "start_1m_s": ("<=", 3.0),
        "rss_1m_mb": ("<=", 500),
        "rss_idle_mb": ("<=", 60),
        "cpu_idle_percent": ("<=", 0.5),
    },
    "emcon": {
        "frames_silent_under_attack": ("<=", 0),
        "last_frame_ms": ("<=", 5),
        "set_silent_ms": ("<=", 100),
        "lease_last_frame_s": ("<=", 5),
    },
    "satcom": {
        **{f"goodput_ratio_{pct}pct": (">=", 0.93) for pct in (0, 1, 5, 10, 20)},
        "file_20mib_s_0pct": ("<=", 18.6),
        "file_20mib_s_1pct": ("<=", 19.0),
        "file_20mib_s_5pct": ("<=", 20.3),
        "file_20mib_s_10pct": ("<=", 21.8),
        **{f"wire_per_payload_{pct}pct": ("<=", 1.07 / (1 - pct / 100) + 0.03) for pct in (0, 1, 5, 10, 20)},
        "flash_p95_s": ("<=", 0.60),
        "multicast_bytes_ratio": ("<=", 1.25),
        "blind_complete_pct": (">=", 99),
    },
    "fmv": {
        "on_time_pct_3": (">=", 99.95),
        "on_time_pct_10": (">=", 99.8),
        "archive_identical": (">=", 1),
        "added_latency_ms": ("<=", 150),
        "overhead_points": ("<=", 8),
    },
}


class BaselineError(Exception):
    """A file of figures can't be read; the text says which, why and what to do."""


@dataclass(frozen=True)
class RunResult:
    """All figures of one run, by benchmark, and what it ran on."""

    machine: Machine
    is_quick: bool
    figures: Mapping[str, Mapping[str, float]]

    def to_json(self) -> str:
        """As the file has it."""
        rounded = {
            name: {key: float(f"{value:.5g}") for key, value in figures.items()}
            for name, figures in self.figures.items()
        }
        return json.dumps({"machine": self.machine, "quick": self.is_quick, "figures": rounded}, indent=2) + "\n"


def read_result(path: Path) -> RunResult:
    """A file that `to_json` wrote. Errors: BaselineError."""
    try:
        found = json.loads(path.read_text())
        return RunResult(found["machine"], found["quick"], found["figures"])
    except FileNotFoundError as error:
        raise BaselineError(f"{path} does not exist: make it with --write-baseline on a quiet machine") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BaselineError(f"{path} is no file of figures ({error}): make it anew with --write-baseline") from error


def notes_on(before: RunResult, now: RunResult) -> list[str]:
    """Why the two can't be compared as they stand."""
    notes = [
        f"{key} differs: {before.machine.get(key)} in the baseline, {now.machine.get(key)} now"
        for key in ("cores", "cpu", "kernel", "python", "build", "memory_gib")
        if before.machine.get(key) != now.machine.get(key)
    ]
    syncs = [machine.get("fdatasync_p50_ms") for machine in (before.machine, now.machine)]
    if all(isinstance(each, int | float) and each > 0 for each in syncs):
        slow, fast = max(map(float, map(str, syncs))), min(map(float, map(str, syncs)))
        if slow > fast * SYNC_FACTOR:
            notes.append(f"the disk differs: fdatasync takes {syncs[1]} ms now, {syncs[0]} ms in the baseline")
    if before.is_quick != now.is_quick:
        notes.append(f"lengths differ: {'quick' if before.is_quick else 'full'} runs in the baseline")
    return notes


def verdict_on(name: str, before: float, now: float) -> str:
    """better, worse, or nothing when the change is small or the figure is a reference."""
    if name.startswith(NEUTRAL) or before == 0 or abs(now / before - 1) < CHANGE_MIN:
        return ""
    return "better" if (now < before) == is_lower_better(name) else "worse"


def is_lower_better(name: str) -> bool:
    """Times, memory and load; rates and ratios are the other way round."""
    if name.startswith(LOWER_IS_BETTER_FROM):
        return True
    return "per_s" not in name and "ratio" not in name and name.endswith(LOWER_IS_BETTER)


def compare(before: RunResult, now: RunResult) -> list[tuple[str, ...]]:
    """The table, its head first: every figure that either has."""
    rows: list[tuple[str, ...]] = [("figure", "baseline", "now", "change", "")]
    for bench in [*before.figures, *(name for name in now.figures if name not in before.figures)]:
        old, new = before.figures.get(bench, {}), now.figures.get(bench, {})
        for name in [*old, *(each for each in new if each not in old)]:
            label = f"{bench} {name}"
            if name not in new:
                rows.append((label, show_figure(old[name]), "-", "-", "gone"))
            elif name not in old:
                rows.append((label, "-", show_figure(new[name]), "-", "new"))
            else:
                change = f"{(new[name] / old[name] - 1) * 100:+.1f} %" if old[name] else "-"
                verdict = verdict_on(name, old[name], new[name])
                rows.append((label, show_figure(old[name]), show_figure(new[name]), change, verdict))
    return rows


def target_rows(result: RunResult) -> list[tuple[str, ...]]:
    """The targets beside the figures, the head first."""
    rows: list[tuple[str, ...]] = [("figure", "now", "target", "")]
    for bench, targets in TARGETS.items():
        for name, (relation, target) in targets.items():
            value = result.figures.get(bench, {}).get(name)
            if value is None:
                rows.append((name, "-", f"{relation} {target:g}", "not measured"))
                continue
            is_met = value >= target if relation == ">=" else value <= target
            rows.append((name, show_figure(value), f"{relation} {target:g}", "met" if is_met else "not met"))
    return rows


def ratio_rows(result: RunResult) -> list[tuple[str, ...]]:
    """What was divided by a reference of the same run, the head first."""
    ratios: Sequence[tuple[str, ...]] = [
        (name, f"{value:.3f}")
        for figures in result.figures.values()
        for name, value in figures.items()
        if name.startswith("ratio_to_") or name.endswith("_ratio")
    ]
    return [("ratio", "now"), *ratios]


def show_figure(value: float) -> str:
    """Four digits, no exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
