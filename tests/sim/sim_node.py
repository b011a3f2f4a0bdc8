# SPDX-License-Identifier: Apache-2.0
"""One simulated node: the real agent, engine, segment log and sessions, on a fake disk and virtual wires."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Final

from meshd.base.errors import StoreError
from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, PayloadRef
from meshd.bundle.scan import scan_untrusted
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.messages import RefuseReason
from meshd.cl.tcpclv4.session import Session
from meshd.daemon.engine import Engine, OutgoingRow
from meshd.link.identity import LinkId
from meshd.link.settings import BearerKind, BearerSettings, NeighbourSettings
from meshd.node import events as ev
from meshd.node.agent import Agent
from meshd.node.commands import DeliverMessage, StreamCommand, WriteStore
from meshd.node.settings import GroupSettings, NodeSettings
from meshd.routing.settings import RouteSettings
from meshd.routing.static_router import StaticRouter
from meshd.store.segment_log import SegmentLog
from meshd.store.stream_writer import StreamWriter
from tests.sim.fake_disk import FakeDisk, PowerCut
from tests.sim.oracle import GROUP, Oracle
from tests.sim.sim_link import Connection, Wire
from tests.sim.virtual_time import VirtualTime

UTC_OFFSET_MS: Final = 820_000_000_000
PART_SIZE_BYTES: Final = 2000
"""Small, so that a simulated message has many parts."""
SEGMENT_BYTES: Final = 64 * 1024
WINDOW_BYTES: Final = 16 * 1024


class SimBearer:
    """The virtual counterpart of `bearer/tcp.py`: sessions in, events out."""

    def __init__(self, node: "SimNode", wire: Wire, neighbour: Eid) -> None:
        self._node = node
        self._link = LinkId(wire.name, neighbour)
        self._connection: Connection | None = None
        self._sent: dict[int, BundleId] = {}
        self._arriving: set[int] = set()
        self._is_up = False

    @property
    def session(self) -> Session | None:
        """Of the last connection."""
        return self._connection.session if self._connection else None

    def attach(self, connection: Connection) -> None:
        """A new connection is there; the wire made sure that the old one is gone."""
        self._connection = connection

    def process(self, connection: Connection) -> None:
        """Turn what the session says into events of the node."""
        node = self._node
        if not node.is_alive or connection is not self._connection:
            return
        with node.power():
            while (event := connection.session.next_event()) is not None:
                self._handle(connection, event)
            if self._is_up and connection.is_open:
                node.engine.dispatch(ev.LinkWritable(self._link, WINDOW_BYTES - connection.session.pending_bytes))

    def _handle(self, connection: Connection, event: cl.Event) -> None:
        node, link = self._node, self._link
        match event:
            case cl.SessionEstablished():
                self._is_up = True
                node.engine.dispatch(ev.LinkUp(link, event.transfer_mtu_bytes))
            case cl.TransfersReceived(rows):
                received = [ev.ReceivedRow((connection, row.transfer_id), row.data) for row in rows]
                node.engine.dispatch(ev.BundlesReceived(link, received))
            case cl.TransferBegun(transfer_id, size_bytes):
                self._arriving.add(transfer_id)
                node.engine.dispatch(ev.TransferBegun(link, (connection, transfer_id), size_bytes))
            case cl.TransferPiece(transfer_id, data):
                node.engine.dispatch(ev.TransferPiece(link, (connection, transfer_id), data))
            case cl.TransferEnded(transfer_id, is_whole):
                self._arriving.discard(transfer_id)
                node.oracle.streamed += is_whole
                node.engine.dispatch(ev.TransferEnded(link, (connection, transfer_id), is_whole))
            case cl.TransferUnreadable(transfer_id, text):
                node.engine.dispatch(ev.DataUnreadable([self._sent[transfer_id]], text))
            case cl.TransfersAcknowledged(transfer_ids):
                node.engine.dispatch(ev.TransfersAcknowledged(link, [self._sent.pop(each) for each in transfer_ids]))
            case cl.TransferRefused(transfer_id, reason):
                text = reason.name if reason is not None else "larger than its transfer MRU"
                refusal = ev.RefusalReason(
                    reason is RefuseReason.COMPLETED, reason is RefuseReason.NO_RESOURCES, False, text
                )
                node.engine.dispatch(ev.TransfersFailed(link, [self._sent.pop(transfer_id)], refusal))
            case cl.SessionEnded(_, text):
                connection.is_open = False
                if connection.peer is not None:
                    peer = connection.peer
                    connection.wire.time.call_later(0.5, lambda: peer.lose("the peer ended its session"))
                self._ended(text)

    def _ended(self, text: str) -> None:
        for transfer_id in sorted(self._arriving):
            self._node.engine.dispatch(ev.TransferEnded(self._link, (self._connection, transfer_id), is_whole=False))
        self._arriving.clear()
        lost, self._sent = list(self._sent.values()), {}
        if lost:
            reason = ev.RefusalReason(False, True, True, text)
            self._node.engine.dispatch(ev.TransfersFailed(self._link, lost, reason))
        if self._is_up:
            self._is_up = False
            self._node.engine.dispatch(ev.LinkDown(self._link, text))

    def accept_transfers(self, link: LinkId, transfers: Sequence[object]) -> None:
        """BearerPort."""
        for transfer in transfers:
            assert isinstance(transfer, tuple)
            connection, transfer_id = transfer
            self._node.oracle.accepted_transfer(self._node.id)
            assert isinstance(connection, Connection)
            if connection is self._connection and connection.is_open:
                connection.session.acknowledge([transfer_id])
        self._flush_soon()

    def release_transfer(self, link: LinkId, transfer: object, size_bytes: int) -> None:
        """BearerPort."""
        assert isinstance(transfer, tuple)
        connection, transfer_id = transfer
        assert isinstance(connection, Connection)
        if connection is self._connection and connection.is_open:
            connection.session.release(transfer_id, size_bytes)

    def refuse_transfer(self, link: LinkId, transfer: object, retriable: bool, completed: bool, text: str) -> None:
        """BearerPort."""
        assert isinstance(transfer, tuple)
        connection, transfer_id = transfer
        assert isinstance(connection, Connection)
        if connection is self._connection and connection.is_open:
            reason = RefuseReason.NO_RESOURCES if retriable else RefuseReason.NOT_ACCEPTABLE
            connection.session.refuse(transfer_id, RefuseReason.COMPLETED if completed else reason)
        self._flush_soon()

    def send_urgent(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """BearerPort: the simulated link has one session."""
        self.send_bundles(link, rows)

    def send_bundles(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """BearerPort."""
        connection = self._connection
        if connection is None or not connection.is_open or not connection.session.can_send:
            lost = [bundle for bundle, _ in rows]
            reason = ev.RefusalReason(False, True, True, "no session")
            self._node.time.call_later(0.0, lambda: self._node.dispatch(ev.TransfersFailed(link, lost, reason)))
            return
        for bundle, chunks in rows:
            self._sent[connection.session.send_transfer(chunks, sum(map(len, chunks)))] = bundle
        self._flush_soon()

    def _flush_soon(self) -> None:
        connection = self._connection
        if connection is not None:
            self._node.time.call_later(0.0, lambda: connection.flush() if connection.is_open else None)


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
    ) -> None:
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
        self._wires: list[tuple[Wire, Eid]] = []
        self._routes: list[RouteSettings] = []
        self.is_alive = False
        self._life = 0
        self.bearers: dict[str, SimBearer] = {}

    def plug(self, wire: Wire, neighbour: Eid) -> None:
        """Give it a bearer of the wire's name, with one neighbour."""
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
            StaticRouter(self._routes),
            frozenset(self.oracle.nodes),
            self.time.now,
            PART_SIZE_BYTES,
        )
        self.bearers = {wire.name: SimBearer(self, wire, neighbour) for wire, neighbour in self._wires}
        self.log = SegmentLog(self.disk, segment_bytes=SEGMENT_BYTES)
        self._queue: list[WriteStore] = []
        self._streams = StreamWriter(self.log)
        self._stream_queue: list[StreamCommand] = []
        self._is_committing = False
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

    def submit(self, group: WriteStore) -> None:
        """Natural group commit in virtual time."""
        self._queue.append(group)
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
