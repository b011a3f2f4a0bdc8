# SPDX-License-Identifier: Apache-2.0
"""The pace: exact over a minute, within one datagram at any time, and no bursts after idleness."""

import random

import pytest

from meshd.cl.fountain.pacing import CATCH_UP_S, Pacer

RATE_BPS = 1_000_000
HEADER_BYTES = 70
SECONDS_PER_DATAGRAM = 1070 * 8 / RATE_BPS


def test_a_minute_of_full_load_is_exact_and_never_ahead() -> None:
    pacer = Pacer(RATE_BPS, HEADER_BYTES, 10_000)
    pacer.rest(0.0)
    now, sent_bytes = 0.0, 0
    while now < 60:
        assert pacer.may_send(now)
        pacer.spend(1000, now)
        sent_bytes += 1070
        assert sent_bytes <= now * RATE_BPS / 8 + 1071
        now = pacer.ready_at()
    assert abs(sent_bytes * 8 / 60 / RATE_BPS - 1) < 0.01
    assert pacer.sent_bytes == sent_bytes


def test_a_late_shell_catches_up() -> None:
    rng = random.Random(1)
    pacer = Pacer(RATE_BPS, HEADER_BYTES, 10_000)
    pacer.rest(0.0)
    now, sent = 0.0, 0
    while now < 60:
        while pacer.may_send(now):
            pacer.spend(1000, now)
            sent += 1
        now = pacer.ready_at() + rng.uniform(0, 0.01)
    assert abs(sent * SECONDS_PER_DATAGRAM / 60 - 1) < 0.01


def test_no_burst_beyond_the_modem_or_after_a_rest() -> None:
    for burst_bytes, rests, most in ((3000, False, 4), (10**6, False, int(CATCH_UP_S / SECONDS_PER_DATAGRAM) + 2)):
        pacer = Pacer(RATE_BPS, HEADER_BYTES, burst_bytes)
        pacer.rest(0.0)
        assert _burst(pacer, 10.0) <= most, rests
    pacer = Pacer(RATE_BPS, HEADER_BYTES, 10**6)
    pacer.rest(10.0)
    assert _burst(pacer, 10.0) == 1


def test_on_a_fast_bearer_several_leave_in_a_turn_and_the_rate_is_kept() -> None:
    for rate_bps, burst_bytes in ((100_000_000, 16_384), (1_000_000_000, 16_384)):
        pacer = Pacer(rate_bps, 0, burst_bytes)
        pacer.rest(0.0)
        now, sent, turns = 0.0, 0, 0
        while now < 1.0:
            sent += _burst(pacer, now)
            turns += 1
            now = pacer.ready_at()
        assert sent * 8000 / rate_bps == pytest.approx(1.0, rel=0.01)
        assert sent > 3 * turns
        assert _burst(Pacer(rate_bps, 0, burst_bytes), now) <= burst_bytes / 1000 + 1


def _burst(pacer: Pacer, now: float) -> int:
    count = 0
    while pacer.may_send(now):
        pacer.spend(1000, now)
        count += 1
    return count


def test_another_rate_holds_for_what_is_not_paid_for_yet() -> None:
    pacer = Pacer(RATE_BPS, HEADER_BYTES, 10_000)
    pacer.rest(0.0)
    pacer.spend(1000, 0.0)
    pacer.set_rate(RATE_BPS / 10, 0.0)
    assert abs(pacer.ready_at() - 10 * SECONDS_PER_DATAGRAM) < 1e-9
    pacer.set_rate(RATE_BPS, 5 * SECONDS_PER_DATAGRAM)
    assert abs(pacer.ready_at() - 5.5 * SECONDS_PER_DATAGRAM) < 1e-9
