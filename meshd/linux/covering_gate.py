# SPDX-License-Identifier: Apache-2.0
"""The emission gate of bearers whose devices stand on others: what is ordered for one holds for all below it, too.

A device that carries several bearers takes the strictest of what is ordered for them. What has once come below a device
that is not open stays gated until that opens: a port that is taken out of a silent bridge is still a radio. Doing it is
`emission_gate`, who stands on whom `device_stack`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from meshd.emcon.gate import GateCounters, GateLimits
from meshd.link.settings import Station
from meshd.linux.device_stack import DeviceStack
from meshd.linux.emission_gate import KernelGate
from meshd.linux.gated_device import Regime


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is ordered for one bearer's device."""

    regime: Regime = Regime.CLOSED
    lease_s: float | None = None
    limits: GateLimits | None = None
    is_off: bool = False


class CoveringGate:
    """`meshd.emcon.gate.EmissionGate` for the devices of bearers.

    Args: `make` makes the gate, given whom frames of a device may go to in any case; `stack` tells who stands on whom;
    `management` gives the stations of each bearer's device.
    Resource handling: gate and stack are its own, until `disconnect`.
    """

    def __init__(
        self,
        make: Callable[[Callable[[str], Sequence[Station]]], KernelGate],
        stack: DeviceStack,
        management: Mapping[str, Sequence[Station]],
    ) -> None:
        self._gate = make(self._stations)
        self._stack = stack
        self._management = management
        self._wishes: dict[str, _Wish] = {}
        self._below: dict[str, tuple[str, ...]] = {}

    @property
    def ports(self) -> Collection[int]:
        """As the gate's."""
        return self._gate.ports

    def probe(self) -> list[str]:
        """As the gate's."""
        return self._gate.probe()

    def probe_weak(self) -> list[str]:
        """As the gate's."""
        return self._gate.probe_weak()

    def adopt(self, devices: Collection[str]) -> None:
        """With what is below them."""
        self._wishes |= {device: _Wish() for device in devices}
        self._look()
        self._gate.adopt(self._covered(devices))

    def close(self, devices: Sequence[str], off: Collection[str] = ()) -> None:
        """With what is below them."""
        self._wishes |= {device: _Wish(is_off=device in off) for device in devices}
        self._look()
        covered = self._covered(devices)
        self._gate.close(covered, [each for each in covered if self._strictest(each).is_off])

    def restrict(self, device: str, limits: GateLimits, lease_s: float) -> None:
        """With what is below it, as far as nothing stricter is ordered for that."""
        self._let(device, _Wish(Regime.LIMITED, lease_s, limits))

    def open(self, device: str, lease_s: float | None) -> None:
        """With what is below it, as far as nothing stricter is ordered for that."""
        before = self._below.get(device, ())
        is_new = self._wishes.get(device, _Wish()).regime is not Regime.OPEN
        if is_new:
            self._below.pop(device, None)
        self._let(device, _Wish(Regime.OPEN, lease_s))
        for each in before if is_new else ():
            if not self._above(each):
                self._gate.open(each, None)

    def break_for(self, device: str, mark: int, quota_bytes: int, window_s: float) -> None:
        """With what is below it."""
        self.close([device])
        for each in self._covered([device]):
            self._gate.break_for(each, mark, quota_bytes, window_s)

    def reapply(self) -> list[str]:
        """Also what has come below a device since."""
        fresh = self._look()
        for each in fresh:
            self._apply(each)
        return [*(f"{each}: it came below a device that is gated" for each in fresh), *self._gate.reapply()]

    def counters(self) -> Mapping[str, GateCounters]:
        """Of all that is covered."""
        counted = self._gate.counters()
        return {name: replace(each, below=self._below.get(name, ())) for name, each in counted.items()}

    def problems(self) -> Mapping[str, str]:
        """What is below a device is its problem, too."""
        found = self._gate.problems()
        problems = {}
        for device in self._wishes:
            said = [found[device]] if device in found else []
            said += [f"{each}: {found[each]}" for each in self._below.get(device, ()) if each in found]
            shut = [each for each in self._covered([device]) if self._is_stricter(each, device)]
            said += [f"{each} is shut: another bearer on it is ordered silent" for each in shut]
            if said:
                problems[device] = "; ".join(said)
        return problems

    def disconnect(self) -> None:
        """Close the sockets; everything that was laid stays."""
        self._gate.disconnect()
        self._stack.close()

    def _stations(self, device: str) -> list[Station]:
        """What is below a device carries what goes to its stations, too."""
        names = [name for name in self._management if device == name or device in self._below.get(name, ())]
        return list(dict.fromkeys(station for name in names for station in self._management[name]))

    def _let(self, device: str, wish: _Wish) -> None:
        is_renewal = device in self._wishes and replace(self._wishes[device], lease_s=wish.lease_s) == wish
        self._wishes[device] = wish
        if not is_renewal:
            self._look()
        for each in self._covered([device]):
            self._apply(each)

    def _apply(self, device: str) -> None:
        """Bring a device to the strictest that is ordered for it."""
        wish = self._strictest(device)
        if wish.regime is Regime.OPEN:
            self._gate.open(device, wish.lease_s)
        elif wish.regime is Regime.LIMITED and wish.limits is not None and wish.lease_s is not None:
            self._gate.restrict(device, wish.limits, wish.lease_s)
        else:
            self._gate.close([device], [device] if wish.is_off else [])

    def _look(self) -> list[str]:
        """Who stands on whom now; what is below now and was not before."""
        lower = self._stack.read()
        before = set(self._covered(self._wishes))
        for device in self._wishes:
            below = dict.fromkeys((*self._below.get(device, ()), *lower.get(device, ())))
            if below:
                self._below[device] = tuple(below)
        return [each for each in self._covered(self._wishes) if each not in before]

    def _covered(self, devices: Iterable[str]) -> list[str]:
        """These and what is below them, each once."""
        return list(dict.fromkeys(each for device in devices for each in (device, *self._below.get(device, ()))))

    def _above(self, device: str) -> list[_Wish]:
        """What is ordered for the bearers whose frames it carries."""
        return [wish for name, wish in self._wishes.items() if device == name or device in self._below.get(name, ())]

    def _is_stricter(self, device: str, than: str) -> bool:
        return self._wishes[than].regime is not Regime.CLOSED and self._strictest(device).regime is Regime.CLOSED

    def _strictest(self, device: str) -> _Wish:
        wishes = self._above(device)
        closed = [each for each in wishes if each.regime is Regime.CLOSED]
        if closed or not wishes:
            return _Wish(is_off=any(each.is_off for each in closed))
        leases = [each.lease_s for each in wishes if each.lease_s is not None]
        limits = [each.limits for each in wishes if each.limits is not None]
        if limits:
            return _Wish(Regime.LIMITED, min(leases), _tightest(limits))
        return _Wish(Regime.OPEN, min(leases, default=None))


def _tightest(limits: Sequence[GateLimits]) -> GateLimits:
    quotas = [each.quota_bytes_per_h for each in limits if each.quota_bytes_per_h is not None]
    rates = [each.rate_bytes_per_s for each in limits if each.rate_bytes_per_s is not None]
    return GateLimits(
        tuple(dict.fromkeys(mark for each in limits for mark in each.marks)),
        min(quotas, default=None),
        min(rates, default=None),
        max(each.burst_bytes for each in limits),
    )
