# SPDX-License-Identifier: Apache-2.0
"""The kernel's neighbour entries of one bearer: who is silent can't answer the question for its hardware address."""

from typing import Protocol

from meshd.base.errors import MeshdError
from meshd.bearer.problems import Problems
from meshd.bundle.eid import Eid


class NeighbourPort(Protocol):
    """The kernel's neighbour entries."""

    def pin(self, device: str, host: str, mac: str | None) -> bool:
        """Make the entry permanent; without a MAC, the one that is known. False: none is known. Errors: MeshdError."""

    def release(self, device: str, host: str) -> None:
        """The kernel may find it out anew. Errors: MeshdError."""


class PinnedEntries:
    """Those that a bearer has made permanent."""

    def __init__(self, device: str, entries: NeighbourPort, problems: Problems) -> None:
        self._device = device
        self._entries = entries
        self._problems = problems
        self._hosts: dict[Eid, str] = {}

    def look_after(self, node: Eid, host: str, mac: str | None, *, is_up: bool) -> None:
        """Pin the entry of a node that is up, or has a configured MAC; let go of one that is not."""
        if node in self._hosts:
            if mac is None and not is_up:
                self.release(node)  # it may have other hardware when it comes back
        elif mac is not None or is_up:
            try:
                if self._entries.pin(self._device, host, mac):
                    self._hosts[node] = host
                self._problems.clear("entry")
            except MeshdError as error:
                self._problems.report("entry", f"{node.uri} can't be reached while it is silent: {error}")

    def release(self, node: Eid) -> None:
        """Let go of its entry, if there is one."""
        host = self._hosts.pop(node, None)
        if host is None:
            return
        try:
            self._entries.release(self._device, host)
        except MeshdError as error:
            self._problems.report("entry", str(error))

    def release_all(self) -> None:
        """Let go of every one."""
        for node in list(self._hosts):
            self.release(node)

    def forget(self) -> None:
        """The device was made anew: what was pinned on the old one is gone with it."""
        self._hosts.clear()
