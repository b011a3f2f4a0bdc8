# SPDX-License-Identifier: Apache-2.0
"""Tells bearers when their devices come, go or change, so that they work again at once and without a restart.

What a bearer does about it is its own matter; here it is only noticed, and reported for people.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol

from meshd.base.errors import MeshdError
from meshd.link.settings import BearerSettings
from meshd.linux.device_monitor import DeviceMonitor, DeviceState


class DeviceUser(Protocol):
    """A bearer."""

    def device_changed(self) -> None:
        """Its device is another one, is back, or has other addresses or another MTU."""


class DeviceWatch:
    """Of all bearers of a node."""

    def __init__(
        self,
        settings: Sequence[BearerSettings],
        bearers: Mapping[str, DeviceUser],
        report: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._settings = settings
        self._bearers = bearers
        self._report = report
        self._states: Mapping[str, DeviceState] | None = None

    async def run(self) -> None:
        """Until cancelled. Without netlink bearers find out by themselves, a little later."""
        try:
            with closing(DeviceMonitor({each.device for each in self._settings})) as monitor:
                await monitor.run(self.take)
        except (OSError, MeshdError) as error:
            self._report("node.warning", {"reason": f"devices can't be watched, changes are noticed late: {error}"})

    def take(self, states: Mapping[str, DeviceState]) -> None:
        """This is how the devices are now; what they were at the start is nothing new."""
        before, self._states = self._states, states
        if before is None:
            return
        for each in self._settings:
            state = states.get(each.device)
            if state != before.get(each.device):
                self._report("bearer.device", {"bearer": each.name, "device": each.device} | _describe(state))
                self._bearers[each.name].device_changed()


def _describe(state: DeviceState | None) -> dict[str, Any]:
    if state is None:
        return {"state": "absent"}
    addresses = ", ".join(state.addresses)
    return {"state": "up" if state.is_up else "down", "mtu_bytes": state.mtu_bytes, "addresses": addresses}
