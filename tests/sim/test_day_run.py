# SPDX-License-Identifier: Apache-2.0
"""The short form of day_run: a virtual hour, and a verdict that can be against us."""

from collections import Counter

from tests.sim.day_run import SLACK, growth, run, table_sizes


def test_an_hour_of_trouble_contents_the_oracle() -> None:
    line, problems = run(seed=2, hours=1)
    assert problems == [], line
    assert "KnownBundles" in line


def test_a_table_that_grows_is_named() -> None:
    hours = [Counter({"Agent.table": 100 * (hour + 1), "Agent.other": 100}) for hour in range(8)]
    assert growth(hours) == ["Agent.table had 400 at most, then 800"]


def test_what_a_small_table_does_by_chance_is_no_growth() -> None:
    assert growth([Counter({"Agent.table": size}) for size in (1, 1, SLACK, 1)]) == []


def test_history_may_fill_up_to_its_limit_and_not_beyond() -> None:
    assert growth([Counter({"SentMessages._messages": size}) for size in (0, 10, 500, 9_999)]) == []
    assert growth([Counter({"SentMessages._messages": size}) for size in (0, 10, 500, 10_001)]) != []


class _Inner:
    __slots__ = ("rows",)
    __module__ = "meshd.imagined"

    def __init__(self) -> None:
        self.rows = {1: [1, 2], 2: [3]}


class _Outer:
    __module__ = "meshd.imagined"

    def __init__(self) -> None:
        self.inner = {"a": _Inner()}
        self.number = 7


def test_containers_are_found_at_any_depth() -> None:
    assert table_sizes([_Outer()]) == {"_Outer.inner": 1, "_Inner.rows": 2, "_Inner.rows[]": 3}
