# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: packets of multicast DNS, which anybody on the wire can send; without zeroconf nothing is done."""

import contextlib

from meshd.bearer.mdns_records import HINTS_MAX, MdnsError, MdnsMissingError, read_packet_untrusted
from meshd.bearer.sockets import parse_address

_QUERY = bytes.fromhex("0000 0000 0001 0000 0000 0000 06 5f6d65736864 04 5f746370 05 6c6f63616c 00 000c 0001")
_ANSWER = bytes.fromhex(
    "0000 8400 0000 0004 0000 0000 06 5f6d65736864 04 5f746370 05 6c6f63616c 00 000c 0001 00001194 0006 03 616263 c00c"
    "c029 0021 8001 00000078 000c 0000 0000 11cc 03 616263 c018"
    "c029 0010 8001 00001194 0012 11 6e6f64653d64746e3a2f2f616c7068612f"
    "c041 0001 8001 00000078 0004 0a000001"
)


def check(data: bytes) -> None:
    """One input."""
    with contextlib.suppress(MdnsError, MdnsMissingError):
        heard = read_packet_untrusted(data)
        assert len(heard.hints) <= HINTS_MAX
        assert not (heard.is_asking and heard.hints)
        for hint in heard.hints:
            parse_address(hint.address)


def seeds() -> dict[str, bytes]:
    """What we say ourselves."""
    return {"query": _QUERY, "answer": _ANSWER}


def dictionary() -> list[bytes]:
    """Types and what makes an instance ours."""
    return [
        b"\x00\x21",
        b"\x00\x10",
        b"\x00\x0c",
        b"node=dtn://alpha/",
        b"\x06_meshd\x04_tcp\x05local\x00",
    ]
