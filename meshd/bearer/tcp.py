# SPDX-License-Identifier: Apache-2.0
"""TCPCLv4 on one bearer: takes sessions from its neighbours and with them, and carries bundles (RFC 9174).

The shell around `meshd.cl.tcpclv4`; the life that it shares with other layers is `layer.py`. Which neighbours there are
is configuration; nobody else gets a session. What the node may send on a link is `tcp_link.py`, one connection is
`tcp_connection.py`, what its session says is `sessions.py`.
"""

import random
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Final

import trio

from meshd.bearer.address_hints import AddressHints
from meshd.bearer.congestion import check_congestion
from meshd.bearer.connection import Row
from meshd.bearer.idle_watch import IdleWatch
from meshd.bearer.layer import Layer
from meshd.bearer.line_watch import LineWatch
from meshd.bearer.mdns import Mdns
from meshd.bearer.problems import Report
from meshd.bearer.sessions import SESSIONS_PER_LINK_MAX, Sessions
from meshd.bearer.sockets import BearerError, dial
from meshd.bearer.tcp_connection import TcpConnection
from meshd.bearer.tcp_link import TcpLink
from meshd.bearer.tls import TlsIdentity
from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import SEGMENT_DEFAULT_BYTES, Role, SessionSettings
from meshd.link.identity import LinkId
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings
from meshd.node.events import Event

PENDING_MAX: Final = 16
"""Connections that have no session yet; further ones are closed at once."""
ANOTHER_TIMEOUT_S: Final = 10.0
"""For opening a further session; what it was for takes its turn on the old one after that."""
SEGMENT_MIN_BYTES: Final = 16 * 1024
"""Segments take about a second at the bearer's rate, but are no smaller than this."""


class TcpBearer(Layer[TcpLink, TcpConnection]):
    """The TCPCLv4 part of one bearer."""

    CL: ClassVar[ConvergenceLayer] = ConvergenceLayer.TCPCLV4
    LISTEN_KEY: ClassVar[str] = "listen"

    def __init__(
        self,
        settings: BearerSettings,
        neighbours: Sequence[NeighbourSettings],
        node: Eid,
        dispatch: Callable[[Event], None],
        report: Report,
        rng: random.Random,
        tls: TlsIdentity | None = None,
    ) -> None:
        """`dispatch` runs the node, which may call any method here.

        `tls` is who this node is and whom it trusts; needed unless the settings never want TLS.
        """
        super().__init__(settings, settings.listen, report, rng)
        self._node = node
        self._tls = tls
        self._sessions = Sessions(settings.name, node, self._links, dispatch, report, self._change)
        self._idle_watch = IdleWatch(settings, self._sessions.link_of)
        self._line_watch = LineWatch(settings, self._sessions.link_of, self._sessions.tell_measured)
        self._dialling_another: set[trio.CancelScope] = set()
        self.configure(neighbours)

    @property
    def _voice(self) -> Sessions:
        return self._sessions

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See Layer."""
        problem = check_congestion(self._settings.congestion)
        if problem:
            self._problems.report("congestion", f"bearer {self._settings.name}: {problem}")
        await super().run(task_status)

    def make_mdns(self) -> Mdns | None:
        """What says where this layer listens; None: it is not to be said."""
        return Mdns(self._settings, self._node, self._report, self._rng) if self._settings.mdns else None

    def make_hints(self) -> AddressHints:
        """Where neighbours may be found, of which nothing is known yet."""
        return AddressHints(self._settings, self._node)

    def set_identity(self, tls: TlsIdentity) -> None:
        """Who this node is and whom it trusts, for new sessions."""
        self._tls = tls

    def _make_link(self, neighbour: NeighbourSettings) -> TcpLink:
        return TcpLink(self._settings, neighbour, trio.current_time())

    def _readdress(self, link: TcpLink) -> None:
        """A session proves who the peer is, wherever it is: those that stand go on."""
        if link.is_dormant and link.settings.address is None:
            self._sessions.tell_fallen(link, "it has no address to dial any more")

    def _forsake(self, link: TcpLink, text: str) -> None:
        """See Layer."""
        super()._forsake(link, text)
        if link.is_dormant:
            self._sessions.tell_fallen(link, text)

    def _missed(self, link: TcpLink, text: str) -> None:
        """See Layer. Silence, which stops all dialling, is no reason to think that the neighbour is gone."""
        if link.is_dormant and not self._is_frozen:
            self._sessions.tell_fallen(link, text)

    def _must_listen(self) -> bool:
        return True

    def _is_carrying(self) -> bool:
        return False  # a session finishes its transfers while it ends

    def send_bundles(self, link: LinkId, rows: Sequence[Row]) -> None:
        """See Layer; a dormant neighbour is dialled for them."""
        own = self._get_link(link)
        if not own.is_resting:
            super().send_bundles(link, rows)
            return
        own.hold(rows)
        self._change()

    def send_urgent(self, link: LinkId, rows: Sequence[Row]) -> None:
        """Send these not long behind a transfer that is under way: interleaving is forbidden (section 5.2.1)."""
        own = self._get_link(link)
        prompt = own.choose_prompt_sender()
        if prompt is None and (own.held or self._may_dial_another(own)):
            is_opening = bool(own.held)
            own.held.extend(rows)
            if not is_opening and self._nursery is not None:
                self._nursery.start_soon(self._open_another, own)
        elif prompt is None:
            self.send_bundles(link, rows)
        else:
            self._sessions.defer_failed(own, own.hand_over(prompt, rows), "too many transfers are in flight")

    def freeze(self) -> None:
        """See Layer."""
        super().freeze()
        for scope in self._dialling_another:
            scope.cancel()

    def _may_accept(self) -> bool:
        return super()._may_accept() and len(self._connections) - len(self._sessions) < PENDING_MAX

    async def _serve(self, sock: socket.socket, address: str) -> None:
        welcome = frozenset(node for node, link in self._links.items() if link.is_wanted)
        await self._carry(self._make_connection(Role.PASSIVE, welcome, sock, address))

    async def _dialled(self, link: TcpLink, sock: socket.socket, address: str) -> bool:
        """See Layer. Of use: its session was established."""
        connection = self._make_connection(Role.ACTIVE, frozenset({link.id.neighbour}), sock, address)
        await self._carry(connection)
        if not connection.was_established:
            self._missed(link, f"no session with {address} came about")
        return connection.was_established

    def _make_connection(
        self, role: Role, peers: frozenset[Eid], sock: socket.socket, address: str, *, is_extra: bool = False
    ) -> TcpConnection:
        settings = SessionSettings(
            self._node,
            peers,
            self._settings.keepalive_s,
            segment_bytes=min(max(self._settings.rate_bps // 8, SEGMENT_MIN_BYTES), SEGMENT_DEFAULT_BYTES),
            tls=self._settings.tls,
        )
        session = Session(settings, role, trio.current_time())
        return TcpConnection(sock, session, role, address, self._tls, is_extra=is_extra)

    async def _carry(self, connection: TcpConnection) -> None:
        """Carry a connection until it is closed."""
        self._enter(connection)
        take, note = partial(self._sessions.take_events, connection), partial(self._sessions.note_progress, connection)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._idle_watch.run, connection)
                nursery.start_soon(self._line_watch.run, connection)
                await connection.run(take, note)
                nursery.cancel_scope.cancel()
        finally:
            self._sessions.forget(connection)
            self._leave(connection)

    def _may_dial_another(self, link: TcpLink) -> bool:
        is_possible = link.settings.address is not None and not self._is_frozen and not self._is_stopping
        is_up = any(connection.session.can_send for connection in link.sessions)
        return is_possible and is_up and len(link.sessions) < SESSIONS_PER_LINK_MAX

    async def _open_another(self, link: TcpLink) -> None:
        """Open another session for what is held; if it takes too long, that goes by those that there are."""
        address = link.settings.address
        sock = None
        with trio.move_on_after(ANOTHER_TIMEOUT_S) as scope:
            self._dialling_another.add(scope)
            try:
                sock = await dial(self._settings, str(address))
            except BearerError as error:
                self._problems.report(str(address), str(error))
        self._dialling_another.discard(scope)
        if sock is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._release_held, link)
                peers = frozenset({link.id.neighbour})
                connection = self._make_connection(Role.ACTIVE, peers, sock, str(address), is_extra=True)
                await self._carry(connection)
                nursery.cancel_scope.cancel()
        if link.held:
            self.send_bundles(link.id, link.take_held())

    async def _release_held(self, link: TcpLink) -> None:
        await trio.sleep(ANOTHER_TIMEOUT_S)
        if link.held:
            self.send_bundles(link.id, link.take_held())
