# SPDX-License-Identifier: Apache-2.0
"""The nodes of one bearer: those that are configured, and those that are found by being heard (DESIGN section 6).

Whoever can be heard here is a member of the mission, for its datagrams are sealed; but a member can seal in another's
name, hence there is a limit on how many are found. When it is reached, one that is not heard any more makes room.
"""

from collections import deque
from typing import Final

from meshd.bundle.eid import Eid
from meshd.cl.fountain.events import Event, PeerDown, PeerGone
from meshd.cl.fountain.peer import NEVER, Life, Peer
from meshd.cl.fountain.sender import Sender

GONE_S: Final = 3600.0
"""A node that was found, and is not heard for so long, is a neighbour no more; a silent one stays."""


class Neighbours:
    """Of one machine."""

    def __init__(self, found_max: int, sender: Sender, events: deque[Event]) -> None:
        """`events` are the machine's."""
        self._found_max = found_max
        self._sender = sender
        self._events = events
        self._sources: dict[Eid, object] = {}
        """Where datagrams came from whose senders are no neighbours yet, while marks are saved for them."""
        self.by_index: dict[int, Peer] = {}
        self.by_node: dict[Eid, Peer] = {}

    def add(self, peer: Peer) -> None:
        """It belongs to them from now on."""
        self.by_index[peer.settings.index] = self.by_node[peer.settings.node] = peer

    def note_source(self, node: Eid, source: object) -> None:
        """A datagram of a node came from there."""
        if node not in self.by_node:
            self._sources[node] = source

    def take_source(self, node: Eid) -> object:
        """Where its last datagram came from; None: not known."""
        return self._sources.pop(node, None)

    def make_room(self, now: float) -> bool:
        """True when one more may be found."""
        found = [peer for peer in self.by_index.values() if peer.settings.is_found]
        if len(found) < self._found_max:
            return True
        absent = [peer for peer in found if not peer.is_heard(now) and self._may_forget(peer)]
        if absent:
            self._forget(min(absent, key=lambda peer: peer.heard_at))
        return bool(absent)

    def look_after(self, now: float) -> None:
        """Who owes an answer is asked, or called dead; those that were found and were not heard for long are gone."""
        for peer in self.by_index.values():
            if peer.probe_at <= now and not self._sender.has_open(peer.settings.index):
                peer.is_expecting = False
                peer.probe_at = NEVER
            if peer.is_dying(now):
                peer.life = Life.DOWN
                self._events.append(PeerDown(peer.settings.node))
                self._sender.node_died(peer.settings.index)
        self._forget_absent(now)

    def _forget_absent(self, now: float) -> None:
        for peer in [each for each in self.by_index.values() if each.heard_at + GONE_S <= now]:
            if self._may_forget(peer):
                self._forget(peer)

    def _may_forget(self, peer: Peer) -> bool:
        is_away = peer.life in (Life.DOWN, Life.ONE_WAY)
        return peer.settings.is_found and is_away and not self._sender.has_open(peer.settings.index)

    def _forget(self, peer: Peer) -> None:
        del self.by_index[peer.settings.index], self.by_node[peer.settings.node]
        self._events.append(PeerGone(peer.settings.node))
