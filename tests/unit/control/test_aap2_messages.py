# SPDX-License-Identifier: Apache-2.0
"""The AAP 2.0 codec against the generated one of ud3tn-utils, and against malformed messages."""

import contextlib
import dataclasses

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from ud3tn_utils.aap2.generated import aap2_pb2

from meshd.control.aap2_messages import (
    ADU_FLAGS_MAX,
    MESSAGE_MAX_BYTES,
    AapMessage,
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
from meshd.control.aap2_wire import Aap2Error, encode_varint, read_varint

U64 = st.integers(0, (1 << 64) - 1)
TEXT = st.text(max_size=40)
CONFIGS = st.builds(ConnectionConfig, st.booleans(), st.integers(0, 3), TEXT, TEXT, st.integers(0, (1 << 32) - 1))
ADUS = st.builds(BundleAdu, TEXT, TEXT, TEXT, U64, U64, U64, st.lists(st.integers(0, 3), max_size=5).map(tuple))


def undelimited(data: bytes) -> bytes:
    pulled = pull_delimited(data, 0)
    assert pulled is not None
    assert pulled[1] == len(data)
    return pulled[0]


def by_oracle(message: AapMessage) -> bytes:
    """The same message made by the generated code."""
    match message:
        case Welcome(node_id):
            made = aap2_pb2.AAPMessage(welcome=aap2_pb2.Welcome(node_id=node_id))
        case ConnectionConfig():
            made = aap2_pb2.AAPMessage(config=aap2_pb2.ConnectionConfig(**dataclasses.asdict(message)))
        case BundleAdu():
            made = aap2_pb2.AAPMessage(adu=aap2_pb2.BundleADU(**dataclasses.asdict(message)))
        case _:
            made = aap2_pb2.AAPMessage(keepalive=aap2_pb2.Keepalive())
    data: bytes = made.SerializeToString()
    return data


@given(st.one_of(CONFIGS, ADUS, st.builds(Welcome, TEXT), st.just(Keepalive())))
def test_we_write_what_the_generated_code_writes_and_read_it_back(
    message: Welcome | ConnectionConfig | BundleAdu | Keepalive,
) -> None:
    data = undelimited(encode_message(message))
    assert data == by_oracle(message)
    assert decode_message_untrusted(data) == message


@pytest.mark.parametrize("status", list(Status))
def test_responses_are_those_of_the_generated_code(status: Status) -> None:
    data = undelimited(encode_response(status))
    assert data == aap2_pb2.AAPResponse(response_status=status.value).SerializeToString()
    assert decode_response_untrusted(data) is status


def test_the_numbers_are_those_of_the_public_definition() -> None:
    assert {status.name: status.value for status in Status} == {
        name.removeprefix("RESPONSE_STATUS_"): number for name, number in aap2_pb2.ResponseStatus.items()
    }


def test_what_administers_is_recognised() -> None:
    event = aap2_pb2.AAPMessage(dispatch_event=aap2_pb2.DispatchEvent(reason=1))
    link = aap2_pb2.AAPMessage(link=aap2_pb2.Link(peer_node_id="dtn://x/"))
    assert decode_message_untrusted(event.SerializeToString()) == Administrative("dispatch_event")
    assert decode_message_untrusted(link.SerializeToString()) == Administrative("link")


def test_fields_of_a_later_version_are_passed_over() -> None:
    unknown = b"\x78\x05" + b"\x7a\x03abc" + b"\x79" + bytes(8) + b"\x7d" + bytes(4)
    assert decode_message_untrusted(unknown + b"\x32\x00" + unknown) == Keepalive()
    assert decode_message_untrusted(b"\x12" + bytes((len(unknown) + 2,)) + unknown + b"\x08\x01") == ConnectionConfig(
        is_subscriber=True
    )


def test_one_of_several_messages_counts_as_in_the_generated_code() -> None:
    adu = by_oracle(BundleAdu(dst_eid="dtn://a/"))
    more = by_oracle(BundleAdu(payload_length=5))
    keepalive = by_oracle(Keepalive())
    assert decode_message_untrusted(adu + more) == BundleAdu(dst_eid="dtn://a/", payload_length=5)
    assert decode_message_untrusted(adu + keepalive) == Keepalive()
    assert decode_message_untrusted(adu + keepalive + more) == BundleAdu(payload_length=5)


def test_flags_may_be_packed_or_not() -> None:
    assert decode_message_untrusted(b"\x1a\x07\x30\x01\x32\x01\x02\x30\x03") == BundleAdu(adu_flags=(1, 2, 3))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"", "without content", id="empty"),
        pytest.param(b"\x78\x05", "without content", id="only unknown fields"),
        pytest.param(b"\x32", "ends within a number", id="no length"),
        pytest.param(b"\x32\x05", "has 5 bytes, which its message has not", id="short"),
        pytest.param(b"\x33\x00", "wire type 3", id="group"),
        pytest.param(b"\x37", "wire type 7", id="no wire type"),
        pytest.param(b"\x02\x00", "field number 0", id="field 0"),
        pytest.param(b"\x30\x01", "is a number", id="message as number"),
        pytest.param(b"\x1a\x02\x2a\x00", "is no number", id="number as text"),
        pytest.param(b"\x1a\x03\x12\x01\xff", "not UTF-8", id="UTF-8"),
        pytest.param(b"\x1a\x0c\x28" + b"\xff" * 10 + b"\x01", "more than 10 bytes", id="endless number"),
        pytest.param(b"\x12\x06\x28\x80\x80\x80\x80\x10", "field 5 is 4294967296", id="uint32"),
        pytest.param(b"\x12\x02\x08\x02", "field 1 is 2; 1 is the most", id="bool"),
        pytest.param(b"\x1a\x44\x32\x42" + bytes(66), f"more than {ADU_FLAGS_MAX} flags", id="flags"),
        pytest.param(b"\x1a\x03\x32\x01\x80", "ends within a number", id="packed, short"),
    ],
)
def test_malformed_messages_are_refused_with_a_reason(data: bytes, text: str) -> None:
    with pytest.raises(Aap2Error, match=text):
        decode_message_untrusted(data)


@pytest.mark.parametrize("data", [b"\x08\x03", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x00", b"\x08"])
def test_a_response_has_to_be_known(data: bytes) -> None:
    with pytest.raises(Aap2Error):
        decode_response_untrusted(data)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_the_one_error_and_the_generated_code_agrees(data: bytes) -> None:
    try:
        message = decode_message_untrusted(data)
    except Aap2Error:
        return
    oracle = aap2_pb2.AAPMessage()
    try:
        oracle.ParseFromString(data)
    except DecodeError:
        assert isinstance(message, Administrative), "only what we do not look into may be malformed"
        return
    kinds = {"welcome": Welcome, "config": ConnectionConfig, "adu": BundleAdu, "keepalive": Keepalive}
    assert isinstance(message, kinds.get(oracle.WhichOneof("msg"), Administrative))


@given(st.binary(max_size=100))
def test_any_bytes_give_a_status_or_the_one_error(data: bytes) -> None:
    with contextlib.suppress(Aap2Error):
        assert decode_response_untrusted(data) in Status


@given(U64)
def test_varints(number: int) -> None:
    data = encode_varint(number)
    assert read_varint(b"x" + data, 1) == (number, 1 + len(data))
    assert read_varint(data[:-1], 0) is None


def test_a_message_is_whole_or_not_there() -> None:
    data = encode_message(Welcome("dtn://a/"))
    assert [pull_delimited(data[:size], 0) for size in range(len(data))] == [None] * len(data)
    assert pull_delimited(encode_varint(MESSAGE_MAX_BYTES), 0) is None
    with pytest.raises(Aap2Error, match="too large"):
        pull_delimited(encode_varint(MESSAGE_MAX_BYTES + 1), 0)
