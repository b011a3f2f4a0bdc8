# SPDX-License-Identifier: Apache-2.0
"""What the gate wants of one device, and what it remembers about it."""

import enum
from dataclasses import dataclass, field

from meshd.emcon.gate import GateLimits
from meshd.link.settings import Station
from meshd.linux.gate_chain import ChainRules
from meshd.linux.nfnetlink import Flow
from meshd.linux.shaping import ShapingRecord


class Regime(enum.Enum):
    """What may leave a device."""

    CLOSED = "closed"
    """Nothing, but for exceptions and for a flow that silence was broken for."""
    LIMITED = "limited"
    """Marked flows."""
    OPEN = "open"


@dataclass(slots=True)
class GatedDevice:
    """One device."""

    name: str
    exceptions: tuple[Station, ...] = ()
    regime: Regime = Regime.CLOSED
    lease_s: float | None = None
    limits: GateLimits | None = None
    """The last that held: their quota stays used while something else holds."""
    used_bytes: int = 0
    """Of the quota, when it was read last."""
    hour_began: float | None = None
    is_off: bool = False
    """It is to be down."""
    is_set_down: bool = False
    """It is down by our doing."""
    record: ShapingRecord = ()
    blocked_before: int = 0
    """Frames counted by chains that somebody removed since."""
    excepted_before: int = 0
    mark: int | None = None
    """Of the flow that its silence was broken for, until it is closed or opened again."""
    attached: bytes | None = None
    """The program at its clsact egress, if that lets something pass."""
    problems: dict[str, str] = field(default_factory=dict)
    """By layer."""

    @property
    def marks(self) -> tuple[int, ...]:
        """Of the flows that pass though it is not open."""
        if self.mark is not None:
            return (self.mark,)
        return self.limits.marks if self.regime is Regime.LIMITED and self.limits is not None else ()

    @property
    def rules(self) -> ChainRules:
        """As they are to be laid now."""
        return ChainRules(self.name, self.limits, self.used_bytes, self.exceptions)

    @property
    def flows(self) -> list[Flow]:
        """Those of its restriction, in force or not."""
        return [] if self.limits is None else [(self.name, mark) for mark in self.limits.marks]
