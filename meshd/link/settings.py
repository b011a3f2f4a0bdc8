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
    FOUNTAIN = "fountain"
    """Sealed datagrams with a rateless code, for SATCOM and radio."""


class Direction(enum.Enum):
    """What a bearer can do here."""

    BOTH = "both"
    TX = "tx"
    """We never hear anybody who could answer: everything goes blind."""
    RX = "rx"
    """We never send."""


class Posture(enum.Enum):
    """What may leave a bearer's device under EMCON: only OPEN lets everything out."""

    OPEN = "OPEN"
    RESTRICTED = "RESTRICTED"
    """Marked flows within a quota and a duty cycle."""
    RX_ONLY = "RX_ONLY"
    OFF = "OFF"
    """Nothing leaves, and the device itself is down."""

    @property
    def may_send(self) -> bool:
        """Whether anything of this node may leave at all."""
        return self in (Posture.OPEN, Posture.RESTRICTED)


class TlsPolicy(enum.Enum):
    """Whether sessions on a bearer are encrypted and their peers proven (RFC 9174 section 4.3)."""

    REQUIRE = "require"
    """A peer that does not offer TLS is refused."""
    OPPORTUNISTIC = "opportunistic"
    """TLS where the peer offers it: against listeners only, since whoever is on the path can suppress the offer."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RadioSettings:
    """What the fountain convergence layer has to know of a bearer."""

    listen: str | None = None
    """Address and UDP port, such as `0.0.0.0:4557`; None: the port of the group, or nowhere."""
    group: str | None = None
    """Multicast group and UDP port for all that is sent; None: each neighbour has its own address."""
    mtu_bytes: int = 1500
    """Of the IP packet; never found out by trying."""
    direction: Direction = Direction.BOTH
    delay_ms: int = 300
    """One way, to begin with; measured later."""
    modem_buffer_bytes: int = 16 * 1024
    """No burst is larger."""
    blind_overhead_pct: int = 40
    """Repair symbols of a blind pass, as a share of the source symbols."""
    emcon_rtc: int = 2
    """Further passes to a silent node (ACP 142: EMCON_RTC)."""
    emcon_rti_s: int = 60
    """From one pass to the next (ACP 142: EMCON_RTI)."""
    ack_budget_bytes: int = 4096
    """Of acknowledgements that were put off by a silence, at once after it; the rest is paced."""
    rate_max_bps: int | None = None
    """The rate is found, between that of the bearer and this; None: it is configured."""
    discovery: bool = False
    """Members of the mission that are heard become neighbours, though they are not configured."""


class HookFailure(enum.Enum):
    """What comes of a bearer's hook that fails."""

    ALARM = "alarm"
    DOWN = "down"
    """An alarm, and the device is set down."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A command that is told each posture of a bearer, such as one for the radio's transmit inhibit."""

    command: tuple[str, ...]
    """The posture is added as its last argument."""
    timeout_s: int
    failure: HookFailure


@dataclass(frozen=True, slots=True)
class Station:
    """Frames may go to it whatever the posture, such as a radio's own control port; both have to match."""

    mac: str
    address: str


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
    """Configured rate of the bearer, or the floor of one that is found; seeds the link metric."""
    mark: int
    """SO_MARK of every socket of this bearer; 0: none, which needs no privilege."""
    keepalive_s: int
    """TCPCLv4 keepalive interval offered; 0 disables."""
    tls: TlsPolicy = TlsPolicy.NEVER
    congestion: str | None = None
    """TCP congestion control, by the kernel's name; None: the host's default."""
    session_idle_s: int = 10
    """A further session of a neighbour is ended when it carried nothing for so long; 0: it stays."""
    link_idle_s: int = 0
    """The last session of a neighbour, too, is ended when it carried nothing for so long and the neighbour can be
    dialled: the link is dormant then; 0: it stays."""
    mtcp_listen: str | None = None
    """Address and port that MTCP listens on while a neighbour speaks it; None: nowhere."""
    mdns: bool = False
    """Say by multicast DNS where TCPCLv4 listens, and learn from others where they do."""
    radio: RadioSettings = RadioSettings()
    management: tuple[Station, ...] = ()
    """Whom the gate lets frames out to in any case."""
    assured: bool = False
    """RX_ONLY is refused where the kernel leaves a path open."""
    hook: Hook | None = None
    dlep: str | None = None
    """Address and port of the modem's control port, which tells rates and destinations by DLEP (RFC 8175); None: no
    modem speaks it.
    """
    dlep_heartbeat_s: int = 10

    @property
    def is_line(self) -> bool:
        """Terrestrial and not to be located: asking often costs nobody anything."""
        return self.kind is BearerKind.TERRESTRIAL and not self.radiating


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
    mac: str | None = None
    """Its hardware address, so that it is reachable while it is silent; None: learned while it is heard."""
    blind: bool = False
    """It can't send on this bearer: every bundle goes to it without an answer."""
