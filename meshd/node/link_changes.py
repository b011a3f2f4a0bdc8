# SPDX-License-Identifier: Apache-2.0
"""What the agent does when a link comes or goes, is measured or may transmit no more, or when a node falls silent: the
table first, then whoever goes by it.

A silent neighbour keeps its links, over which it receives; routing counts on nothing that it would have to send.
"""

from meshd.node.advertising import Advertising
from meshd.node.events import LinkDown, LinkMeasured, LinkUp, NeighbourSilent, NeighbourSpeaks, PosturesChanged
from meshd.node.forwarding import Forwarding
from meshd.node.state import NodeState
from meshd.routing.topology import SilenceSink


class LinkChanges:
    """Handles the events of links."""

    def __init__(self, state: NodeState, forwarding: Forwarding, advertising: Advertising) -> None:
        self._state = state
        self._forwarding = forwarding
        self._advertising = advertising

    def up(self, event: LinkUp, now: float) -> None:
        """A neighbour can be reached."""
        self._state.links.mark_up(event.link, now, event.transfer_mtu_bytes)
        self._state.report("link.up", link=str(event.link))
        self._forwarding.reconsider(now)
        self._advertising.look(now)

    def down(self, event: LinkDown, now: float) -> None:
        """It can't any more."""
        self._state.links.mark_down(event.link, event.reason, now)
        self._state.report("link.down", link=str(event.link), reason=event.reason)
        self._forwarding.link_down(event.link, now)
        self._advertising.look(now)

    def measured(self, event: LinkMeasured, now: float) -> None:
        """A bearer knows better how well it carries."""
        self._state.links.measure(event.link, event.sample, now)

    def postures_changed(self, event: PosturesChanged, now: float) -> None:
        """Something else may leave the bearers."""
        self._state.links.set_postures(event.postures, event.floors, event.let_through)
        router, own = self._forwarding.router, self._state.settings.id
        if isinstance(router, SilenceSink):
            if event.until_ms is None:
                router.end_silence(own)
            else:
                router.silence(own, event.until_ms / 1000)
        self._advertising.plans.set_own(event.plan, now)
        self._forwarding.reconsider(now)
        self._advertising.postures_changed(event.until_ms)
        self._advertising.look(now)

    def neighbour_silent(self, event: NeighbourSilent, now: float) -> None:
        """Contacts in which it would send are none until its silence ends, as far as they can be located."""
        router = self._forwarding.router
        if isinstance(router, SilenceSink):
            router.silence(event.node, self._state.dtn_ms(now) / 1000 + event.for_s if event.for_s else None)
            self._state.report("neighbour.silent", node=event.node.uri, for_s=event.for_s)
            self._forwarding.reconsider(now)

    def neighbour_speaks(self, event: NeighbourSpeaks, now: float) -> None:
        """It is counted on again."""
        router = self._forwarding.router
        if isinstance(router, SilenceSink):
            router.end_silence(event.node)
            self._forwarding.reconsider(now)
