# SPDX-License-Identifier: Apache-2.0
"""KLV metadata as far as the latency figure needs it: when the sensor says that it saw what is shown.

A local set of MISB ST 0601 begins with its universal label (SMPTE ST 336) and a BER length; its items have BER-OID tags
and BER lengths. Read are tag 2, the precision time stamp (MISB ST 0603, microseconds since 1970), and tag 1, the
checksum over all before its value. KLV comes in PES packets of its PID, plain or in the access units of ISO/IEC 13818-1
section 2.12.4: the label is looked for, so that both are read alike.
"""

from typing import Final

import msgspec

from meshd.base.errors import RemoteProtocolError

UAS_LABEL: Final = bytes.fromhex("060e2b34020b01010e01030101000000")
"""Of the UAS Datalink Local Set."""
SET_MAX_BYTES: Final = 65_536
PES_MAX_BYTES: Final = SET_MAX_BYTES + 256
ITEMS_MAX: Final = 512
_TAG_CHECKSUM: Final = 1
_TAG_TIME: Final = 2
_CHECKSUM_BYTES: Final = 2
_TIME_BYTES: Final = 8
_LENGTH_BYTES_MAX: Final = 4
_TAG_BYTES_MAX: Final = 3


class KlvError(RemoteProtocolError):
    """These bytes hold no whole local set."""


class LocalSet(msgspec.Struct, frozen=True, gc=False):
    """What was read of one."""

    time_us: int | None
    """Since 1970 (of the clock of MISB ST 0603)."""
    is_checked: bool
    """It has a checksum, and that is right."""


def read_ber_length(data: bytes, pos: int) -> tuple[int, int]:
    """A BER length, short or long form, and the position after it. Errors: KlvError."""
    if pos >= len(data):
        raise KlvError(f"a KLV length is missing at byte {pos}")
    first = data[pos]
    if first < 0x80:
        return first, pos + 1
    count = first & 0x7F
    end = pos + 1 + count
    if not 0 < count <= _LENGTH_BYTES_MAX or end > len(data):
        raise KlvError(f"a KLV length of {count} bytes at byte {pos} can't be read")
    return int.from_bytes(data[pos + 1 : end], "big"), end


def read_ber_oid(data: bytes, pos: int) -> tuple[int, int]:
    """A tag in groups of seven bits, and the position after it. Errors: KlvError."""
    value = 0
    for at in range(pos, min(pos + _TAG_BYTES_MAX, len(data))):
        value = value << 7 | data[at] & 0x7F
        if data[at] < 0x80:
            return value, at + 1
    raise KlvError(f"a KLV tag at byte {pos} does not end")


def klv_checksum(data: bytes) -> int:
    """Of ST 0601: the sum of the 16-bit words, an odd byte at the end counts as the high one."""
    return (sum(data[0::2]) * 256 + sum(data[1::2])) & 0xFFFF


def parse_local_set_untrusted(data: bytes) -> LocalSet:
    """The first local set of ST 0601 in the payload of a PES packet.

    Errors:
        KlvError: there is none, it is not whole, or its items can't be told apart.
    """
    begin = data.find(UAS_LABEL)
    if begin < 0:
        raise KlvError("no UAS local set begins in these bytes")
    size, pos = read_ber_length(data, begin + len(UAS_LABEL))
    end = pos + size
    if size > SET_MAX_BYTES or end > len(data):
        raise KlvError(f"a local set of {size} bytes is not whole or above {SET_MAX_BYTES} bytes")
    time_us: int | None = None
    is_checked = False
    for _ in range(ITEMS_MAX):
        if pos == end:
            return LocalSet(time_us, is_checked)
        tag, pos = read_ber_oid(data, pos)
        length, value = read_ber_length(data, pos)
        pos = value + length
        if pos > end:
            raise KlvError(f"item {tag} of a local set runs over its end")
        if tag == _TAG_TIME and length == _TIME_BYTES:
            time_us = int.from_bytes(data[value:pos], "big")
        elif tag == _TAG_CHECKSUM and length == _CHECKSUM_BYTES:
            is_checked = klv_checksum(data[begin:value]) == int.from_bytes(data[value:pos], "big")
    raise KlvError(f"a local set has more than {ITEMS_MAX} items")
