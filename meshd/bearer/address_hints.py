# SPDX-License-Identifier: Apache-2.0
"""Where neighbours may be found, as multicast DNS says: never whom to trust.

A configured TCPCLv4 neighbour without an address is dialled there. A node that is not configured becomes a neighbour
only where TLS is required: whoever answers proves its node ID by its certificate, or there is no session.
"""

import dataclasses
from collections.abc import Sequence
from typing import Final

from meshd.bearer.mdns_records import Hint
from meshd.bundle.eid import Eid
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings, TlsPolicy

FOUND_MAX: Final = 64
"""Nodes of one bearer of which a hint is kept."""
HINT_MIN_S: Final = 10.0
"""An address that is known for less is not replaced by another one."""
HINT_LAST_S: Final = 4 * 3600.0
"""A hint that was not heard again for so long makes room."""


class AddressHints:
    """Of one bearer."""

    def __init__(self, settings: BearerSettings, own: Eid) -> None:
        self._settings = settings
        self._own = own
        self._hints: dict[Eid, tuple[str, float, float]] = {}
        """Address, since when, and when it was heard last."""

    def take(self, hint: Hint, now: float) -> bool:
        """True when it says something new that is believed."""
        address, since, _ = self._hints.get(hint.node, ("", now, now))
        if hint.address == address:
            self._hints[hint.node] = (address, since, now)
            return False
        if hint.node == self._own or (address and now < since + HINT_MIN_S):
            return False
        if not address and len(self._hints) >= FOUND_MAX and not self._make_room(now):
            return False
        self._hints[hint.node] = (hint.address, now, now)
        return True

    def _make_room(self, now: float) -> bool:
        oldest = min(self._hints, key=lambda node: self._hints[node][2])
        if now < self._hints[oldest][2] + HINT_LAST_S:
            return False
        del self._hints[oldest]
        return True

    def merge(self, configured: Sequence[NeighbourSettings]) -> list[NeighbourSettings]:
        """The configured neighbours with addresses where they have none, and those that were found."""
        here = {each.node for each in configured if each.bearer == self._settings.name}
        merged = [self._fill(each) for each in configured]
        if self._settings.tls is TlsPolicy.REQUIRE:
            found = [node for node in self._hints if node not in here]
            merged += [NeighbourSettings(node, self._settings.name, self._hints[node][0]) for node in found]
        return merged

    def _fill(self, neighbour: NeighbourSettings) -> NeighbourSettings:
        is_ours = neighbour.bearer == self._settings.name and neighbour.cl is ConvergenceLayer.TCPCLV4
        if not is_ours or neighbour.address is not None or neighbour.node not in self._hints:
            return neighbour
        return dataclasses.replace(neighbour, address=self._hints[neighbour.node][0])
