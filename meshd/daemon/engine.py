# SPDX-License-Identifier: Apache-2.0
"""Executes the agent's commands through a few ports, and brings the results back as events.

Synchronous and without I/O of its own: the daemon gives it the real store, bearers and clock; the simulation gives it a
fake disk, virtual links and virtual time. Events that arise while another one is being handled wait their turn.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, assert_never

from meshd.base.errors import StoreError
from meshd.bundle.eid import Eid
from meshd.bundle.errors import BundleError
from meshd.bundle.forward import forwarded_copy
from meshd.bundle.fragment import fragment, reassemble
from meshd.bundle.record import BundleId, PayloadRef
from meshd.bundle.scan import scan_untrusted
from meshd.link.identity import LinkId
from meshd.node import commands as cmd
from meshd.node.agent import Agent
from meshd.node.events import (
    BundleFragmented,
    BundleReassembled,
    BundlesStored,
    DataUnreadable,
    Event,
    StoredRow,
    StoringFailed,
)

OutgoingRow = tuple[BundleId, Sequence[bytes | memoryview]]
Fields = Mapping[str, str | int | float | bool | None]


class StorePort(Protocol):
    """The durable store, as the engine sees it."""

    def submit(self, group: cmd.WriteStore) -> None:
        """Queue one atomic group; `Engine.stored` is called when its commit has ended."""

    def read(self, ref: PayloadRef) -> bytes:
        """An encoded bundle; StoreError when it can't be read or is damaged."""


class BearerPort(Protocol):
    """One bearer, as the engine sees it."""

    def accept_transfers(self, link: LinkId, transfers: Sequence[object]) -> None:
        """Acknowledge transfers whose bundles are durable."""

    def refuse_transfer(self, link: LinkId, transfer: object, retriable: bool, completed: bool, text: str) -> None:
        """Refuse one transfer."""

    def send_bundles(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """Transmit these, in order; each comes back as acknowledged or failed."""

    def send_urgent(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """The same for what must not wait long behind a transfer that is under way."""


class ApplicationPort(Protocol):
    """The applications, as the engine sees them."""

    def part_accepted(self, submission: int) -> None:
        """The next part may come."""

    def submission_accepted(self, submission: int, message: BundleId) -> None:
        """The message is durable."""

    def submission_refused(self, submission: int, code: str, text: str) -> None:
        """Nothing of the message is kept."""

    def deliver(self, message: cmd.DeliverMessage) -> None:
        """Offer a message to a receiver."""


class Engine:
    """Runs one agent."""

    def __init__(
        self,
        agent: Agent,
        own_node: Eid,
        *,
        store: StorePort,
        bearers: Mapping[str, BearerPort],
        applications: ApplicationPort,
        report: Callable[[str, Fields], None],
        set_timer: Callable[[float | None], None],
        clock: Callable[[], float],
    ) -> None:
        self.agent = agent
        self._own_node = own_node
        self._store = store
        self._bearers = bearers
        self._applications = applications
        self._report = report
        self._set_timer = set_timer
        self._clock = clock
        self._events: deque[Event] = deque()
        self._is_running = False

    def dispatch(self, event: Event) -> None:
        """Have the agent decide on this event and execute what it wants, now or after the event under way."""
        self._events.append(event)
        if self._is_running:
            return
        self._is_running = True
        try:
            while self._events:
                for command in self.agent.handle(self._events.popleft(), self._clock()):
                    self._execute(command)
        finally:
            self._is_running = False

    def stored(self, results: Sequence[tuple[cmd.WriteStore, Sequence[StoredRow] | StoreError]]) -> None:
        """Groups whose commit has ended, in the order in which they were submitted."""
        durable: list[StoredRow] = []
        for group, result in results:
            if isinstance(result, StoreError):
                if durable:
                    self.dispatch(BundlesStored(durable))
                    durable = []
                self.dispatch(StoringFailed([record.id for record in group.puts], str(result)))
            else:
                durable.extend(result)
        if durable:
            self.dispatch(BundlesStored(durable))

    def _execute(self, command: cmd.Command) -> None:
        match command:
            case cmd.WriteStore():
                self._store.submit(command)
            case cmd.AcceptTransfers(link, transfers):
                self._bearers[link.bearer].accept_transfers(link, transfers)
            case cmd.SendBundles():
                self._send(command)
            case cmd.Report(kind, fields):
                self._report(kind, fields)
            case cmd.WakeAt(at):
                self._set_timer(at)
            case cmd.RefuseTransfer(link, transfer, retriable, completed, text):
                self._bearers[link.bearer].refuse_transfer(link, transfer, retriable, completed, text)
            case cmd.FragmentBundle(bundle, payload, size_max_bytes):
                self._fragment(bundle, payload, size_max_bytes)
            case cmd.ReassembleBundle(bundle, fragments, payloads):
                self._reassemble(bundle, fragments, payloads)
            case cmd.DeliverMessage():
                self._applications.deliver(command)
            case cmd.PartAccepted(submission):
                self._applications.part_accepted(submission)
            case cmd.SubmissionAccepted(submission, message):
                self._applications.submission_accepted(submission, message)
            case cmd.SubmissionRefused(submission, code, text):
                self._applications.submission_refused(submission, code, text)
            case _:
                assert_never(command)

    def _fragment(self, bundle: BundleId, payload: PayloadRef, size_max_bytes: int) -> None:
        try:
            data = payload.inline or self._store.read(payload)
            self.dispatch(BundleFragmented(bundle, fragment(data, scan_untrusted(data), size_max_bytes)))
        except StoreError as error:
            self.dispatch(DataUnreadable([bundle], str(error)))
        except BundleError as error:
            self.dispatch(BundleFragmented(bundle, (), str(error)))

    def _reassemble(self, bundle: BundleId, fragments: Sequence[BundleId], payloads: Sequence[PayloadRef]) -> None:
        pieces: list[bytes] = []
        for piece, payload in zip(fragments, payloads, strict=True):
            try:
                pieces.append(self._store.read(payload))
            except StoreError as error:
                self.dispatch(DataUnreadable([piece], str(error)))
                self.dispatch(BundleReassembled(bundle, None))
                return
        try:
            self.dispatch(BundleReassembled(bundle, reassemble(pieces)))
        except BundleError as error:
            self.dispatch(BundleReassembled(bundle, None, str(error)))

    def _send(self, command: cmd.SendBundles) -> None:
        """Patch each bundle's extension blocks as it leaves (RFC 9171 section 5.4 step 5) and hand it over."""
        now_ms = self.agent.dtn_ms(self._clock())
        rows: list[OutgoingRow] = []
        unreadable: list[BundleId] = []
        reason = ""
        for row in command.rows:
            try:
                data = row.payload.inline or self._store.read(row.payload)
            except StoreError as error:
                unreadable.append(row.id)
                reason = str(error)
                continue
            header = row.header or scan_untrusted(data)
            residence_ms = max(0, now_ms - row.received_ms)
            chunks = forwarded_copy(data, header, own_node=self._own_node, residence_ms=residence_ms, is_own=row.is_own)
            rows.append((row.id, chunks))
        if rows:
            bearer = self._bearers[command.link.bearer]
            (bearer.send_urgent if command.is_urgent else bearer.send_bundles)(command.link, rows)
        if unreadable:
            self.dispatch(DataUnreadable(unreadable, reason))
