# SPDX-License-Identifier: Apache-2.0
"""Settings of bearers and of the neighbours on them, as the configuration file gives them."""

import enum
from dataclasses import dataclass

from meshd.bundle.eid import Eid
from meshd.bundle.precedence import Precedence


class BearerKind(enum.Enum):
    """What the bearer is made of; decides defaults, not permissions."""

    TERRESTRIAL = "terrestrial"
    SATCOM = "satcom"
    LOS = "los"


class ConvergenceLayer(enum.Enum):
    """The protocol that moves bundles to and from a neighbour."""

    TCPCLV4 = "tcpclv4"
    MTCP = "mtcp"
    """For foreign nodes: without acknowledgement and without authentication."""


class Posture(enum.Enum):
    """What may leave a bearer's device under EMCON. RESTRICTED and OFF come with their own issue."""

    OPEN = "OPEN"
    RX_ONLY = "RX_ONLY"


class TlsPolicy(enum.Enum):
    """Whether sessions on a bearer are encrypted and their peers proven (RFC 9174 section 4.3)."""

    REQUIRE = "require"
    """A peer that does not offer TLS is refused."""
    OPPORTUNISTIC = "opportunistic"
    """TLS where the peer offers it: against listeners only, since whoever is on the path can suppress the offer."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class BearerSettings:
    """One `[[bearer]]` table."""

    name: str
    kind: BearerKind
    device: str
    """Network device that every socket of this bearer is bound to (SO_BINDTODEVICE)."""
    radiating: bool
    """True when frames on it can be located: RX_ONLY at first boot, lease on its gate."""
    listen: str | None
    """Address and port that TCPCLv4 listens on, such as `[::]:4556`; None: dials only."""
    rate_bps: int
    """Configured rate of the bearer; seeds the link metric."""
    mark: int
    """SO_MARK of every socket of this bearer; 0: none, which needs no privilege."""
    keepalive_s: int
    """TCPCLv4 keepalive interval offered; 0 disables."""
    tls: TlsPolicy = TlsPolicy.NEVER
    congestion: str | None = None
    """TCP congestion control, by the kernel's name; None: the host's default."""
    session_idle_s: int = 10
    """A further session of a neighbour is ended when it carried nothing for so long; 0: it stays."""
    mtcp_listen: str | None = None
    """Address and port that MTCP listens on while a neighbour speaks it; None: nowhere."""


@dataclass(frozen=True, slots=True)
class NeighbourSettings:
    """One `[[neighbour]]` table: a static neighbour on one bearer."""

    node: Eid
    bearer: str
    address: str | None
    """Address and port to dial, such as `10.1.0.2:4556`; None: the neighbour dials us."""
    precedence_max: int = Precedence.OVERRIDE
    """What arrives from it with a higher precedence is treated as this one here; the bundle keeps its own."""
    cl: ConvergenceLayer = ConvergenceLayer.TCPCLV4
