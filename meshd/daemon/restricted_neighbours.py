# SPDX-License-Identifier: Apache-2.0
"""Permanent neighbour entries where nobody can be asked: ARP and ND carry no mark, and go to no station alone.

Whatever the kernel knows on a device when its restriction begins stays known until it ends; who has a `mac` in the
configuration is known in any case. Nobody else is reached: an alarm names neighbours of whom nothing is known. Stations
that are reached whatever the posture are known always.
"""

import ipaddress
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from meshd.base.errors import MeshdError
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings, Posture


class EntryPort(Protocol):
    """The kernel's neighbour entries, as `linux.NeighbourTable`. Errors: MeshdError."""

    def pin(self, device: str, host: str, mac: str | None) -> bool:
        """Make the entry permanent; without a MAC, the one that is known. False: none is known."""

    def pin_known(self, device: str) -> list[str]:
        """Make all permanent that are known; their hosts."""

    def release(self, device: str, host: str) -> None:
        """The kernel may find it out anew."""


class RestrictedNeighbours:
    """Of all bearers of one daemon."""

    def __init__(self, bearers: Sequence[BearerSettings], entries: EntryPort, report: Callable[..., None]) -> None:
        self._devices = {bearer.name: bearer.device for bearer in bearers}
        self._stations = {bearer.name: bearer.management for bearer in bearers if bearer.management}
        self._entries = entries
        self._report = report
        self._pinned: dict[str, list[str]] = {}
        """Hosts, by the bearer that is restricted."""

    def postures_changed(self, postures: Mapping[str, Posture], neighbours: Collection[NeighbourSettings]) -> None:
        """Pin where a restriction begins, let go where it ends."""
        restricted = {name for name, posture in postures.items() if posture is Posture.RESTRICTED}
        for name in self._pinned.keys() - restricted:
            self._release(name)
        for name in self._stations:
            self._pin_stations(name)
        for name in sorted(restricted - self._pinned.keys()):
            self._pin(name, [each for each in neighbours if each.bearer == name])

    def _pin(self, name: str, neighbours: Sequence[NeighbourSettings]) -> None:
        device = self._devices[name]
        hosts = self._pinned[name] = []
        try:
            hosts += self._entries.pin_known(device)
            for each in neighbours:
                host = None if each.address is None else _host(each.address)
                if host is None or host in hosts:
                    continue
                if self._entries.pin(device, host, each.mac):
                    hosts.append(host)
                elif each.cl is not ConvergenceLayer.FOUNTAIN:
                    self._alarm(device, f"{each.node.uri} can't be reached: its hardware address is not known (mac)")
        except MeshdError as error:
            self._alarm(device, f"neighbours may not be reached: {error}")

    def _pin_stations(self, name: str) -> None:
        """Again each time: a device that was down, or was made anew, has lost them."""
        try:
            for station in self._stations[name]:
                self._entries.pin(self._devices[name], station.address, station.mac)
        except MeshdError as error:
            self._alarm(self._devices[name], f"stations may not be reached: {error}")

    def _release(self, name: str) -> None:
        for host in self._pinned.pop(name):
            try:
                self._entries.release(self._devices[name], host)
            except MeshdError as error:
                self._alarm(self._devices[name], str(error))

    def _alarm(self, device: str, text: str) -> None:
        fields: dict[str, Any] = {"text": text, "device": device}
        self._report("emcon.alarm", fields)


def _host(address: str) -> str | None:
    """None: a multicast group needs no entry."""
    host = address.rpartition(":")[0].strip("[]")
    return None if ipaddress.ip_address(host.partition("%")[0]).is_multicast else host
