# SPDX-License-Identifier: Apache-2.0
"""Settings of the fountain convergence layer on one bearer, and of each node on it (DESIGN section 5).

Only the rate and the delay class of a bearer need configuring, and even the rate can be found; everything else has a
default that serves from a few kbit/s to some hundred Mbit/s. Reading the file and checking for colliding indexes is
left to `meshd.settings`.
"""

from dataclasses import dataclass
from typing import Final

from meshd.bundle.eid import Eid
from meshd.cl.fountain.datagram import SEAL_BYTES
from meshd.cl.fountain.frame_codec import SYMBOL_HEAD_BYTES
from meshd.cl.fountain.frames import OBJECT_MAX_BYTES, SYMBOLS_MAX
from meshd.link.settings import Direction

UDP_BYTES: Final = 8
IP_BYTES: Final = {4: 20, 6: 40}
SYMBOL_ALIGNMENT: Final = 8
"""RFC 6330 section 4.3: the size of a symbol is a multiple of this."""
DATAGRAM_AIR_S: Final = 0.1
"""On a slow bearer datagrams are so small that nothing urgent waits longer for the one under way."""
DATAGRAM_MIN_BYTES: Final = 576
"""Of the IP packet: no bearer is so slow that headers may eat more."""
OBJECT_BYTES: Final = 1024 * 1024 + 64 * 1024
"""Objects are no larger: a part of a message with its headers (1 MiB and a little) is one object."""
OBJECT_AIR_S: Final = 5.0
"""Nor do they take longer at the bearer's rate."""
COMPANY_AIR_S: Final = 1.0
"""Bundles that share an object take no longer: none of them arrives before the last."""
OBJECT_MIN_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """One node that shares the bearer with us."""

    node: Eid
    index: int
    """Of the node on this bearer, as the sealed header and the frames name it."""
    is_blind: bool = False
    """It never answers (its side is `direction = "rx"`): every object goes to it blind."""
    is_found: bool = False
    """It is not configured, it was heard."""


@dataclass(frozen=True, slots=True)
class FountainSettings:
    """One bearer."""

    node: Eid
    """Our own."""
    index: int
    rate_bps: int
    """What we may send, counted on frames of the medium; where it is found, what is known by now."""
    owd_s: float
    """One-way delay to begin with; measured later."""
    mtu_bytes: int = 1500
    """Of the IP packet; never found out by trying."""
    ip_version: int = 4
    frame_overhead_bytes: int = 14
    """What the medium adds to an IP packet."""
    direction: Direction = Direction.BOTH
    modem_buffer_bytes: int = 16 * 1024
    """No burst is larger."""
    is_multicast: bool = False
    blind_overhead: float = 0.4
    """Repair symbols of a blind pass, as a share of the source symbols."""
    emcon_rtc: int = 2
    """Further passes to a silent node (ACP 142: EMCON_RTC)."""
    emcon_rti_s: float = 60.0
    """From one pass to the next (ACP 142: EMCON_RTI)."""
    feedback_share: float = 0.05
    """Of our rate, at most, for reports and acknowledgements."""
    ack_budget_bytes: int = 4096
    """After a silence, what was not acknowledged may be with so many bytes at once; the rest keeps to the share."""
    rate_max_bps: int | None = None
    """The rate is found, between `rate_bps` and this; None: it is configured."""
    found_max: int = 0
    """So many members that are not configured become neighbours when they are heard."""

    @property
    def header_bytes(self) -> int:
        """What a frame of the medium has besides our plain text."""
        return self.frame_overhead_bytes + IP_BYTES[self.ip_version] + UDP_BYTES + SEAL_BYTES

    @property
    def plaintext_bytes(self) -> int:
        """Room for frames in one datagram."""
        by_rate = int(self.rate_bps * DATAGRAM_AIR_S / 8) - self.frame_overhead_bytes
        packet = min(self.mtu_bytes, max(by_rate, DATAGRAM_MIN_BYTES))
        return packet - IP_BYTES[self.ip_version] - UDP_BYTES - SEAL_BYTES

    @property
    def symbol_bytes(self) -> int:
        """Size of the largest symbol."""
        room = self.plaintext_bytes - SYMBOL_HEAD_BYTES
        return room - room % SYMBOL_ALIGNMENT

    @property
    def object_bytes(self) -> int:
        """Size of the largest object."""
        by_rate = max(int(self.rate_bps * OBJECT_AIR_S / 8), OBJECT_MIN_BYTES)
        return min(OBJECT_BYTES, by_rate, OBJECT_MAX_BYTES, self.symbol_bytes * SYMBOLS_MAX)

    @property
    def company_bytes(self) -> int:
        """Size of the largest object of several bundles."""
        return min(self.object_bytes, max(int(self.rate_bps * COMPANY_AIR_S / 8), OBJECT_MIN_BYTES))
