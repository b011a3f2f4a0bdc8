# SPDX-License-Identifier: Apache-2.0
"""Executes the agent's commands through a few ports, and brings the results back as events.

Synchronous and without I/O of its own: the daemon gives it the real store, bearers and clock; the simulation gives it a
fake disk, virtual links and virtual time. Events that arise while another one is being handled wait their turn.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, assert_never

from meshd.base.errors import StoreError
from meshd.base.limits import FRONT_SIZE_MAX_BYTES, INLINE_SIZE_MAX_BYTES
from meshd.bundle.eid import Eid
from meshd.bundle.errors import BundleError
from meshd.bundle.forward import forwarded_copy, forwarded_front
from meshd.bundle.fragment import ADU_SIZE_MAX_BYTES, fragment, reassemble
from meshd.bundle.piecewise import scan_front_untrusted
from meshd.bundle.record import BundleId, PayloadRef
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.stored_chunk import Chunks, StoredChunk
from meshd.daemon.large_bundles import LargeJoiner, cut_large
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
    StoringBegun,
    StoringFailed,
    StreamFailed,
)

OutgoingRow = tuple[BundleId, Chunks]
Fields = Mapping[str, str | int | float | bool | None]


class StorePort(Protocol):
    """The durable store, as the engine sees it."""

    def prepare(self, group: cmd.WriteStore) -> bool:
        """True: `submit` of this group, which has to be the next call, will commit it before it returns, and no
        creation timestamp waits for that.
        """

    def submit(self, group: cmd.WriteStore) -> None:
        """Queue one atomic group; `Engine.stored` is called when its commit has ended."""

    def stream(self, command: cmd.StreamCommand) -> None:
        """Queue what comes of a large bundle; `Engine.streamed` is called when it is written, `Engine.stored` when the
        bundle that was finished is committed.
        """

    def read(self, ref: PayloadRef) -> bytes:
        """An encoded bundle; StoreError when it can't be read or is damaged."""

    def read_piece(self, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        """A part of it; no more of a large bundle is read than that."""


class BearerPort(Protocol):
    """One bearer, as the engine sees it."""

    def accept_transfers(self, link: LinkId, transfers: Sequence[object]) -> None:
        """Acknowledge transfers whose bundles are durable."""

    def release_transfer(self, link: LinkId, transfer: object, size_bytes: int) -> None:
        """So much of a transfer that comes in pieces is written: as much more may come."""

    def refuse_transfer(self, link: LinkId, transfer: object, retriable: bool, completed: bool, text: str) -> None:
        """Refuse one transfer."""

    def send_bundles(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """Transmit these, in order; each comes back as acknowledged or failed."""

    def send_urgent(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """The same for what must not wait long behind a transfer that is under way."""

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        """This neighbour is silent for so many seconds (0: not known), and sent to blind; None: it is not."""


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
        inline_max_bytes: int = INLINE_SIZE_MAX_BYTES,
    ) -> None:
        """Stored bundles above `inline_max_bytes` are never read whole; only the simulation wishes for another size."""
        self._inline_max_bytes = inline_max_bytes
        self.agent = agent
        self._own_node = own_node
        self._store = store
        self._bearers = bearers
        self._applications = applications
        self._report = report
        self._set_timer = set_timer
        self._clock = clock
        self._events: deque[Event] = deque()
        self._joiner = LargeJoiner(store, self.dispatch)
        self._reports: list[cmd.Report] = []
        """Told when all events are handled: what people read must not delay what a neighbour or application waits for.
        """
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
            reports, self._reports = self._reports, []
            for each in reports:
                self._report(each.kind, each.fields)

    def stored(self, results: Sequence[tuple[cmd.WriteStore, Sequence[StoredRow] | StoreError]]) -> None:
        """Groups whose commit has ended, in the order in which they were submitted."""
        durable: list[StoredRow] = []
        for group, result in results:
            if isinstance(result, StoreError):
                if durable:
                    self.dispatch(BundlesStored(durable))
                    durable = []
                self._failed(group, result)
            else:
                durable.extend(result)
                self._tell(group.tells)
        if durable:
            self.dispatch(BundlesStored(durable))

    def streamed(self, results: Sequence[tuple[cmd.StreamCommand, StoreError | None]]) -> None:
        """What became of large bundles on their way into the store."""
        for command, error in results:
            match command:
                case cmd.WritePiece(stream, None):
                    self._joiner.written(stream, error)
                case cmd.BeginStream(stream, None) if error is not None:
                    self._joiner.written(stream, error)
                case cmd.WritePiece(stream, LinkId() as link, transfer, data):
                    if error is not None:
                        self.dispatch(StreamFailed(stream, str(error)))
                    self._bearers[link.bearer].release_transfer(link, transfer, len(data))
                case cmd.BeginStream(stream) if error is not None:
                    self.dispatch(StreamFailed(stream, str(error)))
                case cmd.FinishStream(_, record) if error is not None:
                    self.dispatch(StoringFailed([record.id], str(error)))
                case _:
                    pass

    def _tell(self, reports: Sequence[cmd.Report]) -> None:
        if self._is_running:
            self._reports += reports
            return
        for each in reports:
            self._report(each.kind, each.fields)

    def _failed(self, group: cmd.WriteStore, error: StoreError) -> None:
        """What has no puts failed for good: the store has tried it again until its end."""
        ids = [record.id for record in group.puts]
        if ids:
            self.dispatch(StoringFailed(ids, str(error), list(group.notes), group.tells))
        else:
            self.dispatch(StoringFailed((), str(error)))

    def _execute(self, command: cmd.Command) -> None:
        match command:
            case cmd.WriteStore(puts):
                if len(puts) == 1 and puts[0].previous_node is None and self._store.prepare(command):
                    for departure in self.agent.handle(StoringBegun(puts[0].id), self._clock()):
                        self._execute(departure)
                self._store.submit(command)
            case cmd.AcceptTransfers(link, transfers):
                self._bearers[link.bearer].accept_transfers(link, transfers)
            case cmd.SendBundles():
                self._send(command)
            case cmd.WritePiece() | cmd.BeginStream() | cmd.FinishStream() | cmd.AbortStream():
                self._store.stream(command)
            case cmd.Report():
                self._reports.append(command)
            case cmd.WakeAt(at):
                self._set_timer(at)
            case cmd.RefuseTransfer(link, transfer, retriable, completed, text):
                self._bearers[link.bearer].refuse_transfer(link, transfer, retriable, completed, text)
            case cmd.FragmentBundle():
                self._fragment(command)
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
            case cmd.NeighbourFallsSilent(links, for_s):
                for link in links:
                    self._bearers[link.bearer].set_silent(link.neighbour, for_s)
            case _:
                assert_never(command)

    def _fragment(self, wish: cmd.FragmentBundle) -> None:
        try:
            if wish.payload.inline is None and wish.payload.size_bytes > self._inline_max_bytes:
                self.dispatch(cut_large(self._store, wish))
                return
            data = wish.payload.inline or self._store.read(wish.payload)
            pieces = fragment(data, scan_untrusted(data), wish.size_max_bytes, wish.first_max_bytes)
            self.dispatch(BundleFragmented(wish.id, pieces))
        except StoreError as error:
            self.dispatch(DataUnreadable([wish.id], str(error)))
        except BundleError as error:
            self.dispatch(BundleFragmented(wish.id, (), str(error)))

    def _reassemble(self, bundle: BundleId, fragments: Sequence[BundleId], payloads: Sequence[PayloadRef]) -> None:
        if sum(each.size_bytes for each in payloads) > min(self._inline_max_bytes, ADU_SIZE_MAX_BYTES):
            self._joiner.join(bundle, fragments, payloads)
            return
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
        own_node = self._own_node
        for row in command.rows:
            data, header = row.inline, row.header
            if data is None:
                try:
                    if row.payload.size_bytes > self._inline_max_bytes:
                        rows.append((row.id, self._stored_copy(row, max(now_ms - row.received_ms, 0))))
                        continue
                    data = self._store.read(row.payload)
                except StoreError as error:
                    unreadable.append(row.id)
                    reason = str(error)
                    continue
            residence_ms = now_ms - row.received_ms
            if residence_ms < 0:
                residence_ms = 0
            rows.append(
                (row.id, forwarded_copy(data, header or scan_untrusted(data), own_node, residence_ms, row.is_own))
            )
        if rows:
            bearer = self._bearers[command.link.bearer]
            (bearer.send_urgent if command.is_urgent else bearer.send_bundles)(command.link, rows)
        if unreadable:
            self.dispatch(DataUnreadable(unreadable, reason))

    def _stored_copy(self, row: cmd.SendRow, residence_ms: int) -> Chunks:
        """The same of a large bundle: only its front is read now, the rest as it goes out. Errors: StoreError."""
        ref, read_piece = row.payload, self._store.read_piece
        front = read_piece(ref, 0, FRONT_SIZE_MAX_BYTES)
        header = scan_front_untrusted(front)
        patched = forwarded_front(front, header, self._own_node, residence_ms, row.is_own)
        bulk = StoredChunk(partial(read_piece, ref), header.payload_block_offset, ref.size_bytes)
        return [patched, bulk]
