# SPDX-License-Identifier: Apache-2.0
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle import cbor
from meshd.bundle.errors import BundleError

UINTS = st.one_of(st.integers(0, 70_000), st.integers(0, cbor.UINT_MAX))
ITEMS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(-(1 << 64), (1 << 64) - 1), st.binary(), st.text(), st.booleans(), st.none(), st.floats()),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.integers(), inner, max_size=5)),
    max_leaves=20,
)


@given(UINTS)
def test_numbers_agree_with_cbor2(value: int) -> None:
    raw = cbor.encode_uint(value)
    assert raw == cbor2.dumps(value)
    assert cbor.read_uint(b"\x00" + raw, 1) == (value, 1 + len(raw))


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_number_out_of_range_is_our_own_fault(value: int) -> None:
    with pytest.raises((OverflowError, ValueError)):
        cbor.encode_uint(value)


@given(st.binary(max_size=300))
def test_byte_strings_agree_with_cbor2(value: bytes) -> None:
    raw = cbor.encode_bytes(value)
    assert raw == cbor2.dumps(value)
    start, end = cbor.read_bytes_extent(raw, 0)
    assert raw[start:end] == value
    assert cbor.encode_bytes_head(len(value)) == raw[:start]


@given(st.text(max_size=100))
def test_texts_agree_with_cbor2(value: str) -> None:
    raw = cbor.encode_text(value)
    assert raw == cbor2.dumps(value)
    assert cbor.read_text(raw, 0, 1000) == (value, len(raw))


def test_numbers_in_more_bytes_than_needed_are_accepted() -> None:
    for raw in ("1805", "190005", "1a00000005", "1b0000000000000005"):
        assert cbor.read_uint(bytes.fromhex(raw), 0) == (5, len(raw) // 2)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [("", "truncated"), ("18", "truncated"), ("1b00", "truncated"), ("1c", "cbor"), ("1f", "cbor"), ("20", "cbor")],
)
def test_wrong_numbers(raw: str, reason: str) -> None:
    with pytest.raises(BundleError) as caught:
        cbor.read_uint(bytes.fromhex(raw), 0)
    assert caught.value.reason == reason


def test_lengths_beyond_the_data_are_refused_before_anything_is_copied() -> None:
    for head in ("5bffffffffffffffff", "5affffffff", "58ff"):
        with pytest.raises(BundleError, match="claims"):
            cbor.read_bytes_extent(bytes.fromhex(head) + bytes(10), 0)
    with pytest.raises(BundleError, match="at most 100"):
        cbor.read_text(bytes.fromhex("7bffffffffffffffff"), 0, 100)
    with pytest.raises(BundleError, match="are left"):
        cbor.read_text(bytes.fromhex("7864"), 0, 100)


def test_array_ends() -> None:
    assert cbor.read_array_header(b"\x9f", 0) == (cbor.INDEFINITE, 1)
    assert cbor.read_array_header(b"\x83", 0) == (3, 1)
    assert cbor.read_array_end(b"\xff", 0, cbor.INDEFINITE) == 1
    assert cbor.read_array_end(b"", 0, 3) == 0
    with pytest.raises(BundleError, match="does not end"):
        cbor.read_array_end(b"\x00", 0, cbor.INDEFINITE)
    with pytest.raises(BundleError, match="should end"):
        cbor.read_array_end(b"", 0, cbor.INDEFINITE)


def test_booleans() -> None:
    assert cbor.read_bool(cbor.encode_bool(True), 0) == (True, 1)
    assert cbor.read_bool(cbor.encode_bool(False), 0) == (False, 1)
    for raw in (b"", b"\xf6", b"\x01"):
        with pytest.raises(BundleError):
            cbor.read_bool(raw, 0)


@given(ITEMS)
def test_any_item_is_stepped_over_whole(item: Any) -> None:
    raw = cbor2.dumps(item)
    assert cbor.skip_item(b"\x00" + raw + b"\x01", 1) == 1 + len(raw)


@pytest.mark.parametrize("raw", ["9f9f01ffff", "bf0102ff", "5f4101ff", "c11a00000001", "9fff", "80", "a0", "8280a0"])
def test_indefinite_tagged_and_empty_items_are_stepped_over(raw: str) -> None:
    assert cbor.skip_item(bytes.fromhex(raw + "00"), 0) == len(raw) // 2


@pytest.mark.parametrize(
    "raw",
    [b"\x81" * 100_000, b"\x9f" * 100_000, b"\x9b" + b"\xff" * 8, b"\xc0" * 5000, b"\xbb" + b"\xff" * 8 + b"\0" * 999],
)
def test_bombs_are_refused(raw: bytes) -> None:
    with pytest.raises(BundleError):
        cbor.skip_item(raw, 0)


@given(st.binary(max_size=60))
def test_noise_is_stepped_over_within_the_data_or_refused(noise: bytes) -> None:
    try:
        end = cbor.skip_item(noise, 0)
    except BundleError:
        return
    assert 0 < end <= len(noise)


@pytest.mark.parametrize("raw", ["ff", "1f", "df00", "81ff", "62ff"])
def test_misplaced_breaks_and_lengths_are_refused(raw: str) -> None:
    with pytest.raises(BundleError):
        cbor.skip_item(bytes.fromhex(raw), 0)
