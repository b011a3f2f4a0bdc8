# SPDX-License-Identifier: Apache-2.0
"""As much of the protocol buffers' wire format as AAP 2.0 uses: varints, and fields with a number and a wire type.

Reading is stricter than the format's own rules in one place: a known field of the wrong wire type is an error, since no
encoder makes it. Fields of unknown numbers are passed over. Groups, which are obsolete, are refused.
"""

from collections.abc import Iterator
from typing import Final

from meshd.base.errors import RemoteProtocolError

VARINT_MAX_BYTES: Final = 10
VARINT: Final = 0
FIXED64: Final = 1
DELIMITED: Final = 2
FIXED32: Final = 5
_FIXED_BYTES: Final = {FIXED64: 8, FIXED32: 4}
_U64_MASK: Final = (1 << 64) - 1
_FIELD_NUMBER_MAX: Final = (1 << 29) - 1


class Aap2Error(RemoteProtocolError):
    """What the client sent is no AAP 2.0: its session can't go on."""


def encode_varint(number: int) -> bytes:
    """An unsigned number below 2^64."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, pos: int) -> tuple[int, int] | None:
    """(number, position behind it); None: the data ends within. Errors: Aap2Error."""
    number = 0
    for index, byte in enumerate(data[pos : pos + VARINT_MAX_BYTES]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number & _U64_MASK, pos + index + 1
    if len(data) - pos >= VARINT_MAX_BYTES:
        raise Aap2Error(f"a number has more than {VARINT_MAX_BYTES} bytes")
    return None


def encode_field(number: int, value: int | bytes) -> bytes:
    """One field: a number as a varint, bytes with their length."""
    if isinstance(value, int):
        return encode_varint(number << 3 | VARINT) + encode_varint(value)
    return encode_varint(number << 3 | DELIMITED) + encode_varint(len(value)) + value


def read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of the fields in their order; fixed-size ones come as their bytes. Errors: Aap2Error."""
    pos = 0
    while pos < len(data):
        key, pos = _expect_varint(data, pos)
        number, kind = key >> 3, key & 7
        if not 0 < number <= _FIELD_NUMBER_MAX:
            raise Aap2Error(f"field number {number} is impossible")
        if kind == VARINT:
            value, pos = _expect_varint(data, pos)
            yield number, value
            continue
        if kind == DELIMITED:
            size, pos = _expect_varint(data, pos)
        elif kind in _FIXED_BYTES:
            size = _FIXED_BYTES[kind]
        else:
            raise Aap2Error(f"field {number} has the wire type {kind}, which is not used")
        if size > len(data) - pos:
            raise Aap2Error(f"field {number} has {size} bytes, which its message has not")
        yield number, data[pos : pos + size]
        pos += size


def _expect_varint(data: bytes, pos: int) -> tuple[int, int]:
    found = read_varint(data, pos)
    if found is None:
        raise Aap2Error("the message ends within a number")
    return found
