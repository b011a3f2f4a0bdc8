# SPDX-License-Identifier: Apache-2.0
"""A real agent and engine between a store in memory and the parts of the daemon that serve applications."""

from collections.abc import Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any

import trio

from meshd.base.errors import StoreError
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, PayloadRef
from meshd.bundle.stored_chunk import StoredChunk, in_memory
from meshd.daemon.control_peer import Peer
from meshd.daemon.engine import Engine, OutgoingRow
from meshd.daemon.event_hub import EventHub
from meshd.daemon.queries import Queries
from meshd.daemon.receivers import Receivers
from meshd.daemon.submissions import Submissions
from meshd.link.identity import LinkId
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.agent import Agent
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from tests.unit.node.playbook import LAN_BEARER, NEIGHBOURS, NODE, SAT_BEARER, UTC_OFFSET_MS, node_settings

LIFETIME_MS = 3_600_000


class Session:
    """A control session of root."""

    def __init__(self, number: int = 1) -> None:
        self.id = number
        self.peer = Peer(1, 0, 0, frozenset())

    def notify(self, method: str, params: dict[str, Any]) -> bool:
        """Nobody listens."""
        return True


class MemoryStore:
    """Keeps what is committed; `fails` says why the next commits don't."""

    def __init__(self) -> None:
        self.queue: list[cmd.WriteStore] = []
        self.data: dict[tuple[int, int], bytes] = {}
        self.streamed: list[cmd.StreamCommand] = []
        self.fails: str | None = None
        self.prepares = False
        self.queued = trio.Event()
        self._next = 0

    def prepare(self, group: cmd.WriteStore) -> bool:
        """StorePort: it commits when the test says so."""
        return self.prepares

    def submit(self, group: cmd.WriteStore) -> None:
        """StorePort."""
        self.queue.append(group)
        self.queued.set()

    def stream(self, command: cmd.StreamCommand) -> None:
        """StorePort."""
        self.streamed.append(command)

    def read_piece(self, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        """StorePort."""
        return self.read(ref)[offset : offset + size_bytes]

    def read(self, ref: PayloadRef) -> bytes:
        """StorePort."""
        try:
            return self.data[ref.segment, ref.offset]
        except KeyError:
            raise StoreError(f"nothing is at {ref.segment}:{ref.offset}") from None

    def commit(self) -> list[tuple[cmd.WriteStore, Sequence[ev.StoredRow] | StoreError]]:
        """Make everything queued durable, or refuse it."""
        groups, self.queue = self.queue, []
        self.queued = trio.Event()
        return [(group, self._commit(group)) for group in groups]

    def _commit(self, group: cmd.WriteStore) -> Sequence[ev.StoredRow] | StoreError:
        if self.fails is not None and group.puts:
            return StoreError(self.fails)
        rows = []
        for record in group.puts:
            self._next += 1
            assert record.payload.inline is not None, "the store needs the bytes"
            self.data[1, self._next] = record.payload.inline
            rows.append(ev.StoredRow(record.id, PayloadRef(1, self._next, record.size_bytes)))
        return rows


class FakeBearer:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.accepted: list[object] = []
        self.refused: list[tuple[object, bool, bool, str]] = []
        self.released: list[tuple[object, int]] = []
        self.sent: list[tuple[BundleId, bytes]] = []
        self.rows: list[OutgoingRow] = []
        self.silenced: list[tuple[Eid, int | None]] = []

    def accept_transfers(self, link: LinkId, transfers: Sequence[object]) -> None:
        """BearerPort."""
        self.accepted.extend(transfers)

    def release_transfer(self, link: LinkId, transfer: object, size_bytes: int) -> None:
        """BearerPort."""
        self.released.append((transfer, size_bytes))

    def refuse_transfer(self, link: LinkId, transfer: object, retriable: bool, completed: bool, text: str) -> None:
        """BearerPort."""
        self.refused.append((transfer, retriable, completed, text))

    def send_bundles(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """BearerPort."""
        for row in rows:
            self.rows.append(row)
            if not isinstance(row[1][-1], StoredChunk):
                self.sent.append((row[0], b"".join(in_memory(row[1]))))

    def send_urgent(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """BearerPort."""
        self.send_bundles(link, rows)

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        """BearerPort."""
        self.silenced.append((node, for_s))


class Asked:
    """Requests of one kind, always awaited, whether the answer is there at once or not."""

    def __init__(self, served: Any, methods: str) -> None:
        self._served = served
        self._methods = methods.split()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._served, name)
        if name not in self._methods:
            return attribute

        async def ask(session: Session, params: dict[str, Any]) -> Any:
            answer = attribute(session, params)
            return await answer if isawaitable(answer) else answer

        return ask


class NodeBench:
    """Also the engine's ApplicationPort."""

    def __init__(self, clock: Callable[[], float] | None = None, **changes: Any) -> None:
        self.now = 1000.0
        self.store = MemoryStore()
        self.bearers = {"lan0": FakeBearer(), "sat0": FakeBearer()}
        self.reports: list[tuple[str, Mapping[str, Any]]] = []
        self.timers: list[float | None] = []
        self.agent = Agent(
            node_settings(quota_bytes=10**9, **changes),
            (LAN_BEARER, SAT_BEARER),
            NEIGHBOURS,
            ContactRouter(NODE, ContactPlan()),
            frozenset(),
            self.now,
        )
        self.hub = EventHub(lambda: 5)
        self.engine = Engine(
            self.agent,
            NODE,
            store=self.store,
            bearers=self.bearers,
            applications=self,
            report=self._report,
            set_timer=self.timers.append,
            clock=lambda: self.now,
        )
        self.dispatch = self.engine.dispatch
        self.queries = Queries(self.agent, self.hub, self.dispatch)
        submissions = Submissions(self.dispatch, NODE, lambda: LIFETIME_MS)
        self.submissions = Asked(submissions, "open data close abort send")
        receivers = Receivers(
            self.dispatch, self.store.read_piece, lambda bundle: self.agent.entry(bundle) is not None, NODE
        )
        self.receivers = Asked(receivers, "open next read confirm close")
        self.dispatch(ev.ClockStepped(UTC_OFFSET_MS, 1000))

    def commit(self) -> None:
        """The store syncs once."""
        self.engine.stored(self.store.commit())

    async def run_store(self) -> None:
        """The store syncs as soon as there is something."""
        while True:
            await self.store.queued.wait()
            self.commit()

    async def send(self, session: Session, data: bytes, destination: str = "dtn://dpop1/inbox", **params: Any) -> Any:
        """One whole message by `send.*`; the answer to `send.close`."""
        submission = await self.submissions.open(session, open_params(destination, **params))
        if data:
            await self.submissions.data(session, submission | {"data": data})
        return await self.submissions.close(session, submission)

    # ApplicationPort

    def part_accepted(self, submission: int) -> None:
        """The next part may come."""
        self.submissions.part_accepted(submission)

    def submission_accepted(self, submission: int, message: BundleId) -> None:
        """The message is durable."""
        self.submissions.accepted(submission, message)

    def submission_refused(self, submission: int, code: str, text: str) -> None:
        """Nothing of the message is kept."""
        self.submissions.refused(submission, code, text)

    def deliver(self, message: cmd.DeliverMessage) -> None:
        """Offer a message to a receiver."""
        self.receivers.deliver(message)

    def _report(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.reports.append((kind, fields))
        self.hub.publish(kind, dict(fields))
        if kind.startswith("message."):
            self.queries.message_changed()


def open_params(destination: str, **changes: Any) -> dict[str, Any]:
    """Parameters of `send.open` as the session machine fills them in."""
    values = {"precedence": "ROUTINE", "lifetime_ms": None, "size_bytes": None, "report": True, "endpoint": "inbox"}
    return {"destination": destination} | values | changes
