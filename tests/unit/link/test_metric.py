# SPDX-License-Identifier: Apache-2.0
"""The link score by hand, what moves it and what does not, and neighbours that lie about their loss."""

import random

import pytest

from meshd.link.metric import (
    LOSS_PACKETS,
    LinkMetric,
    LinkSample,
    LossCount,
    came_up,
    measured,
    seeded,
    seeded_by,
    went_down,
)
from meshd.link.settings import BearerKind, BearerSettings, ConvergenceLayer, RadioSettings

KIB = 1024


def test_the_score_is_the_sum_of_its_parts() -> None:
    metric = LinkMetric(8000.0, 0.3, loss=0.5, availability_then=0.9, mean_outage_s=20.0)
    # 2 s to wait, 500 bytes before it at 1000 bytes/s, 1000 bytes of which every other is lost, 0.3 s, 10 % of 20 s.
    assert metric.expected_s(1000, 0.0, queued_bytes=500, wait_s=2.0) == pytest.approx(2 + 0.5 + 2 + 0.3 + 2)


def test_a_link_begins_as_configured() -> None:
    radio = RadioSettings(delay_ms=250)
    bearer = BearerSettings("los0", BearerKind.LOS, "los0", True, None, 64_000, 0, 15, radio=radio)
    assert seeded_by(bearer, ConvergenceLayer.FOUNTAIN) == seeded(64_000, 0.25)
    assert seeded_by(bearer, ConvergenceLayer.TCPCLV4) == seeded(64_000, 0.0)
    assert seeded(64_000, 0.25).expected_s(8000, 0.0) == pytest.approx(1.25)


def test_the_rate_follows_acknowledged_goodput_by_an_eighth() -> None:
    metric = measured(seeded(8000, 0.0), LinkSample(goodput_bps=16_000))
    assert metric.rate_bps == 9000
    for _ in range(60):
        metric = measured(metric, LinkSample(goodput_bps=16_000))
    assert metric.rate_bps == pytest.approx(16_000, rel=0.01)


def test_little_traffic_does_not_make_a_link_slow() -> None:
    metric = measured(seeded(8000, 0.0), LinkSample(goodput_bps=10, is_full=False))
    assert metric == seeded(8000, 0.0)
    assert measured(metric, LinkSample(goodput_bps=16_000, is_full=False)).rate_bps == 9000


def test_the_delay_is_half_of_the_round_trip() -> None:
    assert measured(seeded(8000, 0.0), LinkSample(rtt_s=0.6)).owd_s == 0.3


def test_loss_is_that_of_the_last_64_packets() -> None:
    metric = measured(seeded(8000, 0.0), LinkSample(packets=8, lost=2))
    assert metric.loss == 0.25
    metric = measured(metric, LinkSample(packets=LOSS_PACKETS, lost=0))
    assert metric.loss == 0.0
    metric = measured(metric, LinkSample(packets=16, lost=16))
    assert metric.loss == pytest.approx(0.99 * 16 / 64)
    assert metric.loss < 1


def test_loss_towards_us_does_not_change_the_score() -> None:
    """Loss from A to B is counted by B and told to A; what B loses of that is B's own score."""
    a_to_b = measured(seeded(8000, 0.1), LinkSample(packets=64, lost=16))
    b_to_a = measured(seeded(8000, 0.1), LinkSample(packets=64, lost=0, loss_in=0.25))
    assert a_to_b.expected_s(KIB, 0.0) > seeded(8000, 0.1).expected_s(KIB, 0.0)
    assert b_to_a.expected_s(KIB, 0.0) == seeded(8000, 0.1).expected_s(KIB, 0.0)
    assert b_to_a.loss_in == 0.25


def test_availability_forgets_half_in_ten_minutes() -> None:
    metric = came_up(seeded(8000, 0.0), 0.0)
    assert metric.availability(1e6) == 1.0
    metric = went_down(metric, 1000.0)
    assert metric.availability(1600.0) == pytest.approx(0.5)
    metric = came_up(metric, 1600.0)
    assert metric.availability(1600.0) == pytest.approx(0.5)
    assert metric.availability(2200.0) == pytest.approx(0.75)
    assert metric.mean_outage_s == 600
    assert metric.expected_s(0, 1600.0) == pytest.approx(300)


def test_what_has_never_been_up_has_no_outage() -> None:
    metric = came_up(went_down(seeded(8000, 0.0), 100.0), 500.0)
    assert (metric.availability(500.0), metric.outages, metric.mean_outage_s) == (1.0, 0, 0.0)


def test_the_mean_outage_follows_outages() -> None:
    metric = came_up(seeded(8000, 0.0), 0.0)
    for begin, end in ((10.0, 20.0), (30.0, 70.0)):
        metric = came_up(came_up(went_down(went_down(metric, begin), begin + 1), end), end + 1)
    assert metric.outages == 2
    assert metric.mean_outage_s == pytest.approx(10 + 30 / 8)


def test_sigma_is_that_of_the_score() -> None:
    """The score of a link that stays as it is varies by about what sigma says."""
    rng = random.Random(5)
    metric, scores, sigmas = seeded(1_000_000, 0.0), [], []
    for _ in range(5000):
        lost = sum(rng.random() < 0.1 for _ in range(LOSS_PACKETS))
        metric = measured(metric, LinkSample(1_000_000 * rng.uniform(0.7, 1.3), packets=LOSS_PACKETS, lost=lost))
        scores.append(metric.expected_s(KIB, 0.0))
        sigmas.append(metric.sigma_s(KIB))
    mean = sum(scores[100:]) / len(scores[100:])
    spread = (sum((score - mean) ** 2 for score in scores[100:]) / len(scores[100:])) ** 0.5
    assert 0.7 * spread < sum(sigmas[100:]) / len(sigmas[100:]) < 1.5 * spread


def test_a_lasting_change_hardly_widens_sigma() -> None:
    metric = seeded(1_000_000, 0.0)
    for _ in range(50):
        metric = measured(metric, LinkSample(1_000_000))
    for _ in range(10):
        metric = measured(metric, LinkSample(250_000))
    slow_s = metric.expected_s(KIB, 0.0)
    assert slow_s - seeded(1_000_000, 0.0).expected_s(KIB, 0.0) > 3 * metric.sigma_s(KIB)


def test_an_honest_neighbour_is_believed() -> None:
    count = LossCount()
    count.note_report(100, 20)
    count.note_proven(80)
    assert count.take() == (100, 20)
    assert count.take() == (0, 0)


def test_a_neighbour_can_not_have_lost_what_it_acknowledged() -> None:
    count, told = LossCount(), 0
    for _ in range(50):
        count.note_report(100, 90)
        count.note_proven(95)
        told += count.take()[1]
    assert told <= 0.05 * 5000


def test_acknowledgements_that_come_late_are_made_up_for() -> None:
    count = LossCount()
    count.note_report(100, 90)
    assert count.take() == (100, 90)
    count.note_proven(100)
    for _ in range(9):
        count.note_report(100, 10)
        count.note_proven(90)
    # 10 in a hundred of 900 at most, of which 90 were told.
    assert count.take() == (900, 0)


def test_the_modems_word_begins_the_measuring_anew() -> None:
    metric = measured(seeded(1_000_000, 0.1), LinkSample(goodput_bps=900_000))
    told = measured(metric, LinkSample(declared_bps=64_000, declared_owd_s=0.3, confidence=0.4))
    assert (told.rate_bps, told.owd_s, told.confidence) == (64_000, 0.3, 0.4)
    assert told.rate_variance == 0
    assert measured(told, LinkSample(goodput_bps=64_000)).rate_bps == 64_000


def test_a_measured_delay_counts_more_than_the_modems() -> None:
    metric = measured(seeded(1_000_000, 0.1), LinkSample(rtt_s=0.5))
    assert measured(metric, LinkSample(declared_owd_s=0.9)).owd_s == 0.25
