# SPDX-License-Identifier: Apache-2.0
"""Addresses and errors of a bearer's sockets."""

import errno
import socket

import pytest

from meshd.bearer.sockets import BearerError, explain, format_address, parse_address


@pytest.mark.parametrize(
    ("text", "family", "address"),
    [
        ("10.1.0.2:4556", socket.AF_INET, ("10.1.0.2", 4556)),
        ("[::]:4556", socket.AF_INET6, ("::", 4556, 0, 0)),
        ("[2001:db8::2]:0", socket.AF_INET6, ("2001:db8::2", 0, 0, 0)),
    ],
)
def test_numeric_addresses(text: str, family: int, address: tuple[object, ...]) -> None:
    assert parse_address(text) == (family, address)
    assert format_address(parse_address(text)[1]) == text


def test_link_local_address_names_its_device() -> None:
    _, address = parse_address("[fe80::1%lo]:4556")
    assert address[1:] == (4556, 0, socket.if_nametoindex("lo"))


@pytest.mark.parametrize("text", ["", "4556", "host:4556", "10.1.0.2", "10.1.0.2:70000", "[::1:4556", "10.1.0.2:x"])
def test_other_addresses_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(BearerError, match=r"write 10\.1\.0\.2:4556"):
        parse_address(text)


def test_expected_errors_are_explained_and_others_are_not_swallowed() -> None:
    assert "CAP_NET_ADMIN" in explain(OSError(errno.EPERM, "x"))
    with pytest.raises(OSError, match="bad"):
        explain(OSError(errno.EBADF, "bad"))
