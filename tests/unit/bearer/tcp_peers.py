# SPDX-License-Identifier: Apache-2.0
"""Helpers for tests of the TCP bearer: a recorder of what it says, and a plain peer of the test's own."""

import random
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from meshd.bearer.link import Figure
from meshd.bearer.tcp import TcpBearer
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role, SessionSettings
from meshd.link.identity import LinkId
from meshd.link.settings import BearerKind, BearerSettings, NeighbourSettings
from meshd.node.events import Event

ALPHA = Eid("dtn://alpha/")
BRAVO = Eid("dtn://bravo/")
CHARLIE = Eid("dtn://charlie/")
PATIENCE_S = 30.0

E = TypeVar("E")


class Recorder:
    """Takes events and reports of one bearer; tests wait for what they expect."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.reports: list[tuple[str, dict[str, Figure]]] = []
        self._changed = trio.Event()
        self.on_event: Callable[[Event], None] = lambda event: None

    def dispatch(self, event: Event) -> None:
        self.events.append(event)
        self._notify()
        self.on_event(event)

    def report(self, kind: str, fields: dict[str, Figure]) -> None:
        self.reports.append((kind, fields))
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not condition():
                await self._changed.wait()

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(self, kind: type[E], count: int = 1) -> list[E]:
        """The first `count` events of a kind."""
        await self.until(lambda: len(self.all(kind)) >= count)
        return self.all(kind)

    async def wait_for_report(self, kind: str) -> dict[str, Figure]:
        await self.until(lambda: any(name == kind for name, _ in self.reports))
        return next(fields for name, fields in self.reports if name == kind)


def make_settings(listen: str | None = "127.0.0.1:0", **changes: object) -> BearerSettings:
    values: dict[str, object] = {
        "name": "lan0",
        "kind": BearerKind.TERRESTRIAL,
        "device": "lo",
        "radiating": False,
        "listen": listen,
        "rate_bps": 1_000_000_000,
        "mark": 0x6D01,
        "keepalive_s": 15,
    }
    return BearerSettings(**(values | changes))  # type: ignore[arg-type]


def make_bearer(
    recorder: Recorder,
    node: Eid,
    neighbours: dict[Eid, str | None],
    settings: BearerSettings | None = None,
) -> TcpBearer:
    settings = settings or make_settings()
    rows = [NeighbourSettings(peer, settings.name, address) for peer, address in neighbours.items()]
    return TcpBearer(settings, rows, node, recorder.dispatch, recorder.report, random.Random(1))


def make_link(neighbour: Eid) -> LinkId:
    return LinkId("lan0", neighbour)


def make_id(sequence: int) -> BundleId:
    return BundleId(ALPHA, 1, sequence)


class Peer:
    """A neighbour that the test moves by hand: a blocking-style socket with a session behind it."""

    def __init__(self, stream: trio.SocketStream, session: Session) -> None:
        self.stream = stream
        self.session = session
        self.received: list[cl.TransferRow] = []
        self.events: list[cl.Event] = []

    @classmethod
    async def dial(cls, address: str | None, node: Eid, *, keepalive_s: int = 15) -> "Peer":
        assert address is not None
        host, _, port = address.rpartition(":")
        stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
        settings = SessionSettings(node, None, keepalive_s)
        return cls(stream, Session(settings, Role.ACTIVE, trio.current_time()))

    async def flush(self) -> None:
        while buffers := self.session.data_to_send(trio.current_time()):
            await self.stream.send_all(b"".join(buffers))

    async def step(self) -> bool:
        """Send what there is, receive once; False at the end of the stream."""
        await self.flush()
        with trio.fail_after(PATIENCE_S):
            data = await self.stream.receive_some()
        self.session.receive_data(data, trio.current_time())
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, cl.TransfersReceived):
                self.received.extend(event.rows)
        return bool(data)

    async def establish(self) -> "Peer":
        await self.until(lambda: any(isinstance(event, cl.SessionEstablished) for event in self.events))
        return self

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert await self.step(), f"the stream ended: {self.events}"

    async def read_all(self) -> None:
        """Until the end of the stream."""
        while await self.step():
            pass

    async def send(self, payloads: Sequence[bytes]) -> list[int]:
        ids = [self.session.send_transfer([payload], len(payload)) for payload in payloads]
        await self.flush()
        return ids


def make_plain_listener() -> tuple[socket.socket, str]:
    """A listening socket that nobody serves."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.setblocking(False)
    return sock, f"127.0.0.1:{sock.getsockname()[1]}"
