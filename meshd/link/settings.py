# SPDX-License-Identifier: Apache-2.0
"""Settings of bearers and of the neighbours on them, as the configuration file gives them."""

import enum
from dataclasses import dataclass

from meshd.bundle.eid import Eid


class BearerKind(enum.Enum):
    """What the bearer is made of; decides defaults, not permissions."""

    TERRESTRIAL = "terrestrial"
    SATCOM = "satcom"
    LOS = "los"


class Posture(enum.Enum):
    """What may leave a bearer's device under EMCON. RESTRICTED and OFF come with their own issue."""

    OPEN = "OPEN"
    RX_ONLY = "RX_ONLY"


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


@dataclass(frozen=True, slots=True)
class NeighbourSettings:
    """One `[[neighbour]]` table: a static neighbour on one bearer."""

    node: Eid
    bearer: str
    address: str | None
    """Address and port to dial, such as `10.1.0.2:4556`; None: the neighbour dials us."""
