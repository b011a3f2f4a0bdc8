# SPDX-License-Identifier: Apache-2.0
"""Durations, sizes and rates: what is read, what is refused, and that rendering can be read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base import units


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("500 ms", 500),
        ("15 s", 15_000),
        ("1.5 s", 1_500),
        ("10min", 600_000),
        ("24 h", 86_400_000),
        ("30 d", 2_592_000_000),
        (" 2 h ", 7_200_000),
        ("0 s", 0),
    ],
)
def test_durations_are_read_exactly(text: str, expected_ms: int) -> None:
    assert units.parse_duration_ms(text) == expected_ms


@pytest.mark.parametrize(
    ("text", "expected_bytes"),
    [
        ("8 GiB", 8 * 2**30),
        ("8 GB", 8 * 10**9),
        ("1_000 B", 1000),
        ("1.5 KiB", 1536),
        ("1.26 KiB", 1290),
        ("2TiB", 2 * 2**40),
    ],
)
def test_sizes_tell_powers_of_1000_from_powers_of_1024(text: str, expected_bytes: int) -> None:
    assert units.parse_size_bytes(text) == expected_bytes


@pytest.mark.parametrize(
    ("text", "expected_bps"),
    [("2 Mbit/s", 2_000_000), ("500 kbit/s", 500_000), ("2.4 kbit/s", 2_400), ("1 Gbit/s", 10**9)],
)
def test_rates_are_bits_per_second(text: str, expected_bps: int) -> None:
    assert units.parse_rate_bps(text) == expected_bps


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("30", "no unit"),
        ("", "not a duration"),
        ("h", "not a duration"),
        ("-1 s", "not a duration"),
        ("1e9 s", "not a duration"),
        ("1 fortnight", "not a duration"),
        ("1 week", "not a unit"),
        ("1 H", "not a unit"),
        ("0.0001 s", "less than one ms"),
        ("9" * 30 + " s", "not a duration"),
        ("9" * 70, "at most 64 characters"),
        ("\u0661 s", "not a duration"),
        ("1\ns", "not a duration"),
    ],
)
def test_a_bad_duration_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(units.QuantityError, match=reason):
        units.parse_duration_ms(text)


def test_a_rate_in_bytes_is_refused_with_the_units_that_exist() -> None:
    with pytest.raises(units.QuantityError, match=r"known units are bit/s, kbit/s, Mbit/s, Gbit/s"):
        units.parse_rate_bps("2 MB/s")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1500, "1.46 KiB"),
        (8 * 2**30, "8 GiB"),
        (-2048, "-2 KiB"),
    ],
)
def test_sizes_are_rendered_with_three_digits(value: int, text: str) -> None:
    assert units.render_size_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 ms"), (5_400_000, "1.5 h"), (86_400_000, "1 d"), (15_000, "15 s"), (59_900, "59.9 s")],
)
def test_durations_are_rendered_with_three_digits(value: int, text: str) -> None:
    assert units.render_duration_ms(value) == text


def test_rates_are_rendered_with_three_digits() -> None:
    assert units.render_rate_bps(2_000_000) == "2 Mbit/s"
    assert units.render_rate_bps(249_600) == "250 kbit/s"


@given(st.integers(min_value=0, max_value=2**52))
def test_what_is_rendered_can_be_read_back_within_one_percent(value: int) -> None:
    assert units.parse_size_bytes(units.render_size_bytes(value)) == pytest.approx(value, rel=0.01, abs=1)


@given(st.text(max_size=80))
def test_any_text_gives_a_number_or_the_named_error(text: str) -> None:
    try:
        assert units.parse_duration_ms(text) >= 0
    except units.QuantityError:
        return
