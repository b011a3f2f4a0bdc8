# SPDX-License-Identifier: Apache-2.0
"""MTCP on one bearer: dials the neighbours that speak it, and takes bundles from them (draft-ietf-dtn-mtcpcl-01).

The shell around `meshd.cl.mtcp`. Idle, without a socket, as long as no neighbour of the bearer is configured to speak
MTCP. The protocol tells nothing of who sends: what arrives is put down to the one such neighbour that has the sender's
IP address, and nobody else gets in. A bundle that we can't take is lost to its sender, since MTCP has no way to refuse
it. Events are dispatched from tasks of this adapter only, never from inside of a method that the node calls.
"""

import ipaddress
import random
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import trio

from meshd.base.errors import LocalProtocolError
from meshd.bearer.dialer import Dialer
from meshd.bearer.link import Figure
from meshd.bearer.listener import Listener
from meshd.bearer.mtcp_connection import MtcpConnection, Session
from meshd.bearer.mtcp_link import MtcpLink
from meshd.bearer.mtcp_sessions import MtcpSessions, MtcpTransfer
from meshd.bearer.problems import Problems, Report
from meshd.bearer.sessions import make_failure
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.mtcp.receiver import ReceivingSession
from meshd.cl.mtcp.sender import IN_FLIGHT_MAX, SendingSession
from meshd.link.identity import LinkId
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings
from meshd.node.events import Event, TransfersFailed

CONNECTIONS_MAX: Final = 64
"""Connections from neighbours, of one bearer."""
INCOMING_PER_LINK_MAX: Final = 4
"""Of one neighbour: a further one takes the place of the oldest, which may be the remains of a peer that crashed."""
SHUTDOWN_TIMEOUT_S: Final = 2.0
STEADY_S: Final = 10.0
"""A connection that held so long, or carried something, is tried again soon when it ends."""


class MtcpAdapter:
    """The MTCP part of one bearer."""

    def __init__(
        self,
        settings: BearerSettings,
        neighbours: Sequence[NeighbourSettings],
        dispatch: Callable[[Event], None],
        report: Report,
        rng: random.Random,
    ) -> None:
        """Neighbours of other bearers, or with another CL, are passed over."""
        self._settings = settings
        self._report = report
        self._rng = rng
        self._problems = Problems(settings.name, report)
        self._changed = trio.Event()
        self._links: dict[Eid, MtcpLink] = {}
        self._dialers: dict[Eid, Dialer] = {}
        self._nursery: trio.Nursery | None = None
        self._sessions = MtcpSessions(dispatch, report, self._change)
        self._is_frozen = False
        self._is_stopping = False
        self._scope = trio.CancelScope()
        self._listening: trio.CancelScope | None = None
        self._listener: Listener | None = None
        if settings.mtcp_listen is not None:
            listen = settings.mtcp_listen
            self._listener = Listener(settings, listen, rng, self._problems, self._may_accept, self._serve)
        self.configure(neighbours)

    @property
    def bound_address(self) -> str | None:
        """Where it listens, with the port that the kernel chose; None: nowhere at the moment."""
        return self._listener.bound_address if self._listener else None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `shutdown` or cancellation. Started when the first attempt to listen, if any, is over."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump)
                await nursery.start(self._listen)
                task_status.started()
                self._nursery = nursery
                for dialer in self._dialers.values():
                    nursery.start_soon(dialer.run)

    async def shutdown(self) -> None:
        """Let go what is under way for a moment, close every connection and stop."""
        self._is_stopping = True
        self._change()
        with trio.move_on_after(0 if self._is_frozen else SHUTDOWN_TIMEOUT_S):
            while any(link.outgoing and link.outgoing.sent for link in self._links.values()):
                await self._changed.wait()
        for link in self._links.values():
            _terminate(link.connections, "the daemon stops")
        with trio.move_on_after(SHUTDOWN_TIMEOUT_S):
            while any(link.connections for link in self._links.values()):
                await self._changed.wait()
        self._scope.cancel()

    def configure(self, neighbours: Sequence[NeighbourSettings]) -> None:
        """These are the neighbours from now on; connections with others are closed, unchanged ones not disturbed."""
        own = {each.node: each for each in neighbours if self._is_ours(each)}
        for node, link in self._links.items():
            if node not in own and link.is_wanted:
                link.is_wanted = False
                self._stop_dialer(node)
                _terminate(link.connections, "no MTCP neighbour of ours any more")
        for node, neighbour in own.items():
            link = self._links.setdefault(node, MtcpLink(self._settings, neighbour, trio.current_time()))
            is_same = link.settings.address == neighbour.address and node in self._dialers
            link.is_wanted, link.settings = True, neighbour
            if not is_same:
                _terminate(link.connections, "its configuration changed")
                self._stop_dialer(node)
                self._start_dialer(link)
        if not own and self._listening is not None:
            self._listening.cancel()
        self._change()

    def _is_ours(self, neighbour: NeighbourSettings) -> bool:
        return neighbour.bearer == self._settings.name and neighbour.cl is ConvergenceLayer.MTCP

    def _stop_dialer(self, node: Eid) -> None:
        dialer = self._dialers.pop(node, None)
        if dialer is not None:
            dialer.stop()

    def _start_dialer(self, link: MtcpLink) -> None:
        if link.settings.address is None:
            return
        wanted = partial(self._wait_until_wanted, link)
        carry = partial(self._carry_outgoing, link)
        dialer = Dialer(self._settings, link.settings.address, self._rng, self._problems, wanted, carry)
        self._dialers[link.id.neighbour] = dialer
        if self._nursery is not None:
            self._nursery.start_soon(dialer.run)

    # What the node wants. Nothing here dispatches.

    def accept_transfers(self, link: LinkId, transfers: Iterable[MtcpTransfer]) -> None:
        """These are durable: there is room for more. MTCP has nobody to tell."""
        del link
        by_connection: dict[MtcpConnection, list[int]] = {}
        for connection, number in transfers:
            by_connection.setdefault(connection, []).append(number)
        for connection, numbers in by_connection.items():
            assert isinstance(connection.session, ReceivingSession)
            connection.session.release(numbers, trio.current_time())
            connection.wake()

    def refuse_transfer(
        self, link: LinkId, transfer: MtcpTransfer, retriable: bool, completed: bool, text: str
    ) -> None:
        """Drop one; the node reports it. There is nobody to tell."""
        del retriable, completed, text
        self.accept_transfers(link, [transfer])

    def send_bundles(self, link: LinkId, rows: Iterable[tuple[BundleId, Sequence[bytes | memoryview]]]) -> None:
        """Send these in order, each as chunks; what can't be sent comes back as TransfersFailed."""
        own = self._links.get(link.neighbour)
        if own is None or own.id != link:
            raise LocalProtocolError(f"bearer {self._settings.name} has no MTCP link {link}")
        connection = own.outgoing
        failed: list[BundleId] = []
        for bundle_id, chunks in rows:
            session = connection.session if connection else None
            if not isinstance(session, SendingSession) or not session.can_send or session.in_flight >= IN_FLIGHT_MAX:
                failed.append(bundle_id)
                continue
            assert connection is not None
            connection.sent[session.send_bundle(chunks, trio.current_time())] = bundle_id
            own.spend(sum(map(len, chunks)))
        if connection is not None:
            connection.wake()
        if failed:
            text = "too many bundles are in flight" if connection else "there is no connection"
            self._sessions.defer(TransfersFailed(link, failed, make_failure(text, session_ended=False)))

    def freeze(self) -> None:
        """Silence: nothing is written, dialled or timed out from now on; reading goes on."""
        if self._is_frozen:
            return
        self._is_frozen = True
        for link in self._links.values():
            for connection in link.connections:
                connection.freeze()
        for dialer in self._dialers.values():
            dialer.interrupt()

    def thaw(self) -> None:
        """The silence is over."""
        if not self._is_frozen:
            return
        self._is_frozen = False
        for link in self._links.values():
            for connection in link.connections:
                connection.thaw()
        self._change()

    def snapshot(self) -> list[dict[str, Figure]]:
        """One row of figures for each link."""
        now = trio.current_time()
        return [link.describe(now) for link in self._links.values() if link.is_wanted or link.connections]

    # Connections.

    async def _listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen while a neighbour speaks MTCP. Started when the first attempt is over."""
        is_started = False
        while self._listener is not None:
            if any(link.is_wanted for link in self._links.values()):
                with trio.CancelScope() as self._listening:
                    async with trio.open_nursery() as nursery:
                        await nursery.start(self._listener.run)
                        fields: dict[str, Figure] = {"bearer": self._settings.name, "mtcp_listen": self.bound_address}
                        self._report("bearer.started", fields)
                        if not is_started:
                            task_status.started()
                            is_started = True
                self._listening = self._listener.bound_address = None
                continue
            if not is_started:
                task_status.started()
                is_started = True
            await self._changed.wait()
        task_status.started()

    def _may_accept(self) -> bool:
        return not self._is_stopping and sum(len(link.incoming) for link in self._links.values()) < CONNECTIONS_MAX

    async def _serve(self, sock: socket.socket, address: str) -> None:
        """Take bundles from whoever connected, if it can be told who that is."""
        link = self._find_sender(address)
        if link is None:
            sock.close()
            reason = "no neighbour with cl = 'mtcp' has this IP address"
            self._report("session.refused", {"bearer": self._settings.name, "address": address, "reason": reason})
            return
        if len(link.incoming) >= INCOMING_PER_LINK_MAX:
            _terminate(link.incoming[:1], "a newer connection took its place")
        connection = self._make(sock, ReceivingSession(trio.current_time()), address, link)
        link.incoming.append(connection)
        self._sessions.report_established(link, connection, "receiver")
        try:
            await connection.run()
        finally:
            link.remove(connection)
            self._change()

    def _find_sender(self, address: str) -> MtcpLink | None:
        """The one neighbour with this IP address."""
        host = _host(address)
        found = [
            link
            for link in self._links.values()
            if link.is_wanted and link.settings.address is not None and _host(link.settings.address) == host
        ]
        return found[0] if len(found) == 1 else None

    async def _carry_outgoing(self, link: MtcpLink, sock: socket.socket, address: str) -> bool:
        """Carry our connection to a neighbour until it ends; True when it was of use."""
        began_at = trio.current_time()
        carried = link.sent_bundles
        connection = self._make(sock, SendingSession(began_at), address, link)
        self._sessions.take_connected(link, connection)
        try:
            await connection.run()
        finally:
            if link.outgoing is connection:  # cancelled: nobody is told any more
                link.disconnect("stopped", trio.current_time())
            self._change()
        return link.sent_bundles > carried or trio.current_time() - began_at >= STEADY_S

    def _make(self, sock: socket.socket, session: Session, address: str, link: MtcpLink) -> MtcpConnection:
        take, announce = partial(self._sessions.take_events, link), partial(self._sessions.take_progress, link)
        connection = MtcpConnection(sock, session, address, take, announce)
        if self._is_frozen:
            connection.freeze()
        return connection

    async def _wait_until_wanted(self, link: MtcpLink) -> None:
        """Return when the link has no connection and this bearer may dial."""
        while link.outgoing or self._is_frozen or self._is_stopping:
            await self._changed.wait()

    def _change(self) -> None:
        """Something changed that tasks of this adapter wait for."""
        self._changed.set()
        self._changed = trio.Event()

    async def _pump(self) -> None:
        """Dispatch what came up inside of a method that the node called."""
        while True:
            self._sessions.dispatch_deferred()
            await self._changed.wait()


def _terminate(connections: Iterable[MtcpConnection], text: str) -> None:
    for connection in connections:
        connection.session.terminate(text)
        connection.wake()


def _host(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IP address of `10.1.0.2:4224` or `[fd00::1]:4224`; one mapped into IPv6 is the IPv4 one."""
    text = address.rpartition(":")[0].strip("[]").partition("%")[0]
    host = ipaddress.ip_address(text)
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return mapped or host
