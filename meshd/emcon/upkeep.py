# SPDX-License-Identifier: Apache-2.0
"""Keeps the gate as it was ordered: renews leases, tries again what the kernel refused, looks at the counters.

Part of `policy`, which decides what is open; the periods here are about how fast a fault is seen and mended.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from meshd.emcon.commands import CloseGate, Command, OpenGate, ReadCounters, Report
from meshd.emcon.events import CountersRead, GateFailed
from meshd.emcon.tripwire import Tripwire

GATE_RETRY_S: Final = 1.0
"""Between attempts at a gate that refused."""
TRIPWIRE_S: Final = 1.0
"""Between looks at the counters."""
RENEWALS_PER_LEASE: Final = 3

OpenDevices = Mapping[str, float | None]
"""Devices that may send, and the lease in seconds on which they may; None: without an end."""


class Upkeep:
    """Timers and faults of the gate."""

    def __init__(self) -> None:
        self._lease_at = math.inf
        self._look_at = math.inf
        self._retry_at = math.inf
        self._failed: dict[str, str] = {}
        self._tripwire = Tripwire()

    @property
    def problems(self) -> Mapping[str, str]:
        """By device: what the kernel refused."""
        return self._failed

    @property
    def wake_at(self) -> float:
        """When `tick` wants to be called."""
        return min(self._lease_at, self._look_at, self._retry_at)

    def opened(self, open_devices: OpenDevices, now: float) -> None:
        """All of these have just got a fresh lease."""
        leases = [lease_s for lease_s in open_devices.values() if lease_s is not None]
        self._lease_at = now + min(leases) / RENEWALS_PER_LEASE if leases else math.inf
        self._look_at = min(self._look_at, now + TRIPWIRE_S)

    def tick(self, open_devices: OpenDevices, now: float) -> list[Command]:
        """What is due."""
        commands: list[Command] = []
        if self._retry_at <= now:
            self._retry_at = math.inf
            shut = tuple(device for device in self._failed if device not in open_devices)
            commands += [CloseGate(shut)] if shut else []
            commands += [OpenGate(name, open_devices[name]) for name in self._failed if name in open_devices]
        if self._lease_at <= now:
            commands += [OpenGate(name, lease_s) for name, lease_s in open_devices.items() if lease_s is not None]
            self.opened(open_devices, now)
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

    def check(self, event: CountersRead, shut: Collection[str]) -> list[Command]:
        """Is everything silent that should be?"""
        commands: list[Command] = []
        for leak in self._tripwire.check(shut, event.counters):
            if leak.frames:
                commands.append(alarm(f"{leak.frames} frames left a device that is ordered silent", leak.device))
            if leak.is_open:
                commands += [alarm("the gate stood open and is shut again", leak.device), CloseGate((leak.device,))]
        return commands


def alarm(text: str, device: str | None = None) -> Report:
    """A report that should wake somebody up."""
    return Report("emcon.alarm", {"text": text} if device is None else {"text": text, "device": device})
