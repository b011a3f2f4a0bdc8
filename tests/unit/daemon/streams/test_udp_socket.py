# SPDX-License-Identifier: Apache-2.0
"""Addresses of streams, and the sockets behind them, on loopback."""

import socket

import pytest

from meshd.base.errors import SettingsError
from meshd.daemon.streams.udp_address import UdpAddress, parse_udp_address
from meshd.daemon.streams.udp_socket import UdpError, UdpInput, UdpOutput


@pytest.mark.parametrize(
    "text",
    [
        "udp://239.1.1.1:5004@lan0",
        "udp://10.0.0.9@232.1.1.1:5004@lan0",
        "udp://0.0.0.0:5004",
        "rtp://127.0.0.1:0",
        "udp://[ff02::77]:5004@lan0",
        "udp://[fe80::1]@[ff3e::77]:5004@lan0",
    ],
)
def test_an_address_is_read_as_it_is_written(text: str) -> None:
    assert parse_udp_address(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "239.1.1.1:5004",
        "http://239.1.1.1:5004",
        "udp://camera:5004",
        "udp://239.1.1.1",
        "udp://239.1.1.1:70000",
        "udp://10.0.0.9@10.0.0.1:5004",
        "udp://fe80::1@232.1.1.1:5004",
        "udp://[fe80::1]@232.1.1.1:5004",
        "udp://239.1.1.1:5004@a device",
        "udp://239.1.1.1:5004@" + "x" * 16,
    ],
)
def test_what_is_no_address_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(SettingsError, match=r"udp://|source stands|65535"):
        parse_udp_address(text)


def port_of(source: UdpInput, text: str) -> UdpAddress:
    """The same address, with the port that the kernel chose."""
    address = parse_udp_address(text)
    return UdpAddress(address.scheme, address.host, source.port, address.source, address.device)


@pytest.mark.parametrize("text", ["udp://127.0.0.1:0", "udp://[::1]:0", "udp://127.0.0.1:0@lo"])
def test_unicast(text: str) -> None:
    source = UdpInput(parse_udp_address(text))
    target = UdpOutput(port_of(source, text))
    for number in range(3):
        target.send(b"%d" % number)
    assert source.receive() == [b"0", b"1", b"2"]
    assert source.receive() == []
    source.close()
    target.close()


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("udp://239.255.77.1:0@lo", [b"hello"]),
        ("udp://127.0.0.1@239.255.77.1:0@lo", [b"hello"]),
        ("udp://127.0.0.9@239.255.77.1:0@lo", []),
    ],
)
def test_multicast_from_anybody_and_from_one_source(listen: str, expected: list[bytes]) -> None:
    source = UdpInput(parse_udp_address(listen))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("127.0.0.1", 0))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    sender.sendto(b"hello", ("239.255.77.1", source.port))
    assert source.receive() == expected
    output = UdpOutput(port_of(source, "udp://239.255.77.1:1@lo"))
    output.close()
    sender.close()
    source.close()


def test_two_inputs_may_be_in_one_group() -> None:
    first = UdpInput(parse_udp_address("udp://239.255.77.2:0@lo"))
    second = UdpInput(UdpAddress("udp", parse_udp_address("udp://239.255.77.2:0@lo").host, first.port, None, "lo"))
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("udp://192.0.2.77:0", "not one of this host's"),
        ("udp://239.255.77.1:0@nosuchdev", "no such network device"),
    ],
)
def test_an_input_that_can_not_be_says_why(text: str, why: str) -> None:
    with pytest.raises(UdpError, match=why):
        UdpInput(parse_udp_address(text))


def test_an_address_in_use_is_told() -> None:
    first = UdpInput(parse_udp_address("udp://127.0.0.1:0"))
    with pytest.raises(UdpError, match="in use"):
        UdpInput(port_of(first, "udp://127.0.0.1:0"))
    first.close()


def test_an_output_that_nobody_takes_loses_and_goes_on() -> None:
    source = UdpInput(parse_udp_address("udp://127.0.0.1:0"))
    target = UdpOutput(port_of(source, "udp://127.0.0.1:0"))
    source.close()
    for _ in range(6):
        target.send(b"nobody")
    assert target.lost_datagrams > 0
    target.close()
