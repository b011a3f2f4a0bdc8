# SPDX-License-Identifier: Apache-2.0
"""Messages and attributes, and the socket against the kernel's own answers (reading needs no privilege)."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_DUMP,
    NetlinkError,
    NetlinkSocket,
    as_text,
    attribute,
    attribute_list,
    attributes,
    be32,
    message,
    message_list,
    nested,
    text,
)


@given(st.lists(st.tuples(st.integers(1, 100), st.binary(max_size=50)), max_size=10))
def test_attributes_come_back(pairs: list[tuple[int, bytes]]) -> None:
    encoded = b"".join(attribute(kind, value) for kind, value in pairs)
    assert len(encoded) % 4 == 0
    assert list(attribute_list(encoded)) == pairs


@given(st.lists(st.tuples(st.integers(16, 100), st.binary(max_size=50)), max_size=10))
def test_messages_come_back(pairs: list[tuple[int, bytes]]) -> None:
    datagram = b"".join(message(kind, 0, body, 7) for kind, body in pairs)
    assert [(found.type, found.body, found.sequence) for found in message_list(datagram)] == [
        (kind, body, 7) for kind, body in pairs
    ]


@given(st.binary(max_size=200))
def test_noise_ends_quietly(data: bytes) -> None:
    assert sum(len(value) for _, value in attribute_list(data)) <= len(data)
    assert sum(len(found.body) for found in message_list(data)) <= len(data)


def test_names_end_at_the_nul_and_nesting_is_flagged() -> None:
    assert as_text(b"rad0\0\0\0") == "rad0"
    assert as_text(None) == ""
    assert attributes(nested(4, text(3, "rad0"), be32(1, 9))) == {4: text(3, "rad0") + be32(1, 9)}


def test_a_refusal_has_the_kernels_errno() -> None:
    with NetlinkSocket(NETLINK_ROUTE) as socket, pytest.raises(NetlinkError, match="ENODEV") as caught:
        socket.dump(18, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + text(3, "no-such-dev"), "looking", flags=0)
    assert caught.value.errno == errno.ENODEV


def test_a_dump_holds_the_loopback_device() -> None:
    with NetlinkSocket(NETLINK_ROUTE) as socket:
        answers = socket.dump(18, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0), "looking", NLM_F_DUMP)
    assert "lo" in {as_text(attributes(answer.body[16:]).get(3)) for answer in answers}


def test_a_request_the_kernel_does_not_know_is_an_error() -> None:
    with NetlinkSocket(NETLINK_ROUTE) as socket, pytest.raises(NetlinkError, match="asking nonsense"):
        socket.request(0x3FF, 0, bytes(16), "asking nonsense")


def test_two_sockets_have_two_ports() -> None:
    with NetlinkSocket(NETLINK_ROUTE) as one, NetlinkSocket(NETLINK_ROUTE) as other:
        assert one.port != other.port
