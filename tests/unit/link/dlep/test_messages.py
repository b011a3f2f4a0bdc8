# SPDX-License-Identifier: Apache-2.0
"""DLEP messages byte by byte (RFC 8175 sections 11 to 13), and what no modem may send."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.link.dlep.items import AddressChange, DlepError, Metrics, Status
from meshd.link.dlep.messages import Message, MessageType, pack_message, parse_message_untrusted

UP = (
    "0007 0034"  # Destination Up, 52 bytes of data items
    "0007 0006 02aabbccdd01"  # MAC address
    "0008 0005 01 0a010002"  # IPv4 address, added
    "000a 0006 01 c0a80500 18"  # IPv4 subnet 192.168.5.0/24
    "000f 0008 00000000000f4240"  # current data rate (transmit): 1 Mbit/s
    "0013 0001 50"  # relative link quality (transmit): 80 %
    "0014 0002 05dc"  # MTU 1500
)


def test_destination_up_is_written_as_the_rfc_says() -> None:
    message = Message(
        MessageType.DESTINATION_UP,
        mac=bytes.fromhex("02aabbccdd01"),
        changes=(
            AddressChange(ipaddress.ip_address("10.1.0.2")),
            AddressChange(ipaddress.ip_network("192.168.5.0/24")),
        ),
        metrics=Metrics(transmit_bps=1_000_000, quality_transmit_pct=80, mtu_bytes=1500),
    )
    data = bytes.fromhex(UP)
    assert pack_message(message) == data
    assert parse_message_untrusted(7, data[4:]) == message


def test_session_initialization_is_written_as_the_rfc_says() -> None:
    message = Message(MessageType.SESSION_INIT, peer_type="meshd", heartbeat_ms=60_000)
    assert pack_message(message).hex(" ", 2) == "0001 0012 0004 0006 006d 6573 6864 0005 0004 0000 ea60"


@pytest.mark.parametrize(
    ("number", "body", "status", "text"),
    [
        (0, "", Status.UNKNOWN_MESSAGE, "unknown type 0"),
        (16, "00", Status.INVALID_DATA, "cut off"),
        (16, "0005 0004 0000", Status.INVALID_DATA, "longer than its message"),
        (16, "0005 0004 00000001", Status.INVALID_DATA, "HEARTBEAT_INTERVAL does not belong there"),
        (11, "", Status.INVALID_DATA, "MAC_ADDRESS is missing"),
        (11, "0007 0005 0102030405", Status.INVALID_DATA, "5 bytes instead of 6 or 8"),
        (11, "0007 0006 010203040506 0007 0006 010203040507", Status.INVALID_DATA, "MAC_ADDRESS is there twice"),
        (3, "0008 0005 01 0a010002 0008 0005 01 0a010002", Status.INVALID_DATA, "IPV4_ADDRESS is there twice"),
        (3, "0008 0004 01 0a0100", Status.INVALID_DATA, "4 bytes instead of 5"),
        (3, "000a 0006 01 0a010000 21", Status.INVALID_DATA, "prefix of 33 bits"),
        (3, "0013 0001 65", Status.INVALID_DATA, "101 is no percentage"),
        (3, "0010 0004 00000001", Status.INVALID_DATA, "4 bytes instead of 8"),
        (5, "0001 0000", Status.INVALID_DATA, "STATUS is invalid: it is empty"),
        (1, "0004 0001 00 0005 0004 00000000", Status.INVALID_DATA, "interval of 0"),
        (1, "0004 0001 00 0005 0004 00000001 0006 0001 00", Status.INVALID_DATA, "half a number"),
    ],
)
def test_bad_messages_are_refused(number: int, body: str, status: Status, text: str) -> None:
    with pytest.raises(DlepError, match=text) as refused:
        parse_message_untrusted(number, bytes.fromhex(body))
    assert refused.value.status == status


def test_text_of_a_stranger_is_printable_and_short() -> None:
    body = bytes.fromhex("0001 0200 85") + b"\x1b[2Jred\xff" + b"x" * 503
    message = parse_message_untrusted(5, body)
    assert message.status_text.isprintable()
    assert "[2Jred" in message.status_text
    assert len(message.status_text) <= 256


@given(st.integers(0, 17), st.binary(max_size=200))
def test_bytes_of_any_kind_give_a_message_or_the_error(number: int, body: bytes) -> None:
    try:
        message = parse_message_untrusted(number, body)
    except DlepError:
        return
    again = pack_message(message)
    assert parse_message_untrusted(number, again[4:]) == message
