# SPDX-License-Identifier: Apache-2.0
"""One packet of an MPEG transport stream (ISO/IEC 13818-1 section 2.4.3): header, adaptation field, clock reference.

All here is about the 188 bytes that begin with the synchronisation byte; what stands around them in the forms of 192
and 204 bytes, and where a packet begins, is the matter of `ts_sync.py`. Tables are the matter of `psi.py`.
"""

from typing import Final

import msgspec

from meshd.base.errors import RemoteProtocolError

PACKET_BYTES: Final = 188
SYNC_BYTE: Final = 0x47
HEADER_BYTES: Final = 4
PID_NULL: Final = 0x1FFF
PID_TABLES_END: Final = 0x20
"""PIDs below this carry the tables of the standard and of DVB; what a program carries lies above."""
CLOCK_HZ: Final = 27_000_000
CLOCK_CYCLE: Final = (1 << 33) * 300
"""A program clock reference (PCR) counts so far and begins anew, after 26.5 hours."""

PAYLOAD_UNIT_START: Final = 0x40
"""In byte 1."""
ADAPTATION_FIELD: Final = 0x20
"""In byte 3."""
PAYLOAD: Final = 0x10
"""In byte 3."""
_TRANSPORT_ERROR: Final = 0x80
_SCRAMBLING: Final = 0xC0
_DISCONTINUITY: Final = 0x80
"""In the flags of the adaptation field, as the next two."""
_RANDOM_ACCESS: Final = 0x40
_HAS_PCR: Final = 0x10
_PCR_BYTES: Final = 6


class TsError(RemoteProtocolError):
    """These bytes are no packet of a transport stream."""


class TsPacket(msgspec.Struct, frozen=True, gc=False):
    """What the header and the adaptation field of a packet say."""

    pid: int
    continuity: int
    """0 to 15; counts the packets of this PID that have a payload."""
    starts_unit: bool
    """A PES packet or a section begins in the payload."""
    is_damaged: bool
    """Whoever received it from the air says so."""
    is_scrambled: bool
    is_discontinuous: bool
    """The clock or the counter jumps here, on purpose."""
    is_random_access: bool
    """Decoding may begin here."""
    pcr: int | None
    """In units of 27 MHz."""
    payload_start: int
    """PACKET_BYTES: there is none."""


def parse_packet_untrusted(packet: bytes) -> TsPacket:
    """Read the 188 bytes of a packet.

    Errors:
        TsError: it has another size, no synchronisation byte, or an adaptation field that does not fit.
    """
    if len(packet) != PACKET_BYTES or packet[0] != SYNC_BYTE:
        raise TsError(f"a packet has {len(packet)} bytes and begins {packet[:1].hex() or 'nowhere'}: 188 and 47 do")
    control = packet[3]
    start, flags, pcr = HEADER_BYTES, 0, None
    if control & ADAPTATION_FIELD:
        size = packet[4]
        start += 1 + size
        if start > PACKET_BYTES:
            raise TsError(f"a packet has an adaptation field of {size} bytes: at most 183 fit")
        if size:
            flags = packet[5]
            if flags & _HAS_PCR:
                if size <= _PCR_BYTES:
                    raise TsError(
                        f"a packet has a clock reference in an adaptation field of {size} bytes: 7 are needed"
                    )
                pcr = read_pcr(packet, 6)
    return TsPacket(
        (packet[1] & 0x1F) << 8 | packet[2],
        control & 0x0F,
        bool(packet[1] & PAYLOAD_UNIT_START),
        bool(packet[1] & _TRANSPORT_ERROR),
        bool(control & _SCRAMBLING),
        bool(flags & _DISCONTINUITY),
        bool(flags & _RANDOM_ACCESS),
        pcr,
        start if control & PAYLOAD else PACKET_BYTES,
    )


def read_pcr(data: bytes, pos: int) -> int:
    """The clock reference in the six bytes from `pos` on: 33 bits at 90 kHz, 6 unused, 9 bits at 27 MHz."""
    word = int.from_bytes(data[pos : pos + _PCR_BYTES], "big")
    return ((word >> 15) * 300 + (word & 0x1FF)) % CLOCK_CYCLE


def pack_clock_packet(pid: int, continuity: int, pcr: int, is_discontinuous: bool) -> bytes:
    """A packet that carries a clock reference and nothing else: it does not count for the continuity counter."""
    assert 0 <= pid <= PID_NULL
    assert 0 <= pcr < CLOCK_CYCLE
    flags = _HAS_PCR | (_DISCONTINUITY if is_discontinuous else 0)
    head = bytes(
        (SYNC_BYTE, pid >> 8, pid & 0xFF, ADAPTATION_FIELD | continuity, PACKET_BYTES - HEADER_BYTES - 1, flags)
    )
    base, rest = divmod(pcr, 300)
    return (head + (base << 15 | 0x3F << 9 | rest).to_bytes(_PCR_BYTES, "big")).ljust(PACKET_BYTES, b"\xff")
