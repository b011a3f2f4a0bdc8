# SPDX-License-Identifier: Apache-2.0
"""What changed between two runs of the benchmarks, and when they can't be compared."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.support.baseline import (
    BaselineError,
    RunResult,
    compare,
    notes_on,
    read_result,
    target_rows,
    verdict_on,
)
from tests.bench.support.machine import Machine, cpu_model

MACHINE: Machine = {
    "cores": 2,
    "cpu": "Some CPU",
    "kernel": "6.1.0",
    "python": "3.11.2",
    "build": "sources",
    "memory_gib": 8.0,
    "fdatasync_p50_ms": 0.5,
}
BEFORE = RunResult(MACHINE, False, {"forward": {"bundles_per_s_1k": 50_000.0, "cpu_us_per_bundle_1k": 16.0}})


def test_a_figure_that_changed_stands_with_both_values_and_the_change() -> None:
    now = replace(BEFORE, figures={"forward": {"bundles_per_s_1k": 60_000.0, "cpu_us_per_bundle_1k": 20.0}})
    assert compare(BEFORE, now)[1:] == [
        ("forward bundles_per_s_1k", "50000", "60000", "+20.0 %", "better"),
        ("forward cpu_us_per_bundle_1k", "16", "20", "+25.0 %", "worse"),
    ]


def test_figures_that_only_one_run_has_are_not_passed_over() -> None:
    now = replace(BEFORE, figures={"forward": {"bundles_per_s_1k": 50_000.0}, "memory": {"rss_idle_mb": 46.0}})
    assert compare(BEFORE, now)[1:] == [
        ("forward bundles_per_s_1k", "50000", "50000", "+0.0 %", ""),
        ("forward cpu_us_per_bundle_1k", "16", "-", "-", "gone"),
        ("memory rss_idle_mb", "-", "46", "-", "new"),
    ]


def test_a_baseline_of_nothing_divides_by_nothing() -> None:
    before, now = (replace(BEFORE, figures={"forward": {"lost": value}}) for value in (0.0, 3.0))
    assert compare(before, now)[1] == ("forward lost", "0", "3", "-", "")


@pytest.mark.parametrize(
    ("name", "before", "now", "expected"),
    [
        ("mbit_per_s_1m_tls", 4000.0, 3000.0, "worse"),
        ("ratio_to_tcp_copy_1m", 0.5, 0.6, "better"),
        ("rate_after_1m_ratio", 1.0, 0.8, "worse"),
        ("latency_p50_ms", 1.0, 0.8, "better"),
        ("start_1m_s", 3.0, 4.0, "worse"),
        ("rss_idle_mb", 60.0, 50.0, "better"),
        ("cpu_idle_percent", 0.1, 0.3, "worse"),
        ("puts_per_s_1k_group_32", 1000.0, 1200.0, "better"),
        ("bundles_per_s_1k", 50_000.0, 46_000.0, ""),
        ("tcp_copy_mbit_per_s_1m", 9000.0, 4000.0, ""),
    ],
)
def test_which_way_is_better(name: str, before: float, now: float, expected: str) -> None:
    assert verdict_on(name, before, now) == expected


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"cores": 8}, "cores"),
        ({"cpu": "Another"}, "cpu"),
        ({"kernel": "6.2"}, "kernel"),
        ({"python": "3.12.1"}, "python"),
        ({"build": "compiled"}, "build"),
    ],
)
def test_another_machine_is_named(change: Machine, word: str) -> None:
    (note,) = notes_on(BEFORE, replace(BEFORE, machine=MACHINE | change))
    assert note.startswith(f"{word} differs: {MACHINE[word]} in the baseline, {change[word]} now")


def test_the_same_machine_needs_no_note() -> None:
    assert notes_on(BEFORE, replace(BEFORE, machine=MACHINE | {"fdatasync_p50_ms": 0.7})) == []


def test_a_slower_disk_and_a_shorter_run_are_named() -> None:
    now = RunResult(MACHINE | {"fdatasync_p50_ms": 0.8}, True, BEFORE.figures)
    disk, length = notes_on(BEFORE, now)
    assert "0.8 ms now, 0.5 ms in the baseline" in disk
    assert "full runs in the baseline" in length


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text(BEFORE.to_json())
    assert read_result(path) == BEFORE


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": {}}'])
def test_a_file_that_is_none_is_refused_with_a_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "figures.json"
    path.write_text(text)
    with pytest.raises(BaselineError, match="--write-baseline"):
        read_result(path)


def test_a_missing_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"nothing\.json does not exist.*--write-baseline"):
        read_result(tmp_path / "nothing.json")


def test_targets_are_met_missed_or_not_measured() -> None:
    result = replace(BEFORE, figures={"forward": {"bundles_per_s_1k": 57_000.0}, "memory": {"rss_idle_mb": 60.1}})
    verdicts = {row[0]: row[-1] for row in target_rows(result)[1:]}
    assert verdicts["bundles_per_s_1k"] == "met"
    assert verdicts["rss_idle_mb"] == "not met"
    assert verdicts["latency_p50_ms"] == "not measured"


def test_the_processor_is_named_on_every_architecture() -> None:
    assert cpu_model("processor : 0\nmodel name : AMD EPYC\n") == "AMD EPYC"
    assert cpu_model("processor : 0\nModel : Raspberry Pi 5\n") == "Raspberry Pi 5"
    assert cpu_model("processor : 0\n")
