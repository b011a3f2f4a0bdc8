# SPDX-License-Identifier: Apache-2.0
"""Loss and round trip from reports, with other nodes' datagrams between, outages and restarts."""

import random

import pytest

from meshd.cl.fountain.frames import Report
from meshd.cl.fountain.path_meter import DISORDER_S, LOSS_BEGIN, PathMeter


def _report(counter: int, received: int, hold_s: float = 0.0) -> Report:
    return Report(1, 1, counter, int(hold_s * 1e6), received, 0, 0)


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
def test_loss_is_found_though_others_are_served_too(loss: float) -> None:
    rng = random.Random(3)
    meter = PathMeter(0.6)
    received, last = 0, -1
    for counter in range(0, 30_000, 3):  # two of three datagrams are for others
        now = counter * 0.001
        meter.note_sent(counter, now)
        if rng.random() >= loss:
            received, last = received + 1, counter
        if counter % 300 == 0 and last >= 0:
            meter.take_report(_report(last, received), now + 0.6)
    assert meter.loss == pytest.approx(loss, abs=0.03)
    assert meter.lost / meter.sent == pytest.approx(loss, abs=0.01)


def test_the_round_trip_does_not_count_the_hold_time() -> None:
    meter = PathMeter(5.0)
    meter.note_sent(1, 10.0)
    meter.take_report(_report(1, 1, hold_s=0.25), 10.85)
    assert meter.rtt_s == pytest.approx(0.6)


def test_a_report_that_was_overtaken_is_passed_over() -> None:
    meter = PathMeter(0.6)
    for counter in range(10):
        meter.note_sent(counter, 0.0)
    assert meter.take_report(_report(8, 9), 1.0)
    assert not meter.take_report(_report(5, 6), 1.1)
    assert meter.echo == 8


def test_what_was_sent_long_before_a_quiet_report_is_settled() -> None:
    meter = PathMeter(0.6)
    for counter in range(100):
        meter.note_sent(counter, counter * 0.01)
    meter.take_report(_report(10, 11, hold_s=0.5), 5.0)
    assert meter.settled == 10 + int((0.5 - DISORDER_S) / 0.01)


def test_an_outage_is_no_measure_of_loss() -> None:
    meter = PathMeter(0.6)
    for counter in range(4000):
        meter.note_sent(counter, counter * 0.001)
    meter.take_report(_report(999, 1000), 2.0)
    before = meter.loss
    assert before < LOSS_BEGIN
    meter.take_report(_report(3999, 1001), 9.0)
    assert meter.loss == before


def test_a_node_that_starts_anew_counts_from_the_beginning() -> None:
    meter = PathMeter(0.6)
    for counter in range(200):
        meter.note_sent(counter, counter * 0.001)
    meter.take_report(_report(99, 100), 2.0)
    meter.restart()
    meter.take_report(_report(199, 3), 3.0)
    assert meter.loss < LOSS_BEGIN


def test_the_shortest_way_is_that_of_late_and_nothing_before_one_was_measured() -> None:
    meter = PathMeter(0.6)
    assert meter.owd_s == 0.0
    ways = [2.0, 0.3, *[0.4] * 300]
    for counter, rtt_s in enumerate(ways):
        meter.note_sent(counter, float(counter))
        meter.take_report(_report(counter, counter + 1), counter + rtt_s)
        if counter == 1:
            assert meter.owd_s == pytest.approx(0.15)
            assert meter.rtt_s > 1.0
    assert meter.owd_s == pytest.approx(0.2, abs=0.002)
