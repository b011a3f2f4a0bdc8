# SPDX-License-Identifier: Apache-2.0
"""Live bundles, those with a supersession block: they are given up for newer ones, or when a link has no room for them.

Nothing is lost that matters: who needs all of a stream asks for what it lacks (DESIGN: streams).
"""

from collections.abc import Callable
from typing import Final

from meshd.bundle.admin_record import ReportReason
from meshd.node.bundle_table import BundleState, Entry
from meshd.node.events import TransfersFailed
from meshd.node.forwarding import Forwarding
from meshd.node.sent_messages import MessageState
from meshd.node.state import NodeState

SUPERSEDED: Final = "superseded by a newer one"
_REPLACEABLE: Final = frozenset((BundleState.WAITING, BundleState.QUEUED, BundleState.REPLICATING))

Delete = Callable[[Entry, MessageState, str, ReportReason, float], None]


class LiveBundles:
    """What becomes of them here."""

    def __init__(self, state: NodeState, forwarding: Forwarding, delete: Delete) -> None:
        """`delete` gives a bundle up before its purpose is fulfilled."""
        self._state = state
        self._forwarding = forwarding
        self._delete = delete

    def admits(self, entry: Entry, now: float) -> bool:
        """A bundle is durable: it drops those that it supersedes. False: one that is here supersedes it, it is gone."""
        record, table = entry.record, self._state.table
        if record.supersession is None:
            return True
        if table.superseding.is_superseded(record):
            self._give_up(entry, SUPERSEDED, now)
            return False
        table.superseding.add(record)
        for bundle in table.superseding.older(record):
            older = table.get(bundle)
            if older is not None and older.state in _REPLACEABLE and not self._is_delivered_here(older):
                self._give_up(older, SUPERSEDED, now)
        return True

    def failed(self, event: TransfersFailed, now: float) -> None:
        """A link gives up what it was handed; live bundles for which it is too late now are not tried again."""
        if not event.reason.is_late:
            self._forwarding.failed(event, now)
            return
        for bundle in event.ids:
            entry = self._state.table.get(bundle)
            if entry is not None:
                self._forwarding.note_late(event.link, entry)

    def drop_left_out(self, now: float) -> None:
        """Links have looked at these and can't carry them."""
        for link_id, entry, reason in self._forwarding.take_left_out():
            if entry.copies is None:
                self._give_up(entry, reason, now)
            else:
                self._forwarding.leave_out(entry, entry.copies, link_id)

    def _is_delivered_here(self, entry: Entry) -> bool:
        """To a group, and an application here has it still to take."""
        return entry.copies is not None and not entry.copies.is_delivered

    def _give_up(self, entry: Entry, reason: str, now: float) -> None:
        self._delete(entry, MessageState.EXPIRED, reason, ReportReason.TRAFFIC_PARED, now)
