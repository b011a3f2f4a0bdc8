# SPDX-License-Identifier: Apache-2.0
"""What EMCON policy is told. `wall_ms` is Unix time in milliseconds, None where the clock is not to be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshd.emcon.gate import GateCounters
from meshd.emcon.order import OrderState
from meshd.emcon.schedule import Schedule
from meshd.emcon.settings import EmconSettings
from meshd.link.settings import BearerSettings


@dataclass(frozen=True, slots=True)
class Booted:
    """The gate is adopted and shut, the state file is read."""

    state: OrderState | None
    """None: there is no file, or no valid one."""
    problem: str | None
    """Why a file that is there is not valid."""
    wall_ms: int | None


@dataclass(frozen=True, slots=True)
class OrderGiven:
    """Somebody orders a profile. Answered by OrderHolds or OrderRefused with the same number, now or later."""

    number: int
    profile: str
    for_s: float | None
    by: str
    reason: str | None
    wall_ms: int | None
    schedule: Schedule | None = None
    """Replaces the one before it; None: that one stays."""


@dataclass(frozen=True, slots=True)
class Persisted:
    """The write with this number is durable."""

    number: int


@dataclass(frozen=True, slots=True)
class PersistingFailed:
    """The write with this number is not."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class GateClosed:
    """These devices are shut."""

    devices: Sequence[str]


@dataclass(frozen=True, slots=True)
class GateOpened:
    """This device may send."""

    device: str


@dataclass(frozen=True, slots=True)
class GateFailed:
    """The kernel refused to shut or to open."""

    devices: Sequence[str]
    reason: str


@dataclass(frozen=True, slots=True)
class CountersRead:
    """What the kernel counts, by device."""

    counters: Mapping[str, GateCounters]


@dataclass(frozen=True, slots=True)
class SilenceBroken:
    """By order, marked frames leave these devices that are shut, and no others; empty: that is over."""

    devices: frozenset[str]


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time that the last WakeAt named has come."""

    wall_ms: int | None
    may_open: bool = True
    """False: what the schedule opens has to wait for the record; `EmconPolicy.is_opening_due` says that it does."""


@dataclass(frozen=True, slots=True)
class GateProbed:
    """What this kernel lacks. Before Booted."""

    weakness: str
    """Which path a gate that is shut leaves open; empty: none."""


@dataclass(frozen=True, slots=True)
class HookRan:
    """A hook whose failure sets its bearer's device down has run."""

    bearer: str
    has_failed: bool


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The configuration was reloaded."""

    settings: EmconSettings
    bearers: Sequence[BearerSettings]


Event = (
    Booted
    | OrderGiven
    | Persisted
    | PersistingFailed
    | GateClosed
    | GateOpened
    | GateFailed
    | CountersRead
    | SilenceBroken
    | TimerFired
    | GateProbed
    | HookRan
    | SettingsChanged
)
