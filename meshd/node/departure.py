# SPDX-License-Identifier: Apache-2.0
"""A message or an answer that this node has just made leaves while it is being written, not after.

Waiting for the disk first would protect nothing: nobody has been told yet that it is stored. A crash meanwhile leaves a
bundle under way that its source has forgotten, as if its application had died a moment later; its creation timestamp is
not given again, for that was reserved before (the store sees to it). What came from elsewhere waits, and so does its
acknowledgement. Only the store knows when there is time for this: when it answers before anything else happens.
"""

from meshd.node.bundle_table import BundleState
from meshd.node.events import StoringBegun
from meshd.node.forwarding import Forwarding
from meshd.node.state import NodeState


class Departure:
    """Forwards (RFC 9171 section 5.4) what need not wait until it is durable."""

    def __init__(self, state: NodeState, forwarding: Forwarding) -> None:
        self._state = state
        self._forwarding = forwarding

    def begin(self, event: StoringBegun, now: float) -> None:
        """It is about to be written."""
        state, entry = self._state, self._state.table.get(event.id)
        if entry is None or not entry.is_own or entry.record.part is not None:
            return
        destination = entry.record.destination
        if entry.state is BundleState.STORING and destination.node != state.settings.id and destination.is_singleton:
            self._forwarding.forward(entry, now, only_whole=True)
