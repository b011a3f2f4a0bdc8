# SPDX-License-Identifier: Apache-2.0
"""Classic BPF programs of the gate's second layer, for clsact in direct-action mode (linux/filter.h, bpf(4)).

They decide by mark, and by the station that a frame goes to. A load beyond the end of a frame would end a program with
0, which is TC_ACT_OK: so the length is looked at before.
"""

import ipaddress
import struct
from collections.abc import Sequence
from typing import Final

from meshd.link.settings import Station

INSTRUCTION: Final = struct.Struct("=HBBI")

_LOAD_WORD, _LOAD_HALF, _LOAD_LENGTH = 0x20, 0x28, 0x80
_JUMP_EQUAL, _JUMP_AT_LEAST = 0x15, 0x35
_RETURN: Final = 0x06
_SHOT: Final = 2
_UNSPEC: Final = 0xFFFFFFFF
"""The next filter decides."""
_SKF_AD_MARK: Final = 0xFFFFF000 + 20
"""Where a program finds SO_MARK."""
_ETHERTYPES: Final = {4: 0x0800, 6: 0x86DD}
_DESTINATIONS: Final = {4: 14 + 16, 6: 14 + 24}
"""Offset of the destination's address in a frame without tags in its data."""

DROP_ALL: Final = INSTRUCTION.pack(_RETURN, 0, 0, _SHOT)
PASS_ALL: Final = INSTRUCTION.pack(_RETURN, 0, 0, _UNSPEC)


def drop_but(marks: Sequence[int], exceptions: Sequence[Station]) -> bytes:
    """A program that lets out what carries one of these marks or goes to one of these stations."""
    blocks = [_block([(_LOAD_WORD, _SKF_AD_MARK, _JUMP_EQUAL, mark)]) for mark in marks]
    return b"".join(blocks + [_block(_tests(each)) for each in exceptions]) + DROP_ALL


def _block(tests: Sequence[tuple[int, int, int, int]]) -> bytes:
    """Pass where all of these hold: load, its operand, jump, its operand; else go on behind the block."""
    left = 2 * len(tests)
    code = b""
    for load, source, jump, value in tests:
        left -= 2
        code += INSTRUCTION.pack(load, 0, 0, source) + INSTRUCTION.pack(jump, 0, left + 1, value)
    return code + PASS_ALL


def _tests(exception: Station) -> list[tuple[int, int, int, int]]:
    mac = bytes.fromhex(exception.mac.replace(":", ""))
    address = ipaddress.ip_address(exception.address)
    place = _DESTINATIONS[address.version]
    tests = [
        (_LOAD_LENGTH, 0, _JUMP_AT_LEAST, place + len(address.packed)),
        (_LOAD_WORD, 0, _JUMP_EQUAL, int.from_bytes(mac[:4], "big")),
        (_LOAD_HALF, 4, _JUMP_EQUAL, int.from_bytes(mac[4:], "big")),
        (_LOAD_HALF, 12, _JUMP_EQUAL, _ETHERTYPES[address.version]),
    ]
    words = struct.unpack(f">{len(address.packed) // 4}I", address.packed)
    return tests + [(_LOAD_WORD, place + 4 * at, _JUMP_EQUAL, word) for at, word in enumerate(words)]
