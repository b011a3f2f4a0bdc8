# SPDX-License-Identifier: Apache-2.0
"""One simulated node: the real agent, engine, segment log and sessions, on a fake disk and virtual wires."""

import random
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Final, Protocol

from meshd.base.errors import StoreError
from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, PayloadRef
from meshd.bundle.scan import scan_untrusted
from meshd.cl.tcpclv4.session import Session
from meshd.daemon.engine import BearerPort, Engine
from meshd.link.settings import BearerKind, BearerSettings, NeighbourSettings
from meshd.node import events as ev
from meshd.node.agent import Agent
from meshd.node.commands import DeliverMessage, StreamCommand, WriteStore
from meshd.node.settings import GroupSettings, NodeSettings
from meshd.node.state import CREATION_NOTE
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.routing.decision import Router
from meshd.routing.settings import RouteSettings
from meshd.store.segment_log import SegmentLog
from meshd.store.stream_writer import StreamWriter
from tests.sim.fake_disk import FakeDisk, PowerCut
from tests.sim.oracle import GROUP, Oracle
from tests.sim.sim_bearer import SimBearer
from tests.sim.virtual_time import VirtualTime

UTC_OFFSET_MS: Final = 820_000_000_000
PART_SIZE_BYTES: Final = 2000
"""Small, so that a simulated message has many parts."""
SEGMENT_BYTES: Final = 64 * 1024
PREPARED_SHARE: Final = 0.5
"""Of the commits that are waited for, where they could be."""


class Bearer(BearerPort, Protocol):
    """What a node has on a wire."""

    @property
    def session(self) -> Session | None:
        """Of the last connection, where there are sessions."""


class AnyWire(Protocol):
    """What a node can be plugged into."""

    name: str

    def connect(self, node: Eid, end: Callable[[], Any]) -> None:
        """Plug in one node; `end` gives its bearer while it is alive."""

    def node_died(self, owner: Any) -> None:
        """The node crashed that this bearer belongs to."""


class SimNode:
    """A node that can crash and start again; only its disk and its applications' disks remain."""

    def __init__(
        self,
        node: Eid,
        time: VirtualTime,
        rng: random.Random,
        oracle: Oracle,
        disk: FakeDisk,
        quota_bytes: int,
        inline_max_bytes: int = INLINE_SIZE_MAX_BYTES,
        make_router: Callable[[], Router] | None = None,
    ) -> None:
        """`make_router` is called at the begin of each life; without it there are static routes."""
        self._inline_max_bytes = inline_max_bytes
        self.id = node
        self.time = time
        self.rng = rng
        self.oracle = oracle
        self.disk = disk
        self._settings = NodeSettings(
            node,
            PurePath("/nowhere"),
            quota_bytes,
            10_000,
            100_000,
            10**8,
            10**9,
            clock_trusted=rng.random() < 0.8,
            groups=(GroupSettings(GROUP, frozenset(oracle.nodes)),),
        )
        self._make_router = make_router or (lambda: ContactRouter(self.id, ContactPlan(), self._routes))
        self._wires: list[tuple[Any, Eid]] = []
        self._make_bearer: dict[str, Callable[[SimNode, Any, Eid], Bearer]] = {}
        self._routes: list[RouteSettings] = []
        self.is_alive = False
        self._life = 0
        self.bearers: dict[str, Bearer] = {}

    def plug(
        self, wire: AnyWire, neighbour: Eid, make_bearer: "Callable[[SimNode, Any, Eid], Bearer]" = SimBearer
    ) -> None:
        """Give it a bearer of the wire's name, with one neighbour."""
        self._make_bearer[wire.name] = make_bearer
        self._wires.append((wire, neighbour))
        wire.connect(self.id, lambda: self.bearers.get(wire.name) if self.is_alive else None)

    def route(self, destination: Eid, via: Eid) -> None:
        """Add a static route."""
        self._routes.append(RouteSettings(destination, via, ()))

    def start(self) -> None:
        """Begin a life on what the disk holds."""
        self.is_alive = True
        self._life += 1
        bearers = [
            BearerSettings(wire.name, BearerKind.LOS, wire.name, False, None, 10**6, 0, 5) for wire, _ in self._wires
        ]
        neighbours = [NeighbourSettings(neighbour, wire.name, None) for wire, neighbour in self._wires]
        agent = Agent(
            self._settings,
            bearers,
            neighbours,
            self._make_router(),
            frozenset(self.oracle.nodes),
            self.time.now,
            PART_SIZE_BYTES,
        )
        self.bearers = {
            wire.name: self._make_bearer[wire.name](self, wire, neighbour) for wire, neighbour in self._wires
        }
        self.log = SegmentLog(self.disk, segment_bytes=SEGMENT_BYTES)
        self._queue: list[WriteStore] = []
        self._streams = StreamWriter(self.log)
        self._stream_queue: list[StreamCommand] = []
        self._is_committing = False
        self.is_prepared = False
        """What is sent now leaves at once, whatever becomes of the commit."""
        self._timer: float | None = None
        self.engine = Engine(
            agent,
            self.id,
            store=self,
            bearers=self.bearers,
            applications=self,
            report=self._report,
            set_timer=self._set_timer,
            clock=lambda: self.time.now,
            inline_max_bytes=self._inline_max_bytes,
        )
        with self.power():
            recovered = self.log.recover(agent.dtn_ms(self.time.now))
            self.oracle.recovered(self.id, recovered.damage)
            self.engine.dispatch(ev.ClockStepped(UTC_OFFSET_MS, 1000))
            self.engine.dispatch(ev.StoreRecovered(recovered.records, recovered.known, recovered.notes))
            states = {message.id_text: message.state.value for message in agent.messages.all()}
            self.oracle.asked(self.id, states)
            self.engine.dispatch(ev.ReceiverAttached(1, Eid(f"{self.id.uri}inbox")))
            self.engine.dispatch(ev.ReceiverAttached(2, GROUP))

    def crash(self) -> None:
        """Power fails: unsynced data is gone, as are all sessions."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.oracle.crashed(self.id)
        self.disk.power_cut_in = 0
        self.disk.crash()
        for wire, _ in self._wires:
            wire.node_died(self.bearers[wire.name])
        self.time.call_later(self.rng.uniform(0.5, 20.0), self.start)

    def power(self) -> "_Power":
        """Everything that may touch the disk runs under this: power may fail in the middle of it."""
        return _Power(self)

    def dispatch(self, event: ev.Event) -> None:
        """An event from outside of a session."""
        if self.is_alive:
            with self.power():
                self.engine.dispatch(event)

    # StorePort

    def prepare(self, group: WriteStore) -> bool:
        """Now and then the disk is idle, and quick enough to be waited for."""
        is_idle = not (self._is_committing or self._queue or self._stream_queue)
        may_wait = is_idle and CREATION_NOTE not in group.notes and self.rng.random() < PREPARED_SHARE
        self.is_prepared = may_wait and self.log.is_ready(group)
        return self.is_prepared

    def submit(self, group: WriteStore) -> None:
        """Natural group commit in virtual time, unless it was prepared."""
        self._queue.append(group)
        if self.is_prepared:
            self.is_prepared = False
            self._commit()
        else:
            self._commit_later()

    def stream(self, command: StreamCommand) -> None:
        """What comes of a large bundle, in its turn."""
        self._stream_queue.append(command)
        self._commit_later()

    def read(self, ref: PayloadRef) -> bytes:
        """From the log."""
        return self.log.read(ref)

    def read_piece(self, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        """From the log."""
        return self.log.read_piece(ref, offset, size_bytes)

    def _commit_later(self) -> None:
        if self._is_committing or not (self._queue or self._stream_queue):
            return
        self._is_committing = True
        self.time.call_later(self.rng.uniform(0.0002, 0.05), self._in_this_life(self._commit))

    def _commit(self) -> None:
        groups, self._queue = self._queue, []
        commands, self._stream_queue = self._stream_queue, []
        with self.power():
            streamed, finished = self._streams.run(commands)
            groups = [*finished, *groups]
            results = list(zip(groups, self.log.commit(groups), strict=True))
            for group, result in results:
                if not isinstance(result, StoreError):
                    self.oracle.committed(self.id, group)
            self._is_committing = False
            self._streams.drop_failed(results)
            self.engine.streamed(streamed)
            self.engine.stored(results)
            if self.log.may_reclaim:
                self.log.reclaim(self.engine.agent.dtn_ms(self.time.now))
        if self.is_alive:
            self._commit_later()

    # ApplicationPort

    def part_accepted(self, submission: int) -> None:
        """The sending application goes on."""
        self.time.call_later(0.0, self._in_this_life(lambda: self.oracle.next_part(self, submission)))

    def submission_accepted(self, submission: int, message: BundleId) -> None:
        """The user is told "queued"."""
        self.oracle.accepted(self.id, submission, message)

    def submission_refused(self, submission: int, code: str, text: str) -> None:
        """The user is told why not."""
        self.oracle.refused(submission)

    def deliver(self, message: DeliverMessage) -> None:
        """The receiving application reads, syncs its own disk, and confirms a little later."""
        content = b""
        for part in message.parts:
            assert part.offset_bytes == len(content), "parts follow each other"
            data = self.log.read(part.payload)
            header = scan_untrusted(data)
            content += data[header.payload_offset : header.payload_offset + header.payload_size]
        self.oracle.offered(self.id, message, content)

        def confirm() -> None:
            self.oracle.confirmed(self.id, message, content)
            self.dispatch(ev.DeliveryConfirmed(message.receiver, message.message))

        self.time.call_later(self.rng.uniform(0.001, 3.0), self._in_this_life(confirm))

    # Others

    def _report(self, kind: str, fields: Mapping[str, str | int | float | bool | None]) -> None:
        self.oracle.reported(self.id, kind, fields)

    def _set_timer(self, at: float | None) -> None:
        self._timer = at
        if at is not None:
            self.time.call_at(at, self._in_this_life(lambda: self._fire(at)))

    def _fire(self, at: float) -> None:
        if self._timer == at:
            self._timer = None
            self.dispatch(ev.TimerFired())

    def _in_this_life(self, call: Callable[[], None]) -> Callable[[], None]:
        """A call that is forgotten when the node has crashed in the meantime."""
        life = self._life

        def guarded() -> None:
            if self.is_alive and self._life == life:
                call()

        return guarded


class _Power:
    """Turns the fake disk's power cut into a crash of this node."""

    def __init__(self, node: SimNode) -> None:
        self._node = node

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if kind is not None and issubclass(kind, PowerCut):
            self._node.crash()
            return True
        return False
