# SPDX-License-Identifier: Apache-2.0
"""The seam between EMCON policy and the kernel's emission gate, and the gate of a host that has none."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

NO_GATE_PROBLEM: Final = "no kernel gate"


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What may leave a restricted device."""

    marks: tuple[int, ...]
    """SO_MARK of the flows."""
    quota_bytes_per_h: int | None
    rate_bytes_per_s: int | None
    """The duty cycle, as a share of the rate."""
    burst_bytes: int
    """Above what the rate gives in a second."""


@dataclass(frozen=True, slots=True)
class GateCounters:
    """What the kernel counted on one device."""

    tx_frames: int
    """Frames that the device itself says it sent."""
    blocked_frames: int
    """Frames that the gate dropped."""
    is_open: bool
    """The gate's own state, as the kernel has it."""
    marked_frames: int = 0
    """Let out by `break_for` since the gate was last laid."""
    marked_bytes: int = 0
    quota_used_bytes: int = 0
    """Of the hour's quota of `restrict`."""
    excepted_frames: int = 0
    """Let out to the stations that are excepted."""
    below: tuple[str, ...] = ()
    """Devices that carry what this one sends, and are gated with it."""


class EmissionGate(Protocol):
    """Lets frames leave a device, or not. All calls are synchronous, complete on return, and raise GateError."""

    def adopt(self, devices: Collection[str]) -> None:
        """Take over what an earlier run or the boot unit laid, and shut these; at no moment anything opens."""

    def close(self, devices: Sequence[str], off: Collection[str] = ()) -> None:
        """Shut all of these in one transaction and purge what waits in their queues.

        Those in `off` are set down then, and kept down; the others are set up again where that was so before.
        """

    def restrict(self, device: str, limits: GateLimits, lease_s: float) -> None:
        """Shut it but for these marks, for `lease_s` seconds. Calling again renews the lease.

        The kernel counts quota and rate; what was used of an hour's quota stays used, whatever comes in between.
        Neighbour entries must be permanent: ARP carries no mark.
        """

    def open(self, device: str, lease_s: float | None) -> None:
        """Let frames leave for `lease_s` seconds (None: until closed). Calling again renews the lease."""

    def break_for(self, device: str, mark: int, quota_bytes: int, window_s: float) -> None:
        """Let frames with this SO_MARK leave a closed device until the window or the quota is over.

        The kernel ends it by itself; `close` then makes all layers whole again. A gate that is laid anew meanwhile
        (`reapply` after a flushed ruleset) ends the window. Neighbour entries must be permanent: ARP carries no mark.
        """

    def reapply(self) -> list[str]:
        """Compare the kernel with what was asked for and mend it. Returns what was mended, in words."""

    def counters(self) -> Mapping[str, GateCounters]:
        """By device, for every device that the gate covers."""

    def problems(self) -> Mapping[str, str]:
        """By device: what is weaker than it should be, in words."""

    def probe(self) -> list[str]:
        """Pieces that this host lacks and without which there is no gate, in words."""

    def probe_weak(self) -> list[str]:
        """Pieces that it lacks and without which a path stays open; which one, in words."""

    @property
    def ports(self) -> Collection[int]:
        """Netlink port numbers that notifications about the gate's own changes carry."""


class NoGate:
    """For a lab without privileges: nothing holds frames back but the daemon's own restraint."""

    def __init__(self) -> None:
        self._devices: set[str] = set()

    @property
    def ports(self) -> Collection[int]:
        """None."""
        return ()

    def adopt(self, devices: Collection[str]) -> None:
        """Remember the names, for `problems`."""
        self._devices.update(devices)

    def close(self, devices: Sequence[str], off: Collection[str] = ()) -> None:
        """Nothing."""
        self._devices.update(devices)

    def restrict(self, device: str, limits: GateLimits, lease_s: float) -> None:
        """Nothing."""
        self._devices.add(device)

    def open(self, device: str, lease_s: float | None) -> None:
        """Nothing."""
        self._devices.add(device)

    def break_for(self, device: str, mark: int, quota_bytes: int, window_s: float) -> None:
        """Nothing."""
        self._devices.add(device)

    def reapply(self) -> list[str]:
        """Nothing to mend."""
        return []

    def counters(self) -> Mapping[str, GateCounters]:
        """Nobody counts."""
        return {}

    def problems(self) -> Mapping[str, str]:
        """Every device has the same one."""
        return dict.fromkeys(self._devices, NO_GATE_PROBLEM)

    def probe(self) -> list[str]:
        """Everything lacks."""
        return [NO_GATE_PROBLEM]

    def probe_weak(self) -> list[str]:
        """Every path is open."""
        return [NO_GATE_PROBLEM]
