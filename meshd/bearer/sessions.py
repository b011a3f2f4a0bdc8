# SPDX-License-Identifier: Apache-2.0
"""What the sessions of one bearer say, turned into events of the node and reports for people.

Owns which connections are established and to which link they belong. When both sides dialled at once, two sessions come
of it: the one that the node with the lower node ID dialled stays, and the other node ends its own as soon as it has
nothing under way. Each side knows both IDs, so both decide alike, and only one of them acts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, assert_never

import trio

from meshd.bearer.link import Figure
from meshd.bearer.problems import Report
from meshd.bearer.tcp_connection import TcpConnection
from meshd.bearer.tcp_link import TcpLink
from meshd.bearer.voice import Voice, make_failure
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.messages import RefuseReason, TermReason
from meshd.cl.tcpclv4.settings import Role
from meshd.node.events import (
    DataUnreadable,
    Event,
    LinkDown,
    LinkWritable,
    ReceivedRow,
    RefusalReason,
    TransferBegun,
    TransferEnded,
    TransferPiece,
    TransfersFailed,
)

SESSIONS_PER_LINK_MAX: Final = 4
"""Established sessions of one neighbour; a further one is told "Busy"."""

_FINAL_REFUSALS: Final = frozenset(
    (RefuseReason.NOT_ACCEPTABLE, RefuseReason.EXTENSION_FAILURE, RefuseReason.COMPLETED, None)
)
"""The same bundle would be refused again (section 5.2.4), or be too large again (None). All others may go again to the
same neighbour."""


class Sessions(Voice):
    """The established sessions of one bearer, by link."""

    def __init__(
        self,
        bearer: str,
        node: Eid,
        links: Mapping[Eid, TcpLink],
        dispatch: Callable[[Event], None],
        report: Report,
        changed: Callable[[], None],
    ) -> None:
        """See Voice; the links are the bearer's."""
        super().__init__(dispatch, report, changed)
        self._bearer = bearer
        self._node = node
        self._links = links
        self._established: dict[TcpConnection, TcpLink] = {}

    def __len__(self) -> int:
        return len(self._established)

    def forget(self, connection: TcpConnection) -> None:
        """The connection is closed."""
        self._established.pop(connection, None)

    def link_of(self, connection: TcpConnection) -> TcpLink | None:
        """Where an established session belongs."""
        return self._established.get(connection)

    def tell_fallen(self, link: TcpLink, reason: str) -> None:
        """A dormant link is down: no session is to be had, or none is wanted any more."""
        held = link.fall(reason, trio.current_time())
        self.defer(LinkWritable(link.id, 0))
        if held:
            failure = make_failure(reason, session_ended=True)
            self.defer(TransfersFailed(link.id, [bundle_id for bundle_id, _ in held], failure))
        self.defer(LinkDown(link.id, reason))

    def note_progress(self, connection: TcpConnection) -> None:
        """Its socket has taken something."""
        link = self._established.get(connection)
        if link is not None:
            self.announce(link)

    def take_events(self, connection: TcpConnection, events: Sequence[cl.Event]) -> None:
        """What a session says. Somebody waits for bundles that come, nobody for what acknowledgements set free."""
        refused: dict[RefuseReason | None, list[BundleId]] = {}
        acknowledged: list[int] = []
        for event in events:
            match event:
                case cl.TransfersReceived():
                    self._take_received(connection, event.rows)
                case cl.TransferBegun() | cl.TransferPiece() | cl.TransferEnded():
                    self._take_piece(connection, event)
                case cl.TransferUnreadable():
                    self._dispatch(DataUnreadable([connection.sent[event.transfer_id]], event.text))
                case cl.TransfersAcknowledged():
                    acknowledged += event.transfer_ids
                case cl.TransferRefused():
                    refused.setdefault(event.reason, []).append(connection.sent.pop(event.transfer_id))
                case cl.SessionEstablished():
                    self._take_established(connection, event)
                case cl.SessionEnded():
                    self._take_acknowledged(connection, acknowledged)
                    self._take_refused(connection, refused)
                    refused, acknowledged = {}, []
                    self._take_ended(connection, event)
                case _:
                    assert_never(event)
        self._take_acknowledged(connection, acknowledged)
        self._take_refused(connection, refused)

    def _take_acknowledged(self, connection: TcpConnection, numbers: Sequence[int]) -> None:
        if numbers:
            self._tell_sent(self._established[connection], connection, numbers)

    def _take_received(self, connection: TcpConnection, rows: Sequence[cl.TransferRow]) -> None:
        link = self._established.get(connection)
        if link is None:  # told "Busy" in the same breath
            return
        connection.transfers += len(rows)
        self._tell_received(link, [ReceivedRow((connection, row.transfer_id), row.data) for row in rows])

    def _take_piece(self, connection: TcpConnection, event: cl.PieceEvent) -> None:
        link, number = self._established.get(connection), event.transfer_id
        if link is None:
            return
        transfer = (connection, number)
        match event:
            case cl.TransferBegun():
                connection.transfers += 1
                connection.arriving.add(number)
                self._dispatch(TransferBegun(link.id, transfer, event.size_bytes))
            case cl.TransferPiece():
                link.note_received(0, len(event.data))
                self._dispatch(TransferPiece(link.id, transfer, event.data))
            case cl.TransferEnded():
                connection.arriving.discard(number)
                link.note_received(int(event.is_whole), 0)
                self._dispatch(TransferEnded(link.id, transfer, event.is_whole))
            case _:
                assert_never(event)

    def _take_refused(self, connection: TcpConnection, refused: dict[RefuseReason | None, list[BundleId]]) -> None:
        for reason, ids in refused.items():
            link = self._established[connection].id
            if reason is RefuseReason.SESSION_TERMINATING:
                failure = make_failure("the neighbour is ending the session", session_ended=True)
                self._dispatch(TransfersFailed(link, ids, failure))
                continue
            retriable = reason not in _FINAL_REFUSALS
            if reason is None:
                text = f"not sent, since the neighbour takes no more than {connection.transfer_mtu_bytes} bytes"
            else:
                text = f"refused by the neighbour: {reason.name.lower().replace('_', ' ')}"
            is_completed = reason is RefuseReason.COMPLETED
            outcome = RefusalReason(completed=is_completed, retriable=retriable, session_ended=False, text=text)
            self._dispatch(TransfersFailed(link, ids, outcome))

    def _take_established(self, connection: TcpConnection, event: cl.SessionEstablished) -> None:
        assert event.peer is not None
        link = self._links[event.peer]
        connection.was_established = True
        connection.transfer_mtu_bytes = event.transfer_mtu_bytes
        now = trio.current_time()
        if len(link.sessions) >= SESSIONS_PER_LINK_MAX:
            connection.terminate(f"there are {SESSIONS_PER_LINK_MAX} sessions with it already", TermReason.BUSY)
            return
        self._established[connection] = link
        is_up = link.add(connection, now)
        fields: dict[str, Figure] = {"link": str(link.id), "address": connection.address, "role": connection.role.value}
        fields |= {"keepalive_s": event.keepalive_s, "tls": connection.security}
        self._report("session.established", fields)
        if is_up:
            self.dispatch_deferred()  # that it was down before
            self._tell_up(link, event.transfer_mtu_bytes)
        if link.held:
            self.defer_failed(link, link.hand_over(connection, link.take_held()), "no session can send now")
        self._end_superfluous(link)
        self.announce(link)

    def _end_superfluous(self, link: TcpLink) -> None:
        """Both sides dialled: the higher node ID gives way (both may say it at once; nothing is lost by that)."""
        sessions = [each for each in link.sessions if each.session.can_send]
        has_theirs = any(each.role is Role.PASSIVE for each in sessions)
        if not has_theirs or self._node.uri < link.id.neighbour.uri:
            return
        for connection in sessions:
            if connection.role is Role.ACTIVE and not connection.is_extra:
                text = "both sides dialled: the session that the lower node ID dialled stays"
                connection.terminate(text, TermReason.BUSY)

    def _take_ended(self, connection: TcpConnection, event: cl.SessionEnded) -> None:
        link = self._established.get(connection)
        reason = f"{event.reason.value}: {event.text}"
        fields: dict[str, Figure] = {"bearer": self._bearer, "address": connection.address, "reason": reason}
        if link is None:
            self._report("session.refused" if event.is_peer_fault else "session.failed", fields)
            return
        self._report("session.ended", fields | {"link": str(link.id), "is_peer_fault": event.is_peer_fault})
        # Under silence the peer may just have missed us.
        was_idle = event.reason is cl.EndReason.IDLE and not connection.is_frozen
        for number in sorted(connection.arriving):
            self._dispatch(TransferEnded(link.id, (connection, number), is_whole=False))
        connection.arriving.clear()
        is_down = link.remove(connection, reason, trio.current_time(), was_idle=was_idle)
        self._tell_ended(link, connection, link.take_held() if is_down else (), reason)
