# SPDX-License-Identifier: Apache-2.0
"""What postures of bearers mean for the devices below them, and the commands that bring the gate there.

A device that several bearers share takes the strictest posture of them; restricted, it carries what all of them may
send together, within the tightest limits of any. Nothing is decided here: `policy` says which postures hold.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from meshd.emcon.commands import CloseGate, Command, OpenGate, RestrictGate
from meshd.emcon.gate import GateLimits
from meshd.emcon.profile import device_postures, leased_devices, tightest
from meshd.emcon.settings import EmconSettings, Restriction
from meshd.link.settings import BearerSettings, Posture

FRAME_HEADERS_BYTES: Final = 64
"""More than what Ethernet and its tags put before an IP packet."""


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """Every device of the bearers is in one of the three."""

    open: Mapping[str, float | None]
    """Devices that may send, and the lease in seconds on which they may; None: without an end."""
    restricted: Mapping[str, tuple[GateLimits, float]]
    """Devices that let out marked flows, on a lease."""
    shut: tuple[str, ...]
    """In the order of the configuration."""
    off: frozenset[str]
    """Those of them that are to be down."""

    @classmethod
    def make(
        cls,
        postures: Mapping[str, Posture],
        restrictions: Mapping[str, Restriction],
        settings: EmconSettings,
        bearers: Sequence[BearerSettings],
    ) -> Self:
        """`restrictions` names every bearer that is RESTRICTED."""
        leased = leased_devices(bearers)
        devices = device_postures(postures, bearers)
        opened = {
            device: settings.lease_s if device in leased else None
            for device, posture in devices.items()
            if posture is Posture.OPEN
        }
        restricted = {
            device: (_limits(device, postures, restrictions, bearers), settings.lease_s)
            for device, posture in devices.items()
            if posture is Posture.RESTRICTED
        }
        shut = tuple(device for device, posture in devices.items() if not posture.may_send)
        return cls(opened, restricted, shut, frozenset(each for each in shut if devices[each] is Posture.OFF))

    def close(self, devices: Collection[str]) -> list[Command]:
        """Shut those of these that are to be shut, in one transaction."""
        shut = tuple(device for device in self.shut if device in devices)
        return [CloseGate(shut, tuple(device for device in shut if device in self.off))] if shut else []

    def let(self, devices: Collection[str], *, is_leased: bool = False) -> list[Command]:
        """Let out what may leave these, or renew the leases; `is_leased`: only those that have one."""
        commands: list[Command] = [
            OpenGate(device, lease_s)
            for device, lease_s in self.open.items()
            if device in devices and (lease_s is not None or not is_leased)
        ]
        restricted = [(device, *regime) for device, regime in self.restricted.items() if device in devices]
        return commands + [RestrictGate(*each) for each in restricted]

    @property
    def letting(self) -> tuple[str, ...]:
        """Devices that anything may leave."""
        return (*self.open, *self.restricted)

    @property
    def leases(self) -> list[float]:
        """How long each lease lasts, in seconds."""
        opened = [lease_s for lease_s in self.open.values() if lease_s is not None]
        return opened + [lease_s for _, lease_s in self.restricted.values()]

    def tightened(self, before: Self) -> list[Command]:
        """What has to be done at once when this plan takes the place of another that let out more."""
        closed = self.close([device for device in self.shut if self._differs(before, device)])
        restricted = [device for device in self.restricted if self.restricted[device] != before.restricted.get(device)]
        return closed + self.let(restricted)

    def _differs(self, before: Self, device: str) -> bool:
        return device not in before.shut or (device in self.off) != (device in before.off)


def _limits(
    device: str,
    postures: Mapping[str, Posture],
    restrictions: Mapping[str, Restriction],
    bearers: Sequence[BearerSettings],
) -> GateLimits:
    sharing = [bearer for bearer in bearers if bearer.device == device]
    restricted = [bearer for bearer in sharing if postures[bearer.name] is Posture.RESTRICTED]
    rates = [_rate_bytes_per_s(bearer, restrictions[bearer.name]) for bearer in restricted]
    return GateLimits(
        marks=tuple(dict.fromkeys(bearer.mark for bearer in sharing if postures[bearer.name].may_send)),
        quota_bytes_per_h=tightest([restrictions[bearer.name] for bearer in restricted]).quota_bytes_per_h,
        rate_bytes_per_s=min((each for each in rates if each is not None), default=None),
        burst_bytes=max(bearer.radio.mtu_bytes for bearer in sharing) + FRAME_HEADERS_BYTES,
    )


def _rate_bytes_per_s(bearer: BearerSettings, restriction: Restriction) -> int | None:
    if restriction.duty_pct is None:
        return None
    return max(1, bearer.rate_bps * restriction.duty_pct // 800)
