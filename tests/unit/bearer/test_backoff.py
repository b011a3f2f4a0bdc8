# SPDX-License-Identifier: Apache-2.0
"""Waiting between attempts."""

import random

from meshd.bearer.backoff import BACKOFF_MAX_S, Backoff


def test_waits_double_with_jitter_up_to_a_minute() -> None:
    backoff = Backoff(random.Random(7))
    waits = [backoff.next_s() for _ in range(10)]
    for wait, base in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True):
        assert base <= wait <= min(1.5 * base, BACKOFF_MAX_S)
    assert len({wait / base for wait, base in zip(waits[:6], [1, 2, 4, 8, 16, 32], strict=True)}) == 6


def test_success_begins_again() -> None:
    backoff = Backoff(random.Random(7))
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 1.5


def test_same_seed_same_waits() -> None:
    first, second = Backoff(random.Random(3)), Backoff(random.Random(3))
    assert [first.next_s() for _ in range(5)] == [second.next_s() for _ in range(5)]
