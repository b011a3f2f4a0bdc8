# SPDX-License-Identifier: Apache-2.0
"""Frames: what is written is read; what is not a frame is one error, whatever the bytes are."""

import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base.limits import CONTROL_FRAME_MAX_BYTES
from meshd.control.errors import FrameError
from meshd.control.frames import (
    FrameReader,
    Message,
    Notification,
    Request,
    Response,
    decode_message_untrusted,
    encode_frame,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
MAPS = st.dictionaries(st.text(), VALUES, max_size=4)
IDS = st.integers(0, (1 << 63) - 1)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Request, IDS, st.text(), MAPS),
    st.builds(Response, IDS, st.none(), VALUES),
    st.builds(Response, IDS | st.none(), MAPS, st.none()),
    st.builds(Notification, st.text(), MAPS),
)


@given(MESSAGES)
def test_what_is_written_is_read(message: Message) -> None:
    reader = FrameReader()
    reader.receive_data(encode_frame(message))
    payload = reader.next_payload()
    assert payload is not None
    assert decode_message_untrusted(payload) == message
    assert reader.next_payload() is None


@given(st.binary(max_size=200))
def test_any_payload_is_a_message_or_the_one_error(payload: bytes) -> None:
    try:
        message = decode_message_untrusted(payload)
    except FrameError:
        return
    assert isinstance(message, Request | Response | Notification)


@given(VALUES)
def test_any_msgpack_value_is_a_message_or_the_one_error(value: Any) -> None:
    try:
        message = decode_message_untrusted(msgpack.packb(value))
    except FrameError:
        return
    assert isinstance(message, Request | Response | Notification)


@given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_frames_may_arrive_in_any_pieces(messages: list[Message], cuts: list[int]) -> None:
    stream = b"".join(map(encode_frame, messages))
    reader, seen = FrameReader(), []
    position = turn = 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        reader.receive_data(stream[position : position + step])
        position, turn = position + step, turn + 1
        while (payload := reader.next_payload()) is not None:
            seen.append(decode_message_untrusted(payload))
    assert seen == messages


@pytest.mark.parametrize("length", [0, CONTROL_FRAME_MAX_BYTES + 1, 1 << 30, (1 << 32) - 1])
def test_a_bad_length_is_refused_from_its_four_bytes(length: int) -> None:
    reader = FrameReader()
    reader.receive_data(struct.pack(">I", length))
    with pytest.raises(FrameError, match=str(length)):
        reader.next_payload()


def test_the_largest_frame_passes_and_one_byte_more_does_not() -> None:
    reader = FrameReader(size_max_bytes=8)
    reader.receive_data(struct.pack(">I", 8) + bytes(8))
    assert reader.next_payload() == bytes(8)
    reader.receive_data(struct.pack(">I", 9))
    with pytest.raises(FrameError):
        reader.next_payload()


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="byte that msgpack never uses"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(msgpack.packb([0, 1, "status", {}]) + b"\x00", id="something behind"),
        pytest.param(msgpack.packb([0, 1, "status", {"a": msgpack.Timestamp(1)}]), id="timestamp"),
        pytest.param(msgpack.packb([0, 1, "status", {"a": msgpack.ExtType(5, b"")}]), id="empty extension"),
        pytest.param(msgpack.packb([0, 1, "status", {"a": msgpack.ExtType(5, b"x")}]), id="extension"),
        pytest.param(msgpack.packb([0, 1, "status", {1: 2}]), id="integer key"),
        pytest.param(msgpack.packb([0, 1, "status", {b"a": 2}]), id="bytes key"),
        pytest.param(b"\x94\x00\x01\xa1\xff\x80", id="text that is not UTF-8"),
        pytest.param(b"\x91" * 100_000, id="deep nesting"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="array of four thousand million"),
        pytest.param(msgpack.packb([0, -1, "status", {}]), id="negative ID"),
        pytest.param(msgpack.packb([0, True, "status", {}]), id="ID true"),
        pytest.param(msgpack.packb([0, 1, "status"]), id="request without parameters"),
        pytest.param(msgpack.packb([0, 1, "status", []]), id="parameters in a list"),
        pytest.param(msgpack.packb([1, 1, {"code": 1}, "both"]), id="error and result"),
        pytest.param(msgpack.packb([1, None, None, 1]), id="result for nobody"),
        pytest.param(msgpack.packb([3, 1, "status", {}]), id="unknown kind"),
        pytest.param(msgpack.packb({}), id="a map"),
        pytest.param(msgpack.packb(list(range(10_001))), id="long array"),
    ],
)
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError):
        decode_message_untrusted(payload)


@pytest.mark.parametrize(
    "value", ["\udcff", 1 << 65, bytes(CONTROL_FRAME_MAX_BYTES)], ids=["surrogate", "big number", "too large"]
)
def test_what_cannot_be_sent_is_the_one_error(value: Any) -> None:
    with pytest.raises(FrameError):
        encode_frame(Notification("event", {"value": value}))
