# SPDX-License-Identifier: Apache-2.0
"""What EMCON policy wants done. The shell executes commands in their order, each before the next."""

from collections.abc import Sequence
from dataclasses import dataclass

from meshd.emcon.gate import GateLimits
from meshd.emcon.order import OrderState
from meshd.link.settings import Posture


@dataclass(frozen=True, slots=True)
class CloseGate:
    """Shut these devices in one transaction. Answered by GateClosed or GateFailed, at once."""

    devices: Sequence[str]
    off: Sequence[str] = ()
    """Those of them that are to be down; the others are up again, if the gate had set them down."""


@dataclass(frozen=True, slots=True)
class RestrictGate:
    """Let marked frames leave this device within limits, or renew its lease. Answered like OpenGate."""

    device: str
    limits: GateLimits
    lease_s: float


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Let frames leave this device, or renew its lease. Answered by GateOpened or GateFailed, at once."""

    device: str
    lease_s: float | None


@dataclass(frozen=True, slots=True)
class ChangePostures:
    """Tell the node and the bearers: freeze or thaw sockets and timers."""

    postures: dict[str, Posture]


@dataclass(frozen=True, slots=True)
class PersistState:
    """Make this durable. Answered later by Persisted or PersistingFailed. None: remove the file."""

    number: int
    state: OrderState | None


@dataclass(frozen=True, slots=True)
class ReadCounters:
    """Answered by CountersRead at once."""


@dataclass(frozen=True, slots=True)
class OrderHolds:
    """The order with this number is in force and durable (or, towards silence, in force with an alarm)."""

    number: int


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """The order with this number opens nothing."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send TimerFired at this monotonic time; replaces the earlier wish. None: no timer."""

    at: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """Something operators want to see; a kind that ends in `.alarm` wakes somebody up."""

    kind: str
    fields: dict[str, str | int | float | bool | None]


Command = (
    CloseGate
    | OpenGate
    | RestrictGate
    | ChangePostures
    | PersistState
    | ReadCounters
    | OrderHolds
    | OrderRefused
    | WakeAt
    | Report
)
