# SPDX-License-Identifier: Apache-2.0
"""TCPCLv4 on one bearer: listens, dials the neighbours that have an address, and carries bundles (RFC 9174).

The shell around `meshd.cl.tcpclv4`: it owns sockets, tasks and the clock, and turns what sessions say into events of
the node. Events are dispatched from this bearer's own tasks only, never from inside of a method that the node calls.
Which neighbours there are is configuration; nobody else gets a session. What the node may send on a link is `link.py`,
one connection is `connection.py`, what its session says is `sessions.py`, how connections come about is `listener.py`
and `dialer.py`.
"""

import random
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, cast

import trio

from meshd.base.errors import LocalProtocolError
from meshd.bearer.congestion import check_congestion
from meshd.bearer.connection import Connection
from meshd.bearer.dialer import Dialer
from meshd.bearer.link import Figure, Link, Row
from meshd.bearer.listener import Listener
from meshd.bearer.problems import Problems, Report
from meshd.bearer.sessions import SESSIONS_PER_LINK_MAX, Sessions, make_failure
from meshd.bearer.sockets import BearerError, dial
from meshd.bearer.tls import TlsIdentity
from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.messages import RefuseReason, TermReason
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import SEGMENT_DEFAULT_BYTES, Role, SessionSettings
from meshd.link.identity import LinkId
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings
from meshd.node.events import Event, TransfersFailed

CONNECTIONS_MAX: Final = 64
"""Connections of one bearer, whatever their state."""
PENDING_MAX: Final = 16
"""Connections that have no session yet; further ones are closed at once."""
SHUTDOWN_TIMEOUT_S: Final = 2.0
ANOTHER_TIMEOUT_S: Final = 10.0
"""For opening a further session; what it was for takes its turn on the old one after that."""
SEGMENT_MIN_BYTES: Final = 16 * 1024
"""Segments take about a second at the bearer's rate, but are no smaller than this."""


class TcpBearer:
    """One bearer that speaks TCPCLv4."""

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
        """Neighbours of other bearers are passed over. `dispatch` runs the node, which may call any method here.

        `tls` is who this node is and whom it trusts; needed unless the settings never want TLS.
        """
        self._settings = settings
        self._node = node
        self._report = report
        self._rng = rng
        self._tls = tls
        self._problems = Problems(settings.name, report)
        self._sessions = Sessions(settings.name, node, dispatch, report, self._change)
        self._links = self._sessions.links
        self._dialers: dict[Eid, Dialer] = {}
        self._nursery: trio.Nursery | None = None
        self._connections: set[Connection] = set()
        self._changed = trio.Event()
        self._dialling_another: set[trio.CancelScope] = set()
        self._is_frozen = False
        self._is_stopping = False
        self._scope = trio.CancelScope()
        self._listener: Listener | None = None
        if settings.listen is not None:
            self._listener = Listener(settings, settings.listen, rng, self._problems, self._may_accept, self._serve)
        self.configure(neighbours)

    @property
    def bound_address(self) -> str | None:
        """Where it listens, with the port that the kernel chose; None: nowhere at the moment."""
        return self._listener.bound_address if self._listener else None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `shutdown` or cancellation. Started when the first attempt to listen is over."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump)
                problem = check_congestion(self._settings.congestion)
                if problem:
                    self._problems.report("congestion", f"bearer {self._settings.name}: {problem}")
                if self._listener:
                    await nursery.start(self._listener.run)
                    self._report("bearer.started", {"bearer": self._settings.name, "listen": self.bound_address})
                task_status.started()
                self._nursery = nursery
                for dialer in self._dialers.values():
                    nursery.start_soon(dialer.run)

    async def shutdown(self) -> None:
        """End every session with SESS_TERM and stop within 2 s; under silence without a word."""
        self._is_stopping = True
        self._change()
        for connection in self._connections:
            connection.session.terminate(TermReason.UNKNOWN, "the daemon stops", trio.current_time())
            connection.wake()
        with trio.move_on_after(0 if self._is_frozen else SHUTDOWN_TIMEOUT_S):
            while self._connections:
                await self._changed.wait()
        self._scope.cancel()

    def configure(self, neighbours: Sequence[NeighbourSettings]) -> None:
        """These are the neighbours from now on; sessions with others are ended, unchanged ones are not disturbed."""
        own = {each.node: each for each in neighbours if self._is_ours(each)}
        for node, link in self._links.items():
            if node not in own and link.is_wanted:
                self._dismiss(link)
        for node, neighbour in own.items():
            link = self._links.setdefault(node, Link(self._settings, neighbour, trio.current_time()))
            is_new = node not in self._dialers and neighbour.address is not None
            link.is_wanted = True
            if is_new or link.settings != neighbour:
                link.settings = neighbour
                self._restart_dialer(link)

    def set_identity(self, tls: TlsIdentity) -> None:
        """Who this node is and whom it trusts, for new sessions."""
        self._tls = tls

    def _is_ours(self, neighbour: NeighbourSettings) -> bool:
        return neighbour.bearer == self._settings.name and neighbour.cl is ConvergenceLayer.TCPCLV4

    def _dismiss(self, link: Link) -> None:
        link.is_wanted = False
        self._stop_dialer(link)
        for connection in link.sessions:
            connection.session.terminate(TermReason.UNKNOWN, "no neighbour of ours any more", trio.current_time())
            connection.wake()

    def _stop_dialer(self, link: Link) -> None:
        dialer = self._dialers.pop(link.id.neighbour, None)
        if dialer is not None:
            dialer.stop()

    def _restart_dialer(self, link: Link) -> None:
        self._stop_dialer(link)
        if link.settings.address is None:
            return
        carry = partial(self._carry, Role.ACTIVE, frozenset({link.id.neighbour}))
        wanted = partial(self._wait_until_wanted, link)
        dialer = Dialer(self._settings, link.settings.address, self._rng, self._problems, wanted, carry)
        self._dialers[link.id.neighbour] = dialer
        if self._nursery is not None:
            self._nursery.start_soon(dialer.run)

    # What the node wants. Nothing here dispatches.

    def accept_transfers(self, link: LinkId, transfers: Iterable[object]) -> None:
        """Acknowledge these: what they carried is durable. Those of sessions that have ended are passed over."""
        del link
        by_connection: dict[Connection, list[int]] = {}
        for connection, transfer_id in cast("Iterable[tuple[Connection, int]]", transfers):
            ids = by_connection.get(connection)
            if ids is None:
                ids = by_connection[connection] = []
            ids.append(transfer_id)
        for connection, ids in by_connection.items():
            connection.session.acknowledge(ids)
            connection.wake()

    def refuse_transfer(self, link: LinkId, transfer: object, retriable: bool, completed: bool, text: str) -> None:
        """Refuse one (section 5.2.4); the text stays here, the protocol has no room for it."""
        del link, text
        connection, transfer_id = cast("tuple[Connection, int]", transfer)
        reason = RefuseReason.NO_RESOURCES if retriable else RefuseReason.NOT_ACCEPTABLE
        connection.session.refuse(transfer_id, RefuseReason.COMPLETED if completed else reason)
        connection.wake()

    def send_bundles(self, link: LinkId, rows: Iterable[Row]) -> None:
        """Send these in order, each as chunks; what can't be sent comes back as TransfersFailed."""
        own = self._get_link(link)
        sender = own.choose_sender(trio.current_time())
        failed = own.hand_over(sender, rows)
        if failed:
            text = "too many transfers are in flight" if sender else "no session can send now"
            self._sessions.defer(TransfersFailed(link, failed, make_failure(text, session_ended=False)))

    def send_urgent(self, link: LinkId, rows: Iterable[Row]) -> None:
        """The same, but not long behind a transfer that is under way: interleaving is forbidden (section 5.2.1)."""
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
            failed = own.hand_over(prompt, rows)
            if failed:
                failure = make_failure("too many transfers are in flight", session_ended=False)
                self._sessions.defer(TransfersFailed(link, failed, failure))

    def freeze(self) -> None:
        """Silence: nothing is written, dialled or timed out from now on; reading goes on."""
        if self._is_frozen:
            return
        self._is_frozen = True
        for connection in self._connections:
            connection.freeze()
        for dialer in self._dialers.values():
            dialer.interrupt()
        for scope in self._dialling_another:
            scope.cancel()

    def thaw(self) -> None:
        """The silence is over."""
        if not self._is_frozen:
            return
        self._is_frozen = False
        for connection in self._connections:
            connection.thaw()
        self._change()

    def snapshot(self) -> list[dict[str, Figure]]:
        """One row of figures for each link."""
        now = trio.current_time()
        return [link.describe(now) for link in self._links.values() if link.is_wanted or link.sessions]

    def _get_link(self, link: LinkId) -> Link:
        own = self._sessions.get_link(link)
        if own is None:
            raise LocalProtocolError(f"bearer {self._settings.name} has no link {link}")
        return own

    # Connections.

    def _may_accept(self) -> bool:
        pending = len(self._connections) - len(self._sessions)
        return not self._is_stopping and pending < PENDING_MAX and len(self._connections) < CONNECTIONS_MAX

    async def _serve(self, sock: socket.socket, address: str) -> None:
        """Carry a connection that a neighbour, or a stranger, made."""
        welcome = frozenset(node for node, link in self._links.items() if link.is_wanted)
        await self._carry(Role.PASSIVE, welcome, sock, address)

    async def _carry(
        self, role: Role, peers: frozenset[Eid], sock: socket.socket, address: str, *, is_extra: bool = False
    ) -> bool:
        """Carry a connection until it is closed; True when its session was established."""
        settings = SessionSettings(
            self._node,
            peers,
            self._settings.keepalive_s,
            segment_bytes=min(max(self._settings.rate_bps // 8, SEGMENT_MIN_BYTES), SEGMENT_DEFAULT_BYTES),
            tls=self._settings.tls,
        )
        session = Session(settings, role, trio.current_time())
        connection = Connection(
            sock, session, role, address, self._sessions.take_events, self._sessions.announce, self._tls
        )
        if self._is_frozen:
            connection.freeze()
        self._connections.add(connection)
        connection.is_extra = is_extra
        try:
            async with trio.open_nursery() as nursery:
                if is_extra and self._settings.session_idle_s:
                    nursery.start_soon(self._end_when_idle, connection, next(iter(peers)))
                await connection.run()
                nursery.cancel_scope.cancel()
        finally:
            self._connections.discard(connection)
            self._sessions.forget(connection)
            self._change()
        return connection.was_established

    def _may_dial_another(self, link: Link) -> bool:
        is_possible = link.settings.address is not None and not self._is_frozen and not self._is_stopping
        is_up = any(connection.session.can_send for connection in link.sessions)
        return is_possible and is_up and len(link.sessions) < SESSIONS_PER_LINK_MAX

    async def _open_another(self, link: Link) -> None:
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
                await self._carry(Role.ACTIVE, frozenset({link.id.neighbour}), sock, str(address), is_extra=True)
                nursery.cancel_scope.cancel()
        if link.held:
            self.send_bundles(link.id, link.take_held())

    async def _release_held(self, link: Link) -> None:
        await trio.sleep(ANOTHER_TIMEOUT_S)
        if link.held:
            self.send_bundles(link.id, link.take_held())

    async def _end_when_idle(self, connection: Connection, node: Eid) -> None:
        """End a further session once it carried nothing for a while (section 6.1); the last one of a link stays."""
        transfers = -1
        while True:
            is_idle = transfers == connection.transfers and not connection.sent and not connection.pending_bytes
            if is_idle and len(self._links[node].sessions) > 1:
                text = f"another session is there, and this one carried nothing for {self._settings.session_idle_s} s"
                connection.session.terminate(TermReason.IDLE_TIMEOUT, text, trio.current_time())
                connection.wake()
                return
            transfers = connection.transfers
            await trio.sleep(self._settings.session_idle_s)

    async def _wait_until_wanted(self, link: Link) -> None:
        """Return when the link has no session and this bearer may dial."""
        while link.sessions or self._is_frozen or self._is_stopping:
            await self._changed.wait()

    def _change(self) -> None:
        """Something changed that tasks of this bearer wait for."""
        self._changed.set()
        self._changed = trio.Event()

    async def _pump(self) -> None:
        """Dispatch what came up inside of a method that the node called."""
        while True:
            self._sessions.dispatch_deferred()
            await self._changed.wait()
