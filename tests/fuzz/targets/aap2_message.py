# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: one AAP 2.0 message or response, without its length, from any local program."""

from meshd.control.aap2_messages import (
    Administrative,
    BundleAdu,
    ConnectionConfig,
    Keepalive,
    Status,
    Welcome,
    decode_message_untrusted,
    decode_response_untrusted,
    encode_message,
    encode_response,
    pull_delimited,
)
from meshd.control.aap2_wire import Aap2Error
from tests.fuzz.counted_bytes import CountedBytes, assert_linear


def check(data: bytes) -> None:
    """One input, read as both."""
    _check_message(data)
    _check_response(data)


def _check_message(data: bytes) -> None:
    counted = CountedBytes(data)
    try:
        message = decode_message_untrusted(counted)
    except Aap2Error:
        return
    finally:
        assert_linear(counted, 4, 64)
    if isinstance(message, Administrative):
        return
    pulled = pull_delimited(encode_message(message), 0)
    assert pulled is not None
    assert decode_message_untrusted(pulled[0]) == message


def _check_response(data: bytes) -> None:
    try:
        status = decode_response_untrusted(data)
    except Aap2Error:
        return
    pulled = pull_delimited(encode_response(status), 0)
    assert pulled is not None
    assert decode_response_untrusted(pulled[0]) is status


def _content(delimited: bytes) -> bytes:
    pulled = pull_delimited(delimited, 0)
    assert pulled is not None
    return pulled[0]


def seeds() -> dict[str, bytes]:
    """Every kind."""
    config = ConnectionConfig(is_subscriber=True, endpoint_id="dtn://a/x", secret="s", keepalive_seconds=60)
    adu = BundleAdu(dst_eid="dtn://b/y", payload_length=5)
    messages = (Welcome("dtn://a/"), config, adu, Keepalive())
    return {type(message).__name__.lower(): _content(encode_message(message)) for message in messages} | {
        f"response_{status.name.lower()}": _content(encode_response(status)) for status in Status
    }


def dictionary() -> list[bytes]:
    """Keys of fields."""
    return [bytes((number << 3 | kind,)) for number in range(1, 9) for kind in (0, 2)]
