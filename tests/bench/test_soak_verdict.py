# SPDX-License-Identifier: Apache-2.0
"""What the soak calls flat."""

import pytest

from tests.bench.soak import BOUNDS, SAMPLES_MIN, Sample, growth

BASE = Sample(0.0, 1000.0, 100.0, 15.0, 50.0, 2.0, 10.0, 50.0)


def samples(column: str, values: list[float]) -> list[Sample]:
    return [BASE._replace(**{column: value}) for value in values]


def verdicts(made: list[Sample]) -> dict[str, bool]:
    return {name: is_flat for name, _, _, is_flat in growth(made)}


def test_what_does_not_change_is_flat() -> None:
    assert verdicts(samples("rss_mb", [100.0] * SAMPLES_MIN)) == dict.fromkeys(BOUNDS, True)


@pytest.mark.parametrize(
    ("column", "last"), [("rss_mb", 110.0), ("files", 18.0), ("cpu_percent", 60.0), ("p50_ms", 3.5), ("p99_ms", 16.0)]
)
def test_each_column_can_grow(column: str, last: float) -> None:
    made = samples(column, [getattr(BASE, column)] * 12 + [last] * 4)
    assert verdicts(made) == dict.fromkeys(BOUNDS, True) | {column: False}


def test_the_warm_up_is_left_out_and_one_bad_sample_is_no_trend() -> None:
    made = samples("rss_mb", [20.0] * 4 + [100.0] * 8 + [100.0, 100.0, 300.0, 100.0])
    assert verdicts(made)["rss_mb"]


def test_less_than_before_is_flat() -> None:
    assert verdicts(samples("store_mb", [500.0] * 12 + [50.0] * 4))["store_mb"]
