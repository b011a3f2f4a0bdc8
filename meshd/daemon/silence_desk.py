# SPDX-License-Identifier: Apache-2.0
"""`peers.set_silent` and `peers.clear_silent`: neighbours of whom somebody knows that they are silent on order.

Such a neighbour is silent, not dead: it is sent to blind where its bearer can, routes to it stay and routes through it
end. It counts as silent until it is heard, the time is over, or somebody says otherwise, also over a restart.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.silent_neighbours import FILE_NAME, SilentNeighboursError, read_silent, write_silent
from meshd.node.events import Event, NeighbourSilent, NeighbourSpeaks

NOT_SAID: Final = 0


class SilentTo(Protocol):
    """A bearer, as `bearer.Bearer` is."""

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        """This neighbour, if it is one, is silent for so long (0: not said); None: it is not."""


class SilenceDesk:
    """Of one daemon. `is_neighbour` says whether a node is one, `wall_ms` gives Unix time."""

    def __init__(
        self,
        bearers: Mapping[str, SilentTo],
        dispatch: Callable[[Event], None],
        is_neighbour: Callable[[Eid], bool],
        wall_ms: Callable[[], int],
        directory: Path,
        report: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """`directory` is where it is kept."""
        self._path = directory / FILE_NAME
        self._report = report
        self._disk = trio.Lock()
        self._bearers = bearers
        self._dispatch = dispatch
        self._is_neighbour = is_neighbour
        self._wall_ms = wall_ms
        self._until_ms: dict[Eid, float] = {}
        """Only of neighbours, whose number is bounded."""

    async def restore(self) -> None:
        """Tell bearers and node what was said before the restart, and still holds."""
        try:
            kept = await trio.to_thread.run_sync(read_silent, self._path)
        except SilentNeighboursError as error:
            self._report("neighbour.alarm", {"text": f"silent neighbours are forgotten: {error}"})
            return
        for node, until_ms in kept.items():
            if self._is_neighbour(node) and self._wall_ms() < until_ms:
                self._until_ms[node] = until_ms
                self._begin(node, NOT_SAID if math.isinf(until_ms) else self._left_s(until_ms))

    def is_silent(self, node: Eid) -> bool:
        """Whether somebody has said so, and it still holds."""
        return self._wall_ms() < self._until_ms.get(node, -math.inf)

    async def set_silent(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`peers.set_silent`."""
        node, until_ms = self._neighbour(params["node"]), params["until_ms"]
        for_s = NOT_SAID if until_ms is None else self._left_s(until_ms)
        if for_s < 0 or (until_ms is not None and for_s == NOT_SAID):
            raise ControlError("bad_params", "that time is over: times are Zulu")
        self._until_ms[node] = math.inf if until_ms is None else until_ms
        self._begin(node, for_s)
        await self._keep()
        return {"node": node.uri, "until_ms": until_ms}

    def _left_s(self, until_ms: float) -> int:
        return math.ceil((until_ms - self._wall_ms()) / 1000)

    def _begin(self, node: Eid, for_s: int) -> None:
        for bearer in self._bearers.values():
            bearer.set_silent(node, for_s)
        self._dispatch(NeighbourSilent(node, for_s))

    async def _keep(self) -> None:
        """Errors: ControlError: it holds, but not over a restart."""
        try:
            async with self._disk:
                await trio.to_thread.run_sync(write_silent, self._path, dict(self._until_ms))
        except OSError as error:
            text = f"it holds, but a restart would forget it: {self._path}: {error.strerror or error}"
            raise ControlError("failed", text) from error

    async def clear_silent(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`peers.clear_silent`."""
        node = self._neighbour(params["node"])
        self._until_ms.pop(node, None)
        for bearer in self._bearers.values():
            bearer.set_silent(node, None)
        self._dispatch(NeighbourSpeaks(node))
        await self._keep()
        return {"node": node.uri}

    def _neighbour(self, text: str) -> Eid:
        try:
            node = check_node_id(parse_eid(text))
        except EidError as error:
            raise ControlError("bad_params", str(error)) from error
        if not self._is_neighbour(node):
            raise ControlError("not_found", f"{node.uri} is no neighbour: `meshctl peers` lists them")
        return node
