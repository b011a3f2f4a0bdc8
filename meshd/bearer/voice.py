# SPDX-License-Identifier: Apache-2.0
"""How a convergence layer on a bearer speaks to the node: at once from its own tasks, later from inside of a call."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import trio

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bearer.connection import Connection, Row
from meshd.bearer.link import Link
from meshd.bearer.problems import Report
from meshd.bundle.record import BundleId
from meshd.link.metric import LinkSample
from meshd.node.events import (
    BundlesReceived,
    Event,
    LinkDown,
    LinkMeasured,
    LinkUp,
    LinkWritable,
    ReceivedRow,
    RefusalReason,
    TransfersAcknowledged,
    TransfersFailed,
)


class Voice:
    """What connections of any layer say, turned into events of the node; the layers add what is their own."""

    def __init__(self, dispatch: Callable[[Event], None], report: Report, changed: Callable[[], None]) -> None:
        """`changed` is called when something has changed that tasks of the bearer wait for."""
        self._dispatch = dispatch
        self._report = report
        self._changed = changed
        self._deferred: deque[Event] = deque()

    def defer(self, event: Event) -> None:
        """Dispatch it from one of the bearer's own tasks."""
        self._deferred.append(event)
        self._changed()

    def defer_failed(self, link: Link[Any], ids: Sequence[BundleId], text: str) -> None:
        """These could not be handed to a session; nobody refused them."""
        if ids:
            self.defer(TransfersFailed(link.id, ids, make_failure(text, session_ended=False)))

    def dispatch_deferred(self) -> None:
        """Dispatch what was deferred; called by the bearer's own tasks only."""
        while self._deferred:
            self._dispatch(self._deferred.popleft())

    def announce(self, link: Link[Any]) -> None:
        """Tell the node how much the link takes, when that has grown."""
        credit_bytes = link.grant(trio.current_time())
        if credit_bytes:
            self._dispatch(LinkWritable(link.id, credit_bytes))

    def tell_measured(self, link: Link[Any], sample: LinkSample) -> None:
        """How well it carries."""
        self._dispatch(LinkMeasured(link.id, sample))

    def _tell_received(self, link: Link[Any], rows: Sequence[ReceivedRow]) -> None:
        link.note_received(len(rows), sum([len(row.data) for row in rows]))
        self._dispatch(BundlesReceived(link.id, rows))

    def _tell_sent(self, link: Link[Any], connection: Connection[Any], numbers: Sequence[int]) -> None:
        """The peer has these."""
        ids = list(map(connection.sent.pop, numbers))
        link.sent_bundles += len(ids)
        self._dispatch(TransfersAcknowledged(link.id, ids))
        self.announce(link)

    def _tell_up(self, link: Link[Any], transfer_mtu_bytes: int = INLINE_SIZE_MAX_BYTES) -> None:
        self._dispatch(LinkUp(link.id, transfer_mtu_bytes))

    def _tell_ended(self, link: Link[Any], connection: Connection[Any], held: Sequence[Row], reason: str) -> None:
        """A connection of the link has ended with all that was under way on it; the link may be down by that."""
        if not link.is_up:
            self._dispatch(LinkWritable(link.id, 0))  # what fails now must not come back on this link
        failed = [*connection.sent.values(), *(bundle_id for bundle_id, _ in held)]
        connection.sent.clear()
        if failed:
            self._dispatch(TransfersFailed(link.id, failed, make_failure(reason, session_ended=True)))
        self.dispatch_deferred()
        if not link.is_up:
            self._dispatch(LinkDown(link.id, reason))
        else:
            self.announce(link)
        self._changed()


def make_failure(text: str, *, session_ended: bool) -> RefusalReason:
    """The reason of transfers that nobody refused: they can be sent again."""
    return RefusalReason(completed=False, retriable=True, session_ended=session_ended, text=text)
