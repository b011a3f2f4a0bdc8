# SPDX-License-Identifier: Apache-2.0
"""Natural group commit: one thread writes and syncs whatever queued up while the last sync ran. There is no timer for
what somebody waits for.

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
from meshd.node.commands import WriteStore
from meshd.store.segment_log import Rows, SegmentLog

QUEUE_MAX_GROUPS: Final = 16_384
QUEUE_MAX_BYTES: Final = 64 * 1024 * 1024
"""Bundles submitted and not answered yet. Above either limit `is_full` holds and readers have to pause."""
HARD_FACTOR: Final = 4
"""A group with puts that comes when the queue is this many times too long is refused at once."""
RETRY_MAX_GROUPS: Final = 16_384
"""Groups without puts that the disk refused and that wait to be tried again."""
RECLAIM_INTERVAL_S: Final = 60.0
"""How often an idle store looks whether a segment can go."""

LAZY_S: Final = 0.01
LAZY_GROUPS_MAX: Final = 256
"""Groups without puts, which nobody waits for, are held back so long, or until so many are there: what comes after them
and is waited for would have to wait for their sync.
"""

_T = TypeVar("_T")

Outcome = tuple[WriteStore, Rows | StoreError]
"""A group, and where its puts lie or why it is not stored."""


class StoreWriter:
    """The writer thread of one log, as a trio task: `await nursery.start(writer.run)`.

    A group without puts (deletions, releases, notes) is not answered with an error while the disk only refuses for now:
    it is tried again before the next batch, so that a full disk forgets no deletion.

    Args:
        on_done: called in the trio thread with the groups that are answered, in the order of their submission except
        for
            those that had to be tried again.
        on_trouble: called in the trio thread with what went wrong in tidying up; the store goes on.
        now_ms: DTN time; called in the writer thread.
    """

    def __init__(
        self,
        log: SegmentLog,
        on_done: Callable[[Sequence[Outcome]], None],
        on_trouble: Callable[[StoreError], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._log = log
        self._on_done = on_done
        self._on_trouble = on_trouble
        self._now_ms = now_ms
        self._wakeup = threading.Condition()
        self._queue: list[WriteStore] = []
        self._has_puts = False
        self._is_closing = False
        self._retries: deque[WriteStore] = deque()
        self._look_at = 0.0
        self._groups = 0
        self._bytes = 0
        self._token: trio.lowlevel.TrioToken | None = None
        self._close_asked = trio.Event()
        self._ended = trio.Event()

    @property
    def is_full(self) -> bool:
        """True while more is waiting than the limits allow: take nothing new from links and applications."""
        return self._bytes >= QUEUE_MAX_BYTES or self._groups >= QUEUE_MAX_GROUPS

    def submit(self, group: WriteStore) -> None:
        """Queue a group; its answer comes through `on_done`. Trio thread only."""
        assert not self._close_asked.is_set(), "the store is closed"
        size_bytes = _size_bytes(group)
        if group.puts and self._is_overrun():
            self._refuse(group)
            return
        self._groups += 1
        self._bytes += size_bytes
        with self._wakeup:
            self._queue.append(group)
            self._has_puts |= bool(group.puts)
            self._wakeup.notify()

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

    def _refuse(self, group: WriteStore) -> None:
        """Answer later, so that nobody is answered from within `submit`."""
        error = StoreError("the store's queue is full: the disk is slower than what comes in")
        trio.lowlevel.current_trio_token().run_sync_soon(self._on_done, [(group, error)])

    def _work(self) -> None:
        """The thread."""
        while (groups := self._take()) is not None:
            if groups or self._retries:
                self._commit(groups)
            if self._log.may_reclaim or time.monotonic() >= self._look_at:
                self._reclaim()
        self._give_up_retries()

    def _take(self) -> list[WriteStore] | None:
        """All that is queued; empty when it is time to tidy up, None when it is time to end."""
        with self._wakeup:
            if not self._queue and not self._is_closing:
                self._wakeup.wait(RECLAIM_INTERVAL_S)
            if self._queue and not self._is_urgent():
                self._wakeup.wait_for(self._is_urgent, LAZY_S)
            groups, self._queue, self._has_puts = self._queue, [], False
            return None if self._is_closing and not groups else groups

    def _is_urgent(self) -> bool:
        """Somebody waits for what is queued, or it is much."""
        return self._is_closing or self._has_puts or len(self._queue) >= LAZY_GROUPS_MAX

    def _commit(self, groups: list[WriteStore]) -> None:
        if self._retries:
            groups = [*self._retries, *groups]
            self._retries.clear()
        outcomes = list(zip(groups, self._log.commit(groups), strict=True))
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
        self._answer(answered)

    def _give_up_retries(self) -> None:
        if self._retries:
            groups = list(self._retries)
            self._answer(list(zip(groups, self._log.commit(groups), strict=True)))

    def _reclaim(self) -> None:
        self._look_at = time.monotonic() + RECLAIM_INTERVAL_S
        try:
            while self._log.reclaim(self._now_ms()) and not self._queue:
                pass
        except StoreError as error:
            self._to_trio(self._on_trouble, error)

    def _answer(self, outcomes: list[Outcome]) -> None:
        if outcomes:
            self._to_trio(self._deliver, outcomes)

    def _to_trio(self, function: Callable[[_T], None], argument: _T) -> None:
        assert self._token is not None
        self._token.run_sync_soon(function, argument)

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
    return sum([record.size_bytes for record in group.puts])
