# SPDX-License-Identifier: Apache-2.0
"""Keeps the gate as it was ordered: renews leases, tries again what the kernel refused, looks at the counters.

Part of `policy`, which decides what is open; the periods here are about how fast a fault is seen and mended.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from meshd.emcon.commands import Command, ReadCounters, Report
from meshd.emcon.device_plan import DevicePlan
from meshd.emcon.events import CountersRead, GateFailed
from meshd.emcon.gate import GateCounters
from meshd.emcon.reports import alarm
from meshd.emcon.tripwire import Tripwire

GATE_RETRY_S: Final = 1.0
"""Between attempts at a gate that refused."""
TRIPWIRE_S: Final = 0.5
"""Between looks at the counters: a frame that leaves in silence is an alarm within a second."""
RENEWALS_PER_LEASE: Final = 3


class Upkeep:
    """Timers and faults of the gate."""

    def __init__(self) -> None:
        self._lease_at = math.inf
        self._look_at = math.inf
        self._retry_at = math.inf
        self._failed: dict[str, str] = {}
        self._tripwire = Tripwire()
        self._broken: frozenset[str] = frozenset()
        self._left_out: frozenset[str] = frozenset()
        """At the next look: what was counted before or meanwhile says nothing."""

    @property
    def problems(self) -> Mapping[str, str]:
        """By device: what the kernel refused."""
        return self._failed

    @property
    def wake_at(self) -> float:
        """When `tick` wants to be called."""
        return min(self._lease_at, self._look_at, self._retry_at)

    def opened(self, plan: DevicePlan, now: float) -> None:
        """All that may send have just got a fresh lease."""
        self._lease_at = now + min(plan.leases, default=math.inf) / RENEWALS_PER_LEASE
        self._look_at = min(self._look_at, now + TRIPWIRE_S)

    def begin_leases(self, plan: DevicePlan, now: float) -> None:
        """Some of them have got a lease just now."""
        self._lease_at = min(self._lease_at, now + min(plan.leases, default=math.inf) / RENEWALS_PER_LEASE)

    def tick(self, plan: DevicePlan, now: float) -> list[Command]:
        """What is due."""
        commands: list[Command] = []
        if self._retry_at <= now:
            self._retry_at = math.inf
            commands += plan.close(self._failed.keys()) + plan.let(self._failed.keys())
        if self._lease_at <= now:
            commands += plan.let(plan.letting, is_leased=True)
            self.opened(plan, now)
        if self._look_at <= now:
            self._look_at = now + TRIPWIRE_S
            commands.append(ReadCounters())
        return commands

    def done(self, devices: Sequence[str]) -> list[Command]:
        """The kernel has done what was asked of these."""
        mended = [device for device in devices if self._failed.pop(device, None) is not None]
        return [Report("emcon.gate", {"device": device, "text": "the gate works again"}) for device in mended]

    def failed(self, event: GateFailed, now: float) -> list[Command]:
        """It has not; an alarm once for each reason."""
        fresh = [device for device in event.devices if self._failed.get(device) != event.reason]
        self._failed.update(dict.fromkeys(event.devices, event.reason))
        self._retry_at = min(self._retry_at, now + GATE_RETRY_S)
        return [alarm(event.reason, device) for device in fresh]

    def leave_out(self, devices: frozenset[str]) -> list[Command]:
        """Out of these something leaves by order; whoever gave it compares the counters when that is over."""
        self._left_out |= self._broken | devices
        self._broken = devices
        return []

    def check(self, event: CountersRead, plan: DevicePlan) -> list[Command]:
        """Is everything silent that should be?"""
        commands: list[Command] = []
        watched = [device for device in plan.shut if device not in self._left_out]
        self._left_out = self._broken
        shut = {below: device for device in watched for below in _with_below(device, event.counters)}
        for leak in self._tripwire.check(shut, event.counters):
            if leak.frames:
                commands.append(alarm(f"{leak.frames} frames left a device that is ordered silent", leak.device))
            if leak.is_open:
                commands += [
                    alarm("the gate stood open and is shut again", leak.device),
                    *plan.close((shut[leak.device],)),
                ]
        return commands


def _with_below(device: str, counters: Mapping[str, GateCounters]) -> tuple[str, ...]:
    """The device, and those that carry what it sends."""
    counted = counters.get(device)
    return (device,) if counted is None else (device, *counted.below)
