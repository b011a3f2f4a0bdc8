# SPDX-License-Identifier: Apache-2.0
"""Natural group commit: one thread writes and syncs whatever queued up while the last sync ran. There is no timer for
what somebody waits for. A small group that somebody waits for, on an idle store with a good disk, is written at once
in the trio thread instead: `disk_pace.py` says when that is allowed.

Groups come from the trio thread by `submit` and are answered there, in order, a whole batch at a time. What the answers
mean is left to the daemon, how groups become durable to the segment log.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import trio

from meshd.base.errors import StoreError
from meshd.bundle.record import BundleId
from meshd.node.commands import FinishStream, StreamCommand, WriteStore
from meshd.node.state import CREATION_NOTE
from meshd.store.disk_pace import DiskPace
from meshd.store.scrub import SCRUB_BYTES_PER_S, ScrubReport
from meshd.store.segment_log import Rows, SegmentLog
from meshd.store.stream_writer import StreamOutcome, StreamWriter

QUEUE_MAX_GROUPS: Final = 16_384
QUEUE_MAX_BYTES: Final = 64 * 1024 * 1024
"""Bundles submitted and not answered yet. Above either limit `is_full` holds and readers have to pause."""
HARD_FACTOR: Final = 4
"""A group with puts that comes when the queue is this many times too long is refused at once."""
RETRY_MAX_GROUPS: Final = 16_384
"""Groups without puts that the disk refused and that wait to be tried again."""
RECLAIM_INTERVAL_S: Final = 60.0
"""How often an idle store looks whether a segment can go."""
SCRUB_INTERVAL_S: Final = 10.0
"""How often an idle store is searched for damage, for as many bytes as SCRUB_BYTES_PER_S allows in that time."""
SCRUB_REST_S: Final = 600.0
"""From the end of one round through the store to the beginning of the next: a small one need not be read all day."""
SCRUB_STEP_BYTES: Final = 256 * 1024
"""Searched at a time: a bundle that comes meanwhile waits for no more."""

LAZY_S: Final = 0.01
LAZY_GROUPS_MAX: Final = 256
"""Groups without puts, which nobody waits for, are held back so long, or until so many are there: what comes after them
and is waited for would have to wait for their sync.
"""
SMALL_MAX_BYTES: Final = 16 * 1024
SMALL_MAX_GROUPS: Final = 32
"""A commit above either is never waited for in the trio thread, and says nothing about the disk's pace."""

_T = TypeVar("_T")

Outcome = tuple[WriteStore, Rows | StoreError]
"""A group, and where its puts lie or why it is not stored."""


class StoreWriter:
    """The writer thread of one log, as a trio task: `await nursery.start(writer.run)`.

    A group without puts (deletions, releases, notes) is not answered with an error while the disk only refuses for now:
    it is tried again before the next batch, so that a full disk forgets no deletion.

    Args:
        on_done: called in the trio thread with the groups that are answered, in the order of their submission except
            for those that had to be tried again; also from within `submit`.
        on_trouble: called in the trio thread with what went wrong in tidying up, or was found damaged; the store goes
            on.
        now_ms: DTN time; called in the writer thread.
        on_streamed: called in the trio thread with what became of pieces of large bundles.
        on_damaged: called in the trio thread with bundles that can't be read any more, and what was found.
        may_wait: the trio thread may wait for small commits of a quick disk.
    """

    def __init__(
        self,
        log: SegmentLog,
        on_done: Callable[[Sequence[Outcome]], None],
        on_trouble: Callable[[StoreError], None],
        now_ms: Callable[[], int],
        on_streamed: Callable[[Sequence[StreamOutcome]], None],
        on_damaged: Callable[[Sequence[BundleId], str], None],
        *,
        may_wait: bool = True,
    ) -> None:
        self._log = log
        self._on_streamed = on_streamed
        self._streams = StreamWriter(log)
        self._stream_queue: list[StreamCommand] = []
        self._stream_commands = 0
        self._on_done = on_done
        self._on_trouble = on_trouble
        self._on_damaged = on_damaged
        self._now_ms = now_ms
        self._pace = DiskPace()
        self._may_wait = may_wait
        self._log_use = threading.Lock()
        self._wakeup = threading.Condition()
        self._is_lazing = False
        self._lazy_until = 0.0
        self._queue: list[WriteStore] = []
        self._prepared: list[WriteStore] = []
        """What `submit` is about to commit; the log is held for it."""
        self._has_puts = False
        self._is_closing = False
        self._retries: deque[WriteStore] = deque()
        self._look_at = 0.0
        self._scrub_at = time.monotonic() + SCRUB_INTERVAL_S
        self._groups = 0
        self._bytes = 0
        self._token: trio.lowlevel.TrioToken | None = None
        self._close_asked = trio.Event()
        self._ended = trio.Event()

    @property
    def is_full(self) -> bool:
        """True while more is waiting than the limits allow: take nothing new from links and applications."""
        return self._bytes >= QUEUE_MAX_BYTES or self._groups >= QUEUE_MAX_GROUPS

    def prepare(self, group: WriteStore) -> bool:
        """True: `submit` of this group, which has to be the next call, commits it before it returns; nothing that is
        written then reserves creation timestamps, so the group's own are durable already. Trio thread only.
        """
        with self._wakeup:
            groups = [*self._queue, group]
            if (
                self._close_asked.is_set()
                or self._retries
                or any(CREATION_NOTE in each.notes for each in groups)
                or self._bytes + _size_bytes(group) > SMALL_MAX_BYTES
                or not self._may_commit_here()
            ):
                return False
            if not self._log.is_ready(group):
                self._log_use.release()
                return False
            self._prepared, self._queue = groups, []
            return True

    def submit(self, group: WriteStore) -> None:
        """Take a group; its answer comes through `on_done`, perhaps at once. Trio thread only.

        After `close` nothing is written any more: puts are refused, the rest, which nobody waits for, is forgotten.
        """
        if self._close_asked.is_set():
            if group.puts:
                self._refuse(group, "the store is closed: the daemon stops")
            return
        size_bytes = _size_bytes(group)
        if group.puts and self._is_overrun():
            self._refuse(group, "the store's queue is full: the disk is slower than what comes in")
            return
        self._groups += 1
        self._bytes += size_bytes
        if self._prepared and self._prepared[-1] is group:
            groups, self._prepared = self._prepared, []
        else:
            groups = self._enqueue(group)
        if groups:
            self._commit_here(groups)

    def _enqueue(self, group: WriteStore) -> list[WriteStore]:
        """What is to be committed here at once; else it is left to the thread."""
        with self._wakeup:
            if not self._queue:
                self._lazy_until = time.monotonic() + LAZY_S
            self._queue.append(group)
            if group.puts and self._may_commit_here():
                groups, self._queue = self._queue, []
                return groups
            self._has_puts |= bool(group.puts)
            if not self._is_lazing or self._is_urgent():
                self._wakeup.notify()
        return []

    def stream(self, command: StreamCommand) -> None:
        """Take what comes of a large bundle, which is written in its turn: before every group that comes later. What is
        finished is answered like a group. Trio thread only.
        """
        if self._close_asked.is_set():
            return  # the daemon stops, and its sender still has it
        self._stream_commands += 1
        self._groups += isinstance(command, FinishStream)
        with self._wakeup:
            self._stream_queue.append(command)
            self._wakeup.notify()

    def _may_commit_here(self) -> bool:
        """True: nothing else is under way, waiting for the disk will be short, and the log is held for it."""
        if not self._may_wait:
            return False
        is_small = self._bytes <= SMALL_MAX_BYTES and self._groups <= SMALL_MAX_GROUPS
        is_alone = len(self._queue) == self._groups and not self._stream_commands
        return is_small and is_alone and self._pace.may_wait(time.monotonic()) and self._log_use.acquire(blocking=False)

    def _commit_here(self, groups: list[WriteStore]) -> None:
        """In the trio thread, holding the log."""
        began = time.monotonic()
        try:
            answered = self._commit(groups)
        finally:
            self._log_use.release()
        self._pace.note_wait(began, time.monotonic())
        self._deliver(answered)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until `close`; also when cancelled, everything submitted is written and answered first."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_thread)
                task_status.started()
                try:
                    await self._close_asked.wait()
                finally:
                    self._close_asked.set()
                    with self._wakeup:
                        self._is_closing = True
                        self._wakeup.notify()
        finally:
            self._ended.set()

    async def close(self) -> None:
        """Write and answer what is queued, then end `run`."""
        self._close_asked.set()
        await self._ended.wait()

    async def _run_thread(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._work, limiter=trio.CapacityLimiter(1))

    def _is_overrun(self) -> bool:
        return self._bytes >= HARD_FACTOR * QUEUE_MAX_BYTES or self._groups >= HARD_FACTOR * QUEUE_MAX_GROUPS

    def _refuse(self, group: WriteStore, text: str) -> None:
        """Answer later, so that nobody is answered from within `submit`."""
        trio.lowlevel.current_trio_token().run_sync_soon(self._on_done, [(group, StoreError(text))])

    def _work(self) -> None:
        """The thread."""
        while (taken := self._take()) is not None:
            commands, groups = taken
            if commands or groups or self._retries:
                with self._log_use:
                    streamed, finished = self._streams.run(commands)
                    answered = self._commit([*finished, *groups])
                    if finished:
                        self._streams.drop_failed(answered)
                if streamed:
                    self._to_trio(self._deliver_streamed, streamed)
                self._answer(answered)
            if self._log.may_reclaim or time.monotonic() >= self._look_at:
                self._reclaim()
            if time.monotonic() >= self._scrub_at:
                self._scrub()
        self._streams.close()
        self._give_up_retries()

    def _take(self) -> tuple[list[StreamCommand], list[WriteStore]] | None:
        """All that is queued; empty when it is time to tidy up, None when it is time to end."""
        with self._wakeup:
            if not self._queue and not self._stream_queue and not self._is_closing:
                self._wakeup.wait(SCRUB_INTERVAL_S)
            self._is_lazing = True
            while self._queue and not self._is_urgent() and (rest_s := self._lazy_until - time.monotonic()) > 0:
                self._wakeup.wait(rest_s)
            self._is_lazing = False
            groups, self._queue, self._has_puts = self._queue, [], False
            commands, self._stream_queue = self._stream_queue, []
            return None if self._is_closing and not groups and not commands else (commands, groups)

    def _is_urgent(self) -> bool:
        """Somebody waits for what is queued, or it is much."""
        return self._is_closing or self._has_puts or bool(self._stream_queue) or len(self._queue) >= LAZY_GROUPS_MAX

    def _commit(self, groups: list[WriteStore]) -> list[Outcome]:
        """Write these and what has to be tried again; whom there is an answer for."""
        if self._retries:
            groups = [*self._retries, *groups]
            self._retries.clear()
        began = time.monotonic()
        outcomes = list(zip(groups, self._log.commit(groups), strict=True))
        if len(groups) <= SMALL_MAX_GROUPS and sum(map(_size_bytes, groups)) <= SMALL_MAX_BYTES:
            self._pace.note(began, time.monotonic())
        answered: list[Outcome] = []
        newer_notes: set[str] = set()
        for group, result in reversed(outcomes):
            if not isinstance(result, StoreError):
                newer_notes.update(group.notes)
            elif not group.puts and len(self._retries) < RETRY_MAX_GROUPS:
                self._retries.appendleft(_without_notes(group, newer_notes))
                continue
            answered.append((group, result))
        answered.reverse()
        return answered

    def _give_up_retries(self) -> None:
        if self._retries:
            groups = list(self._retries)
            self._answer(list(zip(groups, self._log.commit(groups), strict=True)))

    def _reclaim(self) -> None:
        self._look_at = time.monotonic() + RECLAIM_INTERVAL_S
        try:
            with self._log_use:
                while self._log.reclaim(self._now_ms()) and not self._queue and not self._stream_queue:
                    pass
        except StoreError as error:
            self._to_trio(self._on_trouble, error)

    def _scrub(self) -> None:
        """Search for damage until it is enough for this time, or there is something to write."""
        is_round_done = False
        left = int(SCRUB_INTERVAL_S * SCRUB_BYTES_PER_S)
        while left > 0 and not is_round_done and not self._queue and not self._stream_queue:
            try:
                with self._log_use:
                    report = self._log.scrub(SCRUB_STEP_BYTES)
            except StoreError as error:
                self._to_trio(self._on_trouble, error)
                break
            left -= SCRUB_STEP_BYTES
            is_round_done = report.is_round_done
            if report.problems:
                self._to_trio(self._tell_damage, report)
        self._scrub_at = time.monotonic() + (SCRUB_REST_S if is_round_done else SCRUB_INTERVAL_S)

    def _tell_damage(self, report: ScrubReport) -> None:
        """In the trio thread."""
        first, more = report.problems[0], len(report.problems) - 1
        text = f"{first}, and {more} more problems" if more else first
        self._on_trouble(StoreError(f"the store is damaged: {text}; check the disk"))
        if report.damaged:
            self._on_damaged([row.id for row in report.damaged], text)

    def _answer(self, outcomes: list[Outcome]) -> None:
        if outcomes:
            self._to_trio(self._deliver, outcomes)

    def _to_trio(self, function: Callable[[_T], None], argument: _T) -> None:
        assert self._token is not None
        self._token.run_sync_soon(function, argument)

    def _deliver_streamed(self, outcomes: list[StreamOutcome]) -> None:
        """In the trio thread. What can't be finished has no group: it is answered here."""
        self._stream_commands -= len(outcomes)
        self._groups -= sum(isinstance(command, FinishStream) for command, error in outcomes if error is not None)
        self._on_streamed(outcomes)

    def _deliver(self, outcomes: list[Outcome]) -> None:
        """In the trio thread."""
        self._groups -= len(outcomes)
        self._bytes -= sum([_size_bytes(group) for group, _ in outcomes])
        self._on_done(outcomes)


def _without_notes(group: WriteStore, newer: set[str]) -> WriteStore:
    """A group to be tried again must not overwrite what a later one has written."""
    if newer.isdisjoint(group.notes):
        return group
    return replace(group, notes={name: value for name, value in group.notes.items() if name not in newer})


def _size_bytes(group: WriteStore) -> int:
    return sum([record.size_bytes for record in group.puts if record.payload.inline is not None])
