# SPDX-License-Identifier: Apache-2.0
"""The life of one convergence layer on one bearer: a listener, connections, a dialer for each address of a neighbour.

It owns sockets, tasks and the clock; what its connections say becomes events of the node by its voice. Events are
dispatched from the layer's own tasks only, never from inside of a method that the node calls. What TCPCLv4 and MTCP
add is in `tcp.py` and `mtcp.py`; how connections come about is `listener.py` and `dialer.py`.
"""

import random
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final, Generic, TypeVar

import trio

from meshd.base.errors import LocalProtocolError
from meshd.bearer.connection import Connection, Row
from meshd.bearer.dialer import Dialer
from meshd.bearer.link import Figure, Link
from meshd.bearer.listener import Listener
from meshd.bearer.problems import Problems, Report
from meshd.bearer.voice import Voice
from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings

CONNECTIONS_MAX: Final = 64
"""Connections of one layer, whatever their state."""
SHUTDOWN_TIMEOUT_S: Final = 2.0
"""To let go what is under way, and again to end all sessions in their order."""

ConnectionT = TypeVar("ConnectionT", bound=Connection[Any])
LinkT = TypeVar("LinkT", bound=Link[Any])


class Layer(ABC, Generic[LinkT, ConnectionT]):
    """One convergence layer on one bearer."""

    CL: ClassVar[ConvergenceLayer]
    LISTEN_KEY: ClassVar[str]
    """Where the listening address is told."""

    def __init__(self, settings: BearerSettings, listen: str | None, report: Report, rng: random.Random) -> None:
        """A layer ends its own making with `configure`."""
        self._settings = settings
        self._report = report
        self._rng = rng
        self._problems = Problems(settings.name, report)
        self._links: dict[Eid, LinkT] = {}
        self._connections: set[ConnectionT] = set()
        self._is_frozen = False
        self._is_stopping = False
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._dialers: dict[Eid, Dialer] = {}
        self._scope = trio.CancelScope()
        self._listening: trio.CancelScope | None = None
        self._listener: Listener | None = None
        if listen is not None:
            self._listener = Listener(settings, listen, rng, self._problems, self._may_accept, self._serve)

    # What a layer adds.

    @property
    @abstractmethod
    def _voice(self) -> Voice:
        """What turns the words of its connections into events."""

    @abstractmethod
    def _make_link(self, neighbour: NeighbourSettings) -> LinkT:
        """A neighbour that was not there before."""

    @abstractmethod
    def _readdress(self, link: LinkT) -> None:
        """The neighbour has another address now."""

    @abstractmethod
    def _must_listen(self) -> bool:
        """Connections may come now."""

    @abstractmethod
    def _is_carrying(self) -> bool:
        """Something is under way that ending the sessions would destroy."""

    @abstractmethod
    async def _serve(self, sock: socket.socket, address: str) -> None:
        """Carry a connection that a neighbour, or a stranger, made."""

    @abstractmethod
    async def _dialled(self, link: LinkT, sock: socket.socket, address: str) -> bool:
        """Carry our connection to a neighbour until it is closed; True when it was of use."""

    @abstractmethod
    def _missed(self, link: LinkT, text: str) -> None:
        """The neighbour was dialled, and there is no session with it."""

    # The life.

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
        """Let go what is under way for a moment, end every session and stop; under silence without a word."""
        self._is_stopping = True
        self._change()
        with trio.move_on_after(0 if self._is_frozen else SHUTDOWN_TIMEOUT_S):
            while self._is_carrying():
                await self._changed.wait()
        for connection in self._connections:
            connection.terminate("the daemon stops")
        with trio.move_on_after(0 if self._is_frozen else SHUTDOWN_TIMEOUT_S):
            while self._connections:
                await self._changed.wait()
        self._scope.cancel()

    def configure(self, neighbours: Sequence[NeighbourSettings]) -> None:
        """These are the neighbours from now on; sessions with others are ended, unchanged ones are not disturbed.

        Neighbours of other bearers, or with another CL, are passed over.
        """
        own = {each.node: each for each in neighbours if each.bearer == self._settings.name and each.cl is self.CL}
        for node, link in self._links.items():
            if node not in own and link.is_wanted:
                link.is_wanted = False
                self._stop_dialer(link)
                self._forsake(link, f"no {self.CL.value} neighbour of ours any more")
        for node, neighbour in own.items():
            link = self._links.get(node) or self._make_link(neighbour)
            self._links[node] = link
            link.is_wanted = True
            before, link.settings = link.settings, neighbour
            if before.address != neighbour.address:
                self._readdress(link)
            if before != neighbour or node not in self._dialers:
                self._restart_dialer(link)
        if self._listening is not None and not self._must_listen():
            self._listening.cancel()
        self._change()

    def device_changed(self) -> None:
        """Its device is another one, is back, or has other addresses or another MTU: listen and dial at once."""
        if self._listener is not None:
            self._listener.device_changed()
        for dialer in self._dialers.values():
            dialer.hurry()

    def _forsake(self, link: LinkT, text: str) -> None:
        """It is a neighbour no more."""
        for connection in link.connections:
            connection.terminate(text)

    def _stop_dialer(self, link: LinkT) -> None:
        dialer = self._dialers.pop(link.id.neighbour, None)
        if dialer is not None:
            dialer.stop()

    def _restart_dialer(self, link: LinkT) -> None:
        self._stop_dialer(link)
        if link.settings.address is None:
            return
        wanted, carry = partial(self._wait_until_wanted, link), partial(self._dialled, link)
        missed = partial(self._missed, link)
        dialer = Dialer(self._settings, link.settings.address, self._rng, self._problems, wanted, carry, missed)
        self._dialers[link.id.neighbour] = dialer
        if self._nursery is not None:
            self._nursery.start_soon(dialer.run)

    async def _listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen while connections may come. Started when the first attempt, if one is due, is over."""
        if self._listener is None or not self._must_listen():
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
        while self._listener is not None:
            if not self._must_listen():
                await self._changed.wait()
                continue
            with trio.CancelScope() as self._listening:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._listener.run)
                    fields: dict[str, Figure] = {"bearer": self._settings.name, self.LISTEN_KEY: self.bound_address}
                    self._report("bearer.started", fields)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
            self._listening = self._listener.bound_address = None

    # What the node wants. Nothing here dispatches.

    def send_bundles(self, link: LinkId, rows: Sequence[Row]) -> None:
        """Send these in order, each as chunks; what can't be sent comes back as TransfersFailed."""
        own = self._get_link(link)
        sender = own.choose_sender(trio.current_time())
        failed = own.hand_over(sender, rows)
        text = "no session can send now" if sender is None else "too many transfers are in flight"
        self._voice.defer_failed(own, failed, text)

    def send_urgent(self, link: LinkId, rows: Sequence[Row]) -> None:
        """The same for what must not wait long behind a transfer that is under way, where the layer knows a way."""
        self.send_bundles(link, rows)

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
        return [link.describe(now) for link in self._links.values() if link.is_wanted or link.connections]

    def _get_link(self, link: LinkId) -> LinkT:
        own = self._links.get(link.neighbour)
        if own is None or own.id != link:
            raise LocalProtocolError(f"bearer {self._settings.name} has no link {link} by {self.CL.value}")
        return own

    # Connections.

    def _may_accept(self) -> bool:
        return not self._is_stopping and len(self._connections) < CONNECTIONS_MAX

    def _enter(self, connection: ConnectionT) -> None:
        """It belongs to this layer until `_leave`."""
        if self._is_frozen:
            connection.freeze()
        self._connections.add(connection)

    def _leave(self, connection: ConnectionT) -> None:
        """It is closed."""
        self._connections.discard(connection)
        self._change()

    async def _wait_until_wanted(self, link: LinkT) -> None:
        """Return when the link needs a session of ours and this bearer may dial."""
        while not link.needs_dialling or self._is_frozen or self._is_stopping:
            await self._changed.wait()

    def _change(self) -> None:
        """Something changed that tasks of this layer wait for."""
        self._changed.set()
        self._changed = trio.Event()

    async def _pump(self) -> None:
        """Dispatch what came up inside of a method that the node called."""
        while True:
            self._voice.dispatch_deferred()
            await self._changed.wait()
