# SPDX-License-Identifier: Apache-2.0
"""Short forms of the radio table: real daemons, the fountain layer, an emulated link on which loss takes air time.

What is asked here does not depend on how fast the machine is: what is complete, what is emitted, what overtakes what.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.lab.radio_run import Bound, Row, RowFailed, loss_rows, other_rows, run_row, show, wire_bound

LATE_S = 10.0
"""No machine is so busy."""
BAD_KINDS = ["random", "replayed", "truncated", "damaged", "oversized"]

lab = [pytest.mark.root, pytest.mark.lab, pytest.mark.programs("ip")]


def with_lab(test: Any) -> Any:
    for mark in lab:
        test = mark(test)
    return test


ROWS = (
    # One net of two nodes at 10 Mbit/s, 100 ms and 5 % loss, everything one after the other.
    Row(
        "several",
        "several",
        {"loss": 0.05, "delay_s": 0.1},
        {
            "file": {"size_mib": 2},
            "flash": {"count": 5, "bulk_mib": 4, "every_s": 0.2},
            "bad": {"kinds": BAD_KINDS, "per_s": 500, "for_s": 3.0, "size_mib": 2},
            "outage": {"size_mib": 3, "after_s": 1.0, "cut_s": 1.5},
            "deferred": {"count": 1, "size_mib": 0.25},
        },
    ),
    Row(
        "blind",
        "blind",
        {"loss": 0.2, "delay_s": 0.05, "is_blind": True, "bearer_lines": ["emcon_rtc = 0"]},
        {"count": 3, "size_mib": 1},
    ),
    Row(
        "multicast", "multicast", {"loss": 0.05, "delay_s": 0.05, "receivers": 3, "is_multicast": True}, {"size_mib": 2}
    ),
    Row("damage", "file", {"delay_s": 0.1, "duplicate": 0.05, "reorder": 0.25, "corrupt": 0.01}, {"size_mib": 2}),
)


@pytest.fixture(scope="module")
def labs() -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """Each row in a lab of its own, two at once: they wait for their links more than they compute."""
    with ThreadPoolExecutor(2) as pool:
        yield {row.name: pool.submit(run_row, row, 1) for row in ROWS}


@pytest.fixture
def measured(labs: dict[str, Future[dict[str, Any]]]) -> dict[str, Any]:
    """Of the first row."""
    return labs["several"].result()


@with_lab
def test_a_file_is_complete_and_takes_few_bytes(measured: dict[str, Any]) -> None:
    assert measured["file"]["file_s"] < float("inf")
    assert measured["file"]["wrong"] == 0
    # Two objects are too few for the bound of the table: it is about the steady state.
    assert measured["file"]["wire_per_payload"] < 1.07 / 0.95 + 0.15


@with_lab
def test_flash_overtakes_the_bulk(measured: dict[str, Any]) -> None:
    assert measured["flash"]["flash_count"] == 5
    assert measured["flash"]["flash_max_s"] < LATE_S
    assert measured["flash"]["bulk_ran_on"]


@with_lab
def test_bad_datagrams_change_nothing(measured: dict[str, Any]) -> None:
    assert measured["bad"]["bad_per_s"] > 0
    assert measured["bad"]["wrong"] == 0
    assert measured["bad"]["file_s"] < float("inf")


@with_lab
def test_after_an_outage_nothing_begins_anew(measured: dict[str, Any]) -> None:
    """What was sent into the cut is 1.5 s of air time, 0.6 times the file."""
    outage = measured["outage"]
    assert outage["file_s_without_outage"] < float("inf")
    assert outage["wrong"] == 0
    assert outage["wire_per_payload"] < 1.07 / 0.95 + 0.15 + 0.7


@with_lab
def test_what_arrives_in_silence_is_acknowledged_afterwards(measured: dict[str, Any]) -> None:
    deferred = measured["deferred"]
    assert (deferred["complete_pct"], deferred["complete_afterwards"], deferred["wrong"]) == (100, 1, 0)
    assert deferred["frames_back"] == 0
    assert deferred["frames_that_stopped"] > 0


@with_lab
def test_a_silent_node_gets_everything_and_sends_nothing(labs: dict[str, Future[dict[str, Any]]]) -> None:
    found = labs["blind"].result()
    # 728 symbols are needed, 815 of 1019 arrive: six standard deviations.
    assert found["blind_complete_pct"] == 100
    assert found["frames_back"] == 0
    assert found["wrong"] == 0


@with_lab
def test_one_transmission_serves_three(labs: dict[str, Future[dict[str, Any]]]) -> None:
    found = labs["multicast"].result()
    assert found["receivers_complete"] == 3
    assert found["wrong"] == 0
    assert found["multicast_bytes_ratio"] < 1.5, "three copies would take 3.3"


@with_lab
def test_duplicates_disorder_and_damage_change_nothing(labs: dict[str, Future[dict[str, Any]]]) -> None:
    found = labs["damage"].result()
    assert found["file_s"] < float("inf")
    assert found["wrong"] == 0


@with_lab
def test_a_lab_that_fails_says_why() -> None:
    with pytest.raises(RowFailed, match="TypeError"):
        run_row(Row("nonsense", "blast", {}, {"no such value": 1}), seed=1)


def test_a_figure_out_of_its_bound_is_not_met(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("row", "file", {}, bounds=[Bound("good", at_least=0.93), Bound("wrong", 0, 0)])
    assert show(row, {"good": 0.94, "wrong": 0})
    assert not show(row, {"good": 0.92, "wrong": 0})
    assert not show(row, {"good": 0.94, "wrong": 1})
    assert capsys.readouterr().out.count("NOT MET") == 2
    assert wire_bound(0.2).is_met(1.36)
    assert not wire_bound(0.2).is_met(1.37)


def test_the_table_has_every_row() -> None:
    names = [row.name for row in (*loss_rows(), *other_rows())]
    assert len(names) == len(set(names)) == 27
    assert all(row.bounds for row in (*loss_rows(), *other_rows()))
