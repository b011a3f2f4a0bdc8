# SPDX-License-Identifier: Apache-2.0
"""What the agent does when a link comes or goes, is measured, or may transmit no more: the table first, then whoever
goes by it.
"""

from meshd.node.advertising import Advertising
from meshd.node.events import LinkDown, LinkMeasured, LinkUp, PosturesChanged
from meshd.node.forwarding import Forwarding
from meshd.node.state import NodeState


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
        self._state.links.set_postures(event.postures)
        self._forwarding.reconsider(now)
        self._advertising.postures_changed(event.until_ms)
        self._advertising.look(now)
