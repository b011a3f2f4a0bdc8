# SPDX-License-Identifier: Apache-2.0
"""Quantities of the lab's files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_lab.units import parse_duration, parse_rate, parse_share, show_duration, show_rate, show_share


@pytest.mark.parametrize(
    ("text", "seconds"), [("300 ms", 0.3), ("5us", 5e-6), ("1.5 s", 1.5), ("2 min", 120.0), ("0 ms", 0.0)]
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "rate_bps"), [("2 Mbit/s", 2_000_000), ("500 kbit/s", 500_000), ("9600 bit/s", 9600)])
def test_rates_are_bits_per_second(text: str, rate_bps: int) -> None:
    assert parse_rate(text) == rate_bps


@pytest.mark.parametrize("text", ["300", "300 parsec", "-5 ms", "ms", "", "5  ms", "1e3 s", "5 ms "])
def test_what_is_no_duration_is_refused_with_the_units(text: str) -> None:
    with pytest.raises(ValueError, match="us, ms, s, min"):
        parse_duration(text)


def test_a_share_above_everything_is_refused() -> None:
    assert parse_share("100 %") == 1.0
    with pytest.raises(ValueError, match="more than 100 %"):
        parse_share("101 %")


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="cut the link"):
        parse_rate("0 Mbit/s")


@given(st.integers(0, 3_600_000_000))
def test_a_shown_duration_is_read_back_to_the_microsecond(microseconds: int) -> None:
    shown = show_duration(microseconds / 1e6)
    assert parse_duration(shown) == pytest.approx(microseconds / 1e6, abs=1e-6)


@given(st.integers(0, 1_000_000))
def test_a_shown_share_is_read_back(millionths: int) -> None:
    assert parse_share(show_share(millionths / 1e6)) == pytest.approx(millionths / 1e6, abs=1e-9)


def test_a_shown_rate_has_the_largest_fitting_unit() -> None:
    assert [show_rate(rate) for rate in (100, 500_000, 2_000_000, 10**10)] == [
        "100 bit/s",
        "500 kbit/s",
        "2 Mbit/s",
        "10 Gbit/s",
    ]
