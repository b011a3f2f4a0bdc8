# SPDX-License-Identifier: Apache-2.0
"""The state file's form: what was written comes back, and nothing else does."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.emcon.order import (
    STATE_SIZE_MAX_BYTES,
    Order,
    OrderState,
    StateError,
    decode_state_untrusted,
    encode_state,
    left_s,
)

TEXTS = st.text(max_size=40)
TIMES = st.none() | st.integers(0, 1 << 45)
ORDERS = st.builds(Order, TEXTS, TEXTS, st.none() | TEXTS, TIMES, TIMES)
STATES = st.builds(OrderState, ORDERS, st.booleans(), st.none() | ORDERS)
STATE = OrderState(Order("silent", "uid 0", None, 1, 2), is_bounded=True, before=None)


def signed(body: bytes) -> bytes:
    return f"meshd-emcon 2 {hashlib.sha256(body).hexdigest()}\n".encode() + body


@given(STATES)
def test_what_was_written_comes_back(state: OrderState) -> None:
    assert decode_state_untrusted(encode_state(state)) == state


@given(st.binary(max_size=300))
def test_noise_raises_the_one_error(data: bytes) -> None:
    with pytest.raises(StateError):
        decode_state_untrusted(data)
    with pytest.raises(StateError):
        decode_state_untrusted(signed(data))


@given(st.data())
def test_any_flipped_bit_is_seen(data: st.DataObject) -> None:
    encoded = bytearray(encode_state(STATE))
    at = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[at // 8] ^= 1 << at % 8
    with pytest.raises(StateError):
        decode_state_untrusted(bytes(encoded))


def test_a_torn_file_is_seen() -> None:
    encoded = encode_state(STATE)
    for size in range(len(encoded) - 1):
        with pytest.raises(StateError):
            decode_state_untrusted(encoded[:size])


@pytest.mark.parametrize(
    ("key", "value"),
    [("profile", 1), ("by", None), ("reason", 5), ("since_ms", "now"), ("until_ms", True), ("more", 1)],
)
def test_wrong_fields_are_named_errors(key: str, value: object) -> None:
    order = {"profile": "silent", "by": "x", "reason": None, "since_ms": 1, "until_ms": None, key: value}
    body = json.dumps({"order": order, "is_bounded": False, "before": None, "schedule": None}).encode()
    with pytest.raises(StateError):
        decode_state_untrusted(signed(body))


def test_too_long_is_refused() -> None:
    with pytest.raises(StateError, match="longer"):
        decode_state_untrusted(bytes(STATE_SIZE_MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("wall_ms", "left"),
    [(None, None), (999, None), (1000, 2.0), (2500, 0.5), (4000, -1.0)],
)
def test_time_left(wall_ms: int | None, left: float | None) -> None:
    assert left_s(Order("silent", "x", None, 1000, 3000), wall_ms) == left


def test_time_left_of_an_order_given_without_a_clock() -> None:
    assert left_s(Order("silent", "x", None, None, None), 1000) is None
