# SPDX-License-Identifier: Apache-2.0
"""TCPCLv4 on one bearer: listens, dials the neighbours that have an address, and carries bundles (RFC 9174).

The shell around `meshd.cl.tcpclv4`: it owns sockets, tasks and the clock, and turns what sessions say into events of
the node. Events are dispatched from this bearer's own tasks only, never from inside of a method that the node calls.
Which neighbours there are is configuration; nobody else gets a session. What the node may send on a link is `link.py`,
one connection is `connection.py`, how connections come about is `listener.py` and `dialer.py`.
"""

import random
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, assert_never, cast

import trio

from meshd.base.errors import LocalProtocolError
from meshd.bearer.connection import Connection
from meshd.bearer.dialer import Dialer
from meshd.bearer.link import Figure, Link
from meshd.bearer.listener import Listener
from meshd.bearer.problems import Problems, Report
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.messages import RefuseReason, TermReason
from meshd.cl.tcpclv4.outgoing import IN_FLIGHT_MAX
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import SEGMENT_DEFAULT_BYTES, Role, SessionSettings
from meshd.link.identity import LinkId
from meshd.link.settings import BearerSettings, NeighbourSettings
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

CONNECTIONS_MAX: Final = 64
"""Connections of one bearer, whatever their state."""
PENDING_MAX: Final = 16
"""Connections that have no session yet; further ones are closed at once."""
SESSIONS_PER_LINK_MAX: Final = 4
"""Established sessions of one neighbour; a further one is told "Busy"."""
SHUTDOWN_TIMEOUT_S: Final = 2.0
SEGMENT_MIN_BYTES: Final = 16 * 1024
"""Segments take about a second at the bearer's rate, but are no smaller than this."""

_FINAL_REFUSALS: Final = frozenset(
    (RefuseReason.NOT_ACCEPTABLE, RefuseReason.EXTENSION_FAILURE, RefuseReason.COMPLETED)
)


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
    ) -> None:
        """Neighbours of other bearers are passed over. `dispatch` runs the node, which may call any method here."""
        self._settings = settings
        self._node = node
        self._dispatch = dispatch
        self._report = report
        self._rng = rng
        self._problems = Problems(settings.name, report)
        self._links: dict[Eid, Link] = {}
        self._dialers: dict[Eid, Dialer] = {}
        self._nursery: trio.Nursery | None = None
        self._connections: set[Connection] = set()
        self._established: dict[Connection, Link] = {}
        self._deferred: deque[Event] = deque()
        self._changed = trio.Event()
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
        own = {neighbour.node: neighbour for neighbour in neighbours if neighbour.bearer == self._settings.name}
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

    def send_bundles(self, link: LinkId, rows: Iterable[tuple[BundleId, Sequence[bytes | memoryview]]]) -> None:
        """Send these in order, each as chunks; what can't be sent comes back as TransfersFailed."""
        own = self._get_link(link)
        sender = own.choose_sender(trio.current_time())
        failed: list[BundleId] = []
        for bundle_id, chunks in rows:
            if sender is None or sender.session.in_flight >= IN_FLIGHT_MAX:
                failed.append(bundle_id)
                continue
            size_bytes = sum(map(len, chunks))
            sender.sent[sender.session.send_transfer(chunks, size_bytes)] = bundle_id
            own.spend(size_bytes)
        if sender is not None:
            sender.wake()
        if failed:
            text = "too many transfers are in flight" if sender else "no session can send now"
            self._deferred.append(TransfersFailed(link, failed, _make_failure(text, session_ended=False)))
            self._change()

    def freeze(self) -> None:
        """Silence: nothing is written, dialled or timed out from now on; reading goes on."""
        if self._is_frozen:
            return
        self._is_frozen = True
        for connection in self._connections:
            connection.freeze()
        for dialer in self._dialers.values():
            dialer.interrupt()

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
        own = self._links.get(link.neighbour)
        if own is None or own.id != link:
            raise LocalProtocolError(f"bearer {self._settings.name} has no link {link}")
        return own

    # Connections.

    def _may_accept(self) -> bool:
        pending = len(self._connections) - len(self._established)
        return not self._is_stopping and pending < PENDING_MAX and len(self._connections) < CONNECTIONS_MAX

    async def _serve(self, sock: socket.socket, address: str) -> None:
        """Carry a connection that a neighbour, or a stranger, made."""
        welcome = frozenset(node for node, link in self._links.items() if link.is_wanted)
        await self._carry(Role.PASSIVE, welcome, sock, address)

    async def _carry(self, role: Role, peers: frozenset[Eid], sock: socket.socket, address: str) -> bool:
        """Carry a connection until it is closed; True when its session was established."""
        settings = SessionSettings(
            self._node,
            peers,
            self._settings.keepalive_s,
            segment_bytes=min(max(self._settings.rate_bps // 8, SEGMENT_MIN_BYTES), SEGMENT_DEFAULT_BYTES),
        )
        session = Session(settings, role, trio.current_time())
        connection = Connection(sock, session, role, address, self._take_events, self._announce)
        if self._is_frozen:
            connection.freeze()
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._established.pop(connection, None)
            self._change()
        return connection.was_established

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
            self._dispatch_deferred()
            await self._changed.wait()

    def _dispatch_deferred(self) -> None:
        while self._deferred:
            self._dispatch(self._deferred.popleft())

    # What sessions say.

    def _take_events(self, connection: Connection, events: Sequence[cl.Event]) -> None:
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

    def _take_received(self, connection: Connection, rows: Sequence[cl.TransferRow]) -> None:
        link = self._established.get(connection)
        if link is None:  # told "Busy" in the same breath
            return
        link.received_bundles += len(rows)
        link.received_bytes += sum([len(row.data) for row in rows])
        self._dispatch(BundlesReceived(link.id, [ReceivedRow((connection, row.transfer_id), row.data) for row in rows]))

    def _take_acknowledged(self, connection: Connection, transfer_ids: Sequence[int]) -> None:
        link = self._established[connection]
        pop = connection.sent.pop
        ids = [pop(transfer_id) for transfer_id in transfer_ids]
        link.sent_bundles += len(ids)
        self._dispatch(TransfersAcknowledged(link.id, ids))
        self._announce(connection)

    def _take_refused(self, connection: Connection, refused: dict[RefuseReason, list[BundleId]]) -> None:
        for reason, ids in refused.items():
            retriable = reason not in _FINAL_REFUSALS
            text = f"refused by the neighbour: {reason.name.lower().replace('_', ' ')}"
            is_completed = reason is RefuseReason.COMPLETED
            outcome = RefusalReason(completed=is_completed, retriable=retriable, session_ended=False, text=text)
            self._dispatch(TransfersFailed(self._established[connection].id, ids, outcome))

    def _take_established(self, connection: Connection, event: cl.SessionEstablished) -> None:
        assert event.peer is not None
        link = self._links[event.peer]
        connection.was_established = True
        if len(link.sessions) >= SESSIONS_PER_LINK_MAX:
            text = f"there are {SESSIONS_PER_LINK_MAX} sessions with it already"
            connection.session.terminate(TermReason.BUSY, text, trio.current_time())
            return
        self._established[connection] = link
        is_up = link.add(connection, trio.current_time())
        fields: dict[str, Figure] = {"link": str(link.id), "address": connection.address, "role": connection.role.value}
        self._report("session.established", fields | {"keepalive_s": event.keepalive_s})
        if is_up:
            self._dispatch(LinkUp(link.id))
        self._announce(connection)

    def _take_ended(self, connection: Connection, event: cl.SessionEnded) -> None:
        link = self._established.get(connection)
        reason = f"{event.reason.value}: {event.text}"
        fields: dict[str, Figure] = {"bearer": self._settings.name, "address": connection.address, "reason": reason}
        if link is None:
            self._report("session.refused" if event.is_peer_fault else "session.failed", fields)
            return
        self._report("session.ended", fields | {"link": str(link.id), "is_peer_fault": event.is_peer_fault})
        is_down = link.remove(connection, reason, trio.current_time())
        if is_down:
            self._dispatch(LinkWritable(link.id, 0))  # what fails now must not come back on this link
        if connection.sent:
            failed = list(connection.sent.values())
            connection.sent.clear()
            self._dispatch(TransfersFailed(link.id, failed, _make_failure(reason, session_ended=True)))
        self._dispatch_deferred()
        if is_down:
            self._dispatch(LinkDown(link.id, reason))
        else:
            self._announce(link.sessions[0])
        self._change()

    def _announce(self, connection: Connection) -> None:
        """Tell the node how much its link takes, when that has grown."""
        link = self._established.get(connection)
        credit_bytes = link.grant(trio.current_time()) if link else 0
        if link and credit_bytes:
            self._dispatch(LinkWritable(link.id, credit_bytes))


def _make_failure(text: str, *, session_ended: bool) -> RefusalReason:
    """The reason of transfers that nobody refused: they can be sent again."""
    return RefusalReason(completed=False, retriable=True, session_ended=session_ended, text=text)
