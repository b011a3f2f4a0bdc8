# SPDX-License-Identifier: Apache-2.0
"""Who has to do something outside of bearers and gate when postures change: neighbour entries, and a site's hooks."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from meshd.daemon.bearer_hooks import BearerHooks
from meshd.daemon.restricted_neighbours import EntryPort, RestrictedNeighbours
from meshd.link.settings import BearerSettings, NeighbourSettings, Posture


class PostureFollowers:
    """Of one daemon; the arguments are those of `RestrictedNeighbours` and `BearerHooks`."""

    def __init__(
        self,
        bearers: Sequence[BearerSettings],
        entries: EntryPort,
        set_down: Callable[[str, bool], None],
        report: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._neighbours = RestrictedNeighbours(bearers, entries, report)
        self._hooks = BearerHooks(bearers, set_down, report)

    def postures_changed(self, postures: Mapping[str, Posture], neighbours: Collection[NeighbourSettings]) -> None:
        """The gate is as they want it."""
        self._neighbours.postures_changed(postures, neighbours)
        self._hooks.postures_changed(postures)

    async def run(self) -> None:
        """Until cancelled."""
        await self._hooks.run()
