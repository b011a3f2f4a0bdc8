# SPDX-License-Identifier: Apache-2.0
"""Parts of nfnetlink messages about rules (linux/netfilter/nf_tables.h): expressions as the kernel has them.

Only what the emission gate's rules are made of; the rules themselves are `gate_chain`, the table is `nfnetlink`.
"""

import struct
from typing import Final

from meshd.linux import netlink
from meshd.linux.netlink import as_text, attribute, attribute_list, attributes, be32, nested, text

NFPROTO_NETDEV: Final = 5
ACCEPT: Final = 1
DROP: Final = 0
REGISTER_1: Final = 1
REGISTER_2: Final = 2
META_MARK: Final = 3
META_OIFNAME: Final = 7
LINK_HEADER: Final = 0
NETWORK_HEADER: Final = 1

_REGISTER_VERDICT: Final = 0
_LIMIT_BYTES: Final = 1
_SECOND: Final = 1


def header(family: int, resource: int = 0) -> bytes:
    """struct nfgenmsg: family, version 0, resource in network order."""
    return struct.pack(">BBH", family, 0, resource)


def request(kind: int, flags: int, *parts: bytes) -> bytes:
    """A request of a batch: its type and flags stand before the body until it is numbered."""
    return struct.pack("=HH", kind, flags) + header(NFPROTO_NETDEV) + b"".join(parts)


def expression(name: str, *parts: bytes) -> bytes:
    """One expression of a rule."""
    return nested(1, text(1, name), nested(2, *parts))


def load_meta(key: int, register: int) -> bytes:
    """Something that the kernel knows of a frame."""
    return expression("meta", be32(2, key), be32(1, register))


def load_payload(base: int, offset: int, size_bytes: int) -> bytes:
    """Bytes of a frame, into the first register."""
    return expression("payload", be32(1, REGISTER_1), be32(2, base), be32(3, offset), be32(4, size_bytes))


def equals(value: bytes) -> bytes:
    """Go on with the rule where the first register holds this."""
    return expression("cmp", be32(1, REGISTER_1), be32(2, 0), nested(3, attribute(1, value)))


def is_in(set_name: str) -> bytes:
    """Go on with the rule where the first register (and what follows it) is in a set."""
    return expression("lookup", text(1, set_name), be32(2, REGISTER_1))


def limit(rate_bytes_per_s: int, burst_bytes: int) -> bytes:
    """Go on while a token bucket has enough; it holds what comes in a second, and the burst."""
    return expression(
        "limit", _be64(1, rate_bytes_per_s), _be64(2, _SECOND), be32(3, burst_bytes), be32(4, _LIMIT_BYTES), be32(5, 0)
    )


def quota(size_bytes: int, used_bytes: int) -> bytes:
    """Go on until so many bytes have passed, those that did before included."""
    return expression("quota", _be64(1, size_bytes), be32(2, 0), _be64(4, used_bytes))


def counter() -> bytes:
    """Counts frames and bytes, from 0."""
    return expression("counter", _be64(1, 0), _be64(2, 0))


def verdict(code: int) -> bytes:
    """The end of a rule."""
    return expression("immediate", be32(1, _REGISTER_VERDICT), nested(2, nested(2, be32(1, code))))


Expressions = list[tuple[str, dict[int, bytes]]]
"""Of one rule: the name of each, and its attributes."""


def read_expressions(answer: netlink.Message) -> Expressions:
    """Those of a listed rule."""
    found: Expressions = []
    for _, each in attribute_list(attributes(answer.body[4:]).get(4, b"")):
        parts = attributes(each)
        found.append((as_text(parts.get(1)), attributes(parts.get(2, b""))))
    return found


def number(parts: dict[int, bytes], kind: int) -> int:
    """An attribute in network order, of 32 or 64 bits; 0 where it is not there."""
    return int.from_bytes(parts.get(kind, b""), "big")


def _be64(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">Q", value))
