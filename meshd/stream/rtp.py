# SPDX-License-Identifier: Apache-2.0
"""A transport stream in RTP packets: payload type 33 (RFC 3551 section 6), header of RFC 3550 section 5.1.

What it holds is all that is taken of it: packets that the network changed the order of stay as they came, and are
counted, as are those that are missing.
"""

from typing import Final

import msgspec

from meshd.base.errors import RemoteProtocolError

PAYLOAD_TYPE: Final = 33
_HEADER_BYTES: Final = 12
_VERSION: Final = 2
_CYCLE: Final = 1 << 16
_LATE_MAX: Final = 1000
"""So far behind the newest one it is late; further behind the source has begun anew."""


class RtpError(RemoteProtocolError):
    """This datagram is no RTP packet of a transport stream."""


class RtpPacket(msgspec.Struct, frozen=True, gc=False):
    """What is needed of it."""

    sequence: int
    payload: bytes


def parse_rtp_untrusted(data: bytes) -> RtpPacket:
    """Errors: RtpError."""
    if len(data) < _HEADER_BYTES or data[0] >> 6 != _VERSION:
        raise RtpError(f"a datagram of {len(data)} bytes has no RTP header: is the source udp://, not rtp://?")
    kind = data[1] & 0x7F
    if kind != PAYLOAD_TYPE:
        raise RtpError(f"RTP packets have payload type {kind}: a transport stream has {PAYLOAD_TYPE}")
    begin = _HEADER_BYTES + 4 * (data[0] & 0x0F)
    if data[0] & 0x10:
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    end = len(data) - (data[-1] if data[0] & 0x20 else 0)
    if begin > end:
        raise RtpError("an RTP packet ends before its payload begins")
    return RtpPacket(int.from_bytes(data[2:4], "big"), data[begin:end])


class RtpOrder:
    """Counts what the way of the packets did to them."""

    def __init__(self) -> None:
        self._next: int | None = None
        self.missing = 0
        self.late = 0

    def take(self, sequence: int) -> None:
        """The next packet has this number."""
        ahead = 0 if self._next is None else (sequence - self._next) % _CYCLE
        if ahead >= _CYCLE - _LATE_MAX:
            self.late += 1
            self.missing = max(self.missing - 1, 0)
            return
        if ahead < _CYCLE // 2:
            self.missing += ahead
        self._next = (sequence + 1) % _CYCLE
