# SPDX-License-Identifier: Apache-2.0
"""What the MTCP sessions of one bearer say, turned into events of the node and reports for people."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, assert_never

import trio

from meshd.bearer.link import Figure
from meshd.bearer.mtcp_connection import MtcpConnection
from meshd.bearer.mtcp_link import MtcpLink
from meshd.bearer.problems import Report
from meshd.bearer.sessions import make_failure
from meshd.cl.mtcp import events as cl
from meshd.link.settings import ConvergenceLayer
from meshd.node.events import (
    BundlesReceived,
    Event,
    LinkDown,
    LinkUp,
    LinkWritable,
    ReceivedRow,
    TransfersAcknowledged,
    TransfersFailed,
)


class MtcpTransfer(NamedTuple):
    """A bundle that arrived and was not answered by the node."""

    connection: MtcpConnection
    number: int


class MtcpSessions:
    """The voice of one bearer's MTCP sessions."""

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

    def dispatch_deferred(self) -> None:
        """Dispatch what was deferred; called by the bearer's own tasks only."""
        while self._deferred:
            self._dispatch(self._deferred.popleft())

    def take_connected(self, link: MtcpLink, connection: MtcpConnection) -> None:
        """Our connection to a neighbour stands."""
        link.connect(connection, trio.current_time())
        self.report_established(link, connection, "sender")
        self._dispatch(LinkUp(link.id))
        self._announce(link)

    def report_established(self, link: MtcpLink, connection: MtcpConnection, role: str) -> None:
        """For people."""
        self._report("session.established", _fields(link, connection.address) | {"role": role})

    def take_events(self, link: MtcpLink, connection: MtcpConnection, events: Sequence[cl.Event]) -> None:
        """What a session says."""
        for event in events:
            match event:
                case cl.BundlesArrived():
                    self._take_arrived(link, connection, event.rows)
                case cl.BundlesCarried():
                    self._take_carried(link, connection, event.numbers)
                case cl.SessionEnded():
                    self._take_ended(link, connection, event)
                case _:
                    assert_never(event)

    def _take_arrived(self, link: MtcpLink, connection: MtcpConnection, rows: Sequence[cl.BundleRow]) -> None:
        link.received_bundles += len(rows)
        link.received_bytes += sum([len(row.data) for row in rows])
        received = [ReceivedRow(MtcpTransfer(connection, row.number), row.data) for row in rows]
        self._dispatch(BundlesReceived(link.id, received))

    def _take_carried(self, link: MtcpLink, connection: MtcpConnection, numbers: Sequence[int]) -> None:
        ids = [connection.sent.pop(number) for number in numbers]
        link.sent_bundles += len(ids)
        self._dispatch(TransfersAcknowledged(link.id, ids))
        self._announce(link)
        self._changed()

    def _take_ended(self, link: MtcpLink, connection: MtcpConnection, event: cl.SessionEnded) -> None:
        reason = f"{event.reason.value}: {event.text}"
        fields = _fields(link, connection.address) | {"reason": reason, "is_peer_fault": event.is_peer_fault}
        self._report("session.ended", fields)
        if connection is not link.outgoing:
            return
        link.disconnect(reason, trio.current_time())
        self._dispatch(LinkWritable(link.id, 0))  # what fails now must not come back on this link
        if connection.sent:
            failed = list(connection.sent.values())
            connection.sent.clear()
            self._dispatch(TransfersFailed(link.id, failed, make_failure(reason, session_ended=True)))
        self.dispatch_deferred()
        self._dispatch(LinkDown(link.id, reason))
        self._changed()

    def take_progress(self, link: MtcpLink, connection: MtcpConnection) -> None:
        """The socket has taken something."""
        if connection is link.outgoing:
            self._announce(link)

    def _announce(self, link: MtcpLink) -> None:
        """Tell the node how much the link takes, when that has grown."""
        credit_bytes = link.grant()
        if credit_bytes:
            self._dispatch(LinkWritable(link.id, credit_bytes))


def _fields(link: MtcpLink, address: str) -> dict[str, Figure]:
    return {"link": str(link.id), "address": address, "cl": ConvergenceLayer.MTCP.value}
