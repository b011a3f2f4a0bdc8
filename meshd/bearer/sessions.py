# SPDX-License-Identifier: Apache-2.0
"""What the sessions of one bearer say, turned into events of the node and reports for people.

Owns which connections are established and to which link they belong. When both sides dialled at once, two sessions come
of it: the one that the node with the lower node ID dialled stays, and the other node ends its own as soon as it has
nothing under way. Each side knows both IDs, so both decide alike, and only one of them acts.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, assert_never

import trio

from meshd.bearer.connection import Connection
from meshd.bearer.link import Figure, Link
from meshd.bearer.problems import Report
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.messages import RefuseReason, TermReason
from meshd.cl.tcpclv4.settings import Role
from meshd.link.identity import LinkId
from meshd.node.events import (
    BundlesReceived,
    Event,
    LinkDown,
    LinkUp,
    LinkWritable,
    ReceivedRow,
    RefusalReason,
    TransfersAcknowledged,
    TransfersFailed,
)

SESSIONS_PER_LINK_MAX: Final = 4
"""Established sessions of one neighbour; a further one is told "Busy"."""

_FINAL_REFUSALS: Final = frozenset(
    (RefuseReason.NOT_ACCEPTABLE, RefuseReason.EXTENSION_FAILURE, RefuseReason.COMPLETED)
)
"""The same bundle would be refused again (section 5.2.4). All others may go again to the same neighbour."""


class Sessions:
    """The established sessions of one bearer, by link."""

    def __init__(
        self, bearer: str, node: Eid, dispatch: Callable[[Event], None], report: Report, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when something has changed that tasks of the bearer wait for."""
        self._bearer = bearer
        self._node = node
        self._dispatch = dispatch
        self._report = report
        self._changed = changed
        self._established: dict[Connection, Link] = {}
        self._deferred: deque[Event] = deque()
        self.links: dict[Eid, Link] = {}

    def __len__(self) -> int:
        return len(self._established)

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._established.pop(connection, None)

    def defer(self, event: Event) -> None:
        """Dispatch it from one of the bearer's own tasks."""
        self._deferred.append(event)
        self._changed()

    def dispatch_deferred(self) -> None:
        """Dispatch what was deferred; called by the bearer's own tasks only."""
        while self._deferred:
            self._dispatch(self._deferred.popleft())

    def take_events(self, connection: Connection, events: Sequence[cl.Event]) -> None:
        """What a session says."""
        refused: dict[RefuseReason, list[BundleId]] = {}
        for event in events:
            match event:
                case cl.TransfersReceived():
                    self._take_received(connection, event.rows)
                case cl.TransfersAcknowledged():
                    self._take_acknowledged(connection, event.transfer_ids)
                case cl.TransferRefused():
                    refused.setdefault(event.reason, []).append(connection.sent.pop(event.transfer_id))
                case cl.SessionEstablished():
                    self._take_established(connection, event)
                case cl.SessionEnded():
                    self._take_refused(connection, refused)
                    refused = {}
                    self._take_ended(connection, event)
                case _:
                    assert_never(event)
        self._take_refused(connection, refused)

    def announce(self, connection: Connection) -> None:
        """Tell the node how much its link takes, when that has grown."""
        link = self._established.get(connection)
        credit_bytes = link.grant(trio.current_time()) if link else 0
        if link and credit_bytes:
            self._dispatch(LinkWritable(link.id, credit_bytes))

    def _take_received(self, connection: Connection, rows: Sequence[cl.TransferRow]) -> None:
        link = self._established.get(connection)
        if link is None:  # told "Busy" in the same breath
            return
        connection.transfers += len(rows)
        link.received_bundles += len(rows)
        link.received_bytes += sum([len(row.data) for row in rows])
        self._dispatch(BundlesReceived(link.id, [ReceivedRow((connection, row.transfer_id), row.data) for row in rows]))

    def _take_acknowledged(self, connection: Connection, transfer_ids: Sequence[int]) -> None:
        link = self._established[connection]
        pop = connection.sent.pop
        ids = [pop(transfer_id) for transfer_id in transfer_ids]
        link.sent_bundles += len(ids)
        self._dispatch(TransfersAcknowledged(link.id, ids))
        self.announce(connection)

    def _take_refused(self, connection: Connection, refused: dict[RefuseReason, list[BundleId]]) -> None:
        for reason, ids in refused.items():
            link = self._established[connection].id
            if reason is RefuseReason.SESSION_TERMINATING:
                failure = make_failure("the neighbour is ending the session", session_ended=True)
                self._dispatch(TransfersFailed(link, ids, failure))
                continue
            retriable = reason not in _FINAL_REFUSALS
            text = f"refused by the neighbour: {reason.name.lower().replace('_', ' ')}"
            is_completed = reason is RefuseReason.COMPLETED
            outcome = RefusalReason(completed=is_completed, retriable=retriable, session_ended=False, text=text)
            self._dispatch(TransfersFailed(link, ids, outcome))

    def _take_established(self, connection: Connection, event: cl.SessionEstablished) -> None:
        assert event.peer is not None
        link = self.links[event.peer]
        connection.was_established = True
        now = trio.current_time()
        if len(link.sessions) >= SESSIONS_PER_LINK_MAX:
            text = f"there are {SESSIONS_PER_LINK_MAX} sessions with it already"
            connection.session.terminate(TermReason.BUSY, text, now)
            return
        self._established[connection] = link
        is_up = link.add(connection, now)
        fields: dict[str, Figure] = {"link": str(link.id), "address": connection.address, "role": connection.role.value}
        fields |= {"keepalive_s": event.keepalive_s, "tls": connection.security}
        self._report("session.established", fields)
        if is_up:
            self._dispatch(LinkUp(link.id))
        if link.held:
            held = link.take_held()
            failed = link.hand_over(connection, held)
            if failed:
                self.defer(
                    TransfersFailed(link.id, failed, make_failure("no session can send now", session_ended=False))
                )
        self._end_superfluous(link, now)
        self.announce(connection)

    def _end_superfluous(self, link: Link, now: float) -> None:
        """Both sides dialled: the higher node ID gives way (both may say it at once; nothing is lost by that)."""
        sessions = [each for each in link.sessions if each.session.can_send]
        has_theirs = any(each.role is Role.PASSIVE for each in sessions)
        if not has_theirs or self._node.uri < link.id.neighbour.uri:
            return
        for connection in sessions:
            if connection.role is Role.ACTIVE and not connection.is_extra:
                text = "both sides dialled: the session that the lower node ID dialled stays"
                connection.session.terminate(TermReason.BUSY, text, now)
                connection.wake()

    def _take_ended(self, connection: Connection, event: cl.SessionEnded) -> None:
        link = self._established.get(connection)
        reason = f"{event.reason.value}: {event.text}"
        fields: dict[str, Figure] = {"bearer": self._bearer, "address": connection.address, "reason": reason}
        if link is None:
            self._report("session.refused" if event.is_peer_fault else "session.failed", fields)
            return
        self._report("session.ended", fields | {"link": str(link.id), "is_peer_fault": event.is_peer_fault})
        is_down = link.remove(connection, reason, trio.current_time())
        if is_down:
            self._dispatch(LinkWritable(link.id, 0))  # what fails now must not come back on this link
        failed = list(connection.sent.values())
        connection.sent.clear()
        if is_down:
            failed += [bundle_id for bundle_id, _ in link.take_held()]
        if failed:
            self._dispatch(TransfersFailed(link.id, failed, make_failure(reason, session_ended=True)))
        self.dispatch_deferred()
        if is_down:
            self._dispatch(LinkDown(link.id, reason))
        else:
            self.announce(link.sessions[0])
        self._changed()

    def get_link(self, link: LinkId) -> Link | None:
        """The link of that name."""
        own = self.links.get(link.neighbour)
        return None if own is None or own.id != link else own


def make_failure(text: str, *, session_ended: bool) -> RefusalReason:
    """The reason of transfers that nobody refused: they can be sent again."""
    return RefusalReason(completed=False, retriable=True, session_ended=session_ended, text=text)
