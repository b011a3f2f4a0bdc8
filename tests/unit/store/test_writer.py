# SPDX-License-Identifier: Apache-2.0
"""The writer: natural group commit, answers in order, a clean end."""

import threading
from collections.abc import Sequence

import msgspec
import pytest
import trio
import trio.testing

from meshd.base.errors import StoreError
from meshd.bundle.record import BundleId, PayloadRef
from meshd.node.commands import WriteStore
from meshd.node.state import CREATION_NOTE
from meshd.store import writer as writer_module
from meshd.store.disk_pace import DiskPace
from meshd.store.segment_log import SegmentLog
from meshd.store.stream_writer import StreamOutcome
from meshd.store.writer import Outcome, StoreWriter
from tests.sim.fake_disk import FakeDisk
from tests.unit.store.store_samples import (
    NOW_MS,
    bundle_id,
    commit,
    delete,
    fake_disk,
    open_log,
    put,
    record,
    sequences,
)

TIMEOUT_S = 30


class _Answers:
    """Collects what the writer answers; a trio task may wait for a number of groups."""

    def __init__(self) -> None:
        self.batches: list[list[Outcome]] = []
        self.troubles: list[StoreError] = []
        self.damaged: list[tuple[list[BundleId], str]] = []
        self.streamed: list[StreamOutcome] = []
        self._changed = trio.Event()
        self.threads: set[int] = set()

    def on_done(self, outcomes: Sequence[Outcome]) -> None:
        self.threads.add(threading.get_ident())
        self.batches.append(list(outcomes))
        self._wake()

    def on_streamed(self, outcomes: Sequence[StreamOutcome]) -> None:
        self.streamed += outcomes
        self._wake()

    def on_trouble(self, error: StoreError) -> None:
        self.troubles.append(error)
        self._wake()

    def on_damaged(self, ids: Sequence[BundleId], text: str) -> None:
        self.damaged.append((list(ids), text))
        self._wake()

    async def wait_for_damage(self) -> None:
        with trio.fail_after(TIMEOUT_S):
            while not self.damaged:
                await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for batch in self.batches for outcome in batch]

    async def wait(self, groups: int) -> list[Outcome]:
        with trio.fail_after(TIMEOUT_S):
            while len(self.outcomes) < groups:
                await self._changed.wait()
        return self.outcomes


class _SlowDisk(FakeDisk):
    """A sync waits until the test lets it go on."""

    def __init__(self, base: FakeDisk) -> None:
        super().__init__(base._rng)
        self.syncing = threading.Event()
        self.may_sync = threading.Event()

    def datasync(self, name: str) -> None:
        self.syncing.set()
        assert self.may_sync.wait(TIMEOUT_S)
        super().datasync(name)


def _writer(log: SegmentLog, answers: _Answers, *, may_wait: bool = True) -> StoreWriter:
    return StoreWriter(
        log,
        answers.on_done,
        answers.on_trouble,
        lambda: NOW_MS,
        answers.on_streamed,
        answers.on_damaged,
        may_wait=may_wait,
    )


def _is_full(writer: StoreWriter) -> bool:
    return writer.is_full


async def test_answers_come_in_order_and_durable(nursery: trio.Nursery) -> None:
    """In the trio thread, with the rows of each group."""
    disk = fake_disk()
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    groups = [put(number) for number in range(50)]
    for group in groups:
        writer.submit(group)
    outcomes = await answers.wait(50)
    assert [group for group, _ in outcomes] == groups
    assert [rows[0].id for _, rows in outcomes if not isinstance(rows, StoreError)] == [bundle_id(n) for n in range(50)]
    assert answers.threads == {threading.get_ident()}
    disk.crash()
    assert sequences(open_log(disk)[1]) == set(range(50))
    await writer.close()


async def test_what_nobody_waits_for_is_held_back_until_something_urgent_comes(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sync of a deletion does not stand in the way of the next bundle; much of it, or the end, is not held back."""
    monkeypatch.setattr(writer_module, "LAZY_S", 10 * TIMEOUT_S)
    monkeypatch.setattr(writer_module, "LAZY_GROUPS_MAX", 3)
    log, _ = open_log(fake_disk())
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    writer.submit(put(1))
    await answers.wait(1)
    writer.submit(delete(1))
    writer.submit(put(2))
    await answers.wait(3)
    assert [len(batch) for batch in answers.batches] == [1, 2]
    for number in (3, 4, 5):
        writer.submit(delete(number))
    await answers.wait(6)
    writer.submit(delete(6))
    await writer.close()
    assert len(answers.outcomes) == 7


async def test_what_queues_during_a_sync_is_one_batch(nursery: trio.Nursery) -> None:
    """One sync for the first, one for all that came meanwhile; nothing is answered before its sync."""
    disk = _SlowDisk(fake_disk())
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    writer.submit(put(0))
    assert await trio.to_thread.run_sync(disk.syncing.wait, TIMEOUT_S)
    for number in range(1, 40):
        writer.submit(put(number))
    await trio.testing.wait_all_tasks_blocked()
    assert answers.batches == []
    disk.may_sync.set()
    await answers.wait(40)
    assert [len(batch) for batch in answers.batches] == [1, 39]
    assert disk.syncs == 2
    await writer.close()


async def test_close_writes_what_is_queued() -> None:
    """`run` ends by itself then, and every group was answered."""
    disk = fake_disk()
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: writer.run(task_status=task_status))
        for number in range(20):
            writer.submit(put(number))
        with trio.fail_after(TIMEOUT_S):
            await writer.close()
        assert len(answers.outcomes) == 20


async def test_what_comes_after_the_end_is_refused_quietly() -> None:
    """A late failure makes the agent note its notes again: nothing is written, and only who waits is answered."""
    disk = fake_disk()
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: writer.run(task_status=task_status))
        await writer.close()
    writer.submit(WriteStore((), (), (), {"late": b"1"}))
    late = put(1)
    writer.submit(late)
    assert answers.outcomes == [], "nobody is answered from within submit"
    [(group, error)] = await answers.wait(1)
    assert group is late
    assert isinstance(error, StoreError)
    assert "closed" in str(error)
    assert sequences(open_log(disk)[1]) == set()


async def test_an_idle_store_is_searched_for_damage(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is damaged is told in words, and by its ID; the thread goes on."""
    monkeypatch.setattr(writer_module, "SCRUB_INTERVAL_S", 0.01)
    disk = fake_disk()
    log, _ = open_log(disk)
    rows = [commit(log, put(number))[0][0] for number in range(3)]
    disk.flip_bit("0000000001.seg", rows[1].payload.offset)
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    await answers.wait_for_damage()
    [(ids, text)] = answers.damaged
    assert ids == [bundle_id(1)]
    assert text == f"0000000001.seg: the bundle at offset {rows[1].payload.offset} is damaged"
    assert [str(trouble) for trouble in answers.troubles] == [f"the store is damaged: {text}; check the disk"]
    writer.submit(put(7))
    [(_, result)] = await answers.wait(1)
    assert not isinstance(result, StoreError)
    await writer.close()


async def test_cancelling_also_writes_what_is_queued() -> None:
    """Nothing submitted is lost by the way in which the daemon stops."""
    disk = fake_disk()
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: writer.run(task_status=task_status))
        for number in range(20):
            writer.submit(put(number))
        nursery.cancel_scope.cancel()
    assert len(answers.outcomes) == 20
    assert sequences(open_log(disk)[1]) == set(range(20))


async def test_it_says_when_it_is_full(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """By bytes and by count; far beyond, puts are refused, deletions never."""
    monkeypatch.setattr(writer_module, "QUEUE_MAX_BYTES", 1000)
    monkeypatch.setattr(writer_module, "QUEUE_MAX_GROUPS", 5)
    disk = _SlowDisk(fake_disk())
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    writer.submit(put(0, data=bytes(999)))
    assert not _is_full(writer)
    writer.submit(put(1))
    assert _is_full(writer)
    writer.submit(put(2, data=bytes(3000)))
    writer.submit(put(3))
    writer.submit(delete(0))
    await answers.wait(1)
    [(group, result)] = answers.outcomes
    assert group.puts[0].id == bundle_id(3)
    assert "queue is full" in str(result)
    disk.may_sync.set()
    await answers.wait(5)
    assert not _is_full(writer)
    for number in range(10, 15):
        writer.submit(put(number))
    assert _is_full(writer)
    await answers.wait(10)
    await writer.close()


async def test_a_refused_deletion_is_tried_again(nursery: trio.Nursery) -> None:
    """A failing disk fails puts at once; deletions and notes wait for the next batch."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    disk.fail_datasync_in = 1
    writer.submit(WriteStore(deletes=delete(1).deletes, notes={"n": b"old"}))
    writer.submit(put(2))
    [(failed, error), *_] = await answers.wait(1)
    if failed.puts:
        assert isinstance(error, StoreError)
        writer.submit(put(3))
    await answers.wait(2)
    await writer.close()
    disk.crash()
    _, recovered = open_log(disk)
    assert 1 not in sequences(recovered)
    assert recovered.notes == {"n": b"old"}


async def test_a_deletion_that_never_succeeds_is_answered_at_the_end() -> None:
    """With its error; closing doesn't hang."""
    disk = fake_disk()
    log, _ = open_log(disk)
    disk.fail["create"] = 5
    answers = _Answers()
    writer = _writer(log, answers)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: writer.run(task_status=task_status))
        writer.submit(delete(1))
        with trio.fail_after(TIMEOUT_S):
            await writer.close()
    [(_, error)] = answers.outcomes
    assert isinstance(error, StoreError)


async def test_our_own_fault_ends_the_task() -> None:
    """An assertion in the thread is not swallowed: the daemon ends, nobody waits for ever."""
    log, _ = open_log(fake_disk())
    answers = _Answers()
    writer = _writer(log, answers)
    without_bytes = msgspec.structs.replace(record(1), payload=PayloadRef(-1, 0, 6))

    async def submit_it() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: writer.run(task_status=task_status))
            writer.submit(WriteStore(puts=[without_bytes]))

    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(TIMEOUT_S):
        await submit_it()
    assert caught.group_contains(AssertionError, match="a put comes with its bundle")


async def test_dead_segments_go_by_themselves(nursery: trio.Nursery) -> None:
    """After the batch in which their last bundle was deleted; trouble with that is reported, not fatal."""
    disk = fake_disk()
    log, _ = open_log(disk, segment_bytes=100)
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    writer.submit(put(1, data=bytes(200)))
    await answers.wait(1)
    writer.submit(delete(1, until_ms=0))
    writer.submit(put(2, data=bytes(200)))
    await answers.wait(3)
    writer.submit(put(3))
    await answers.wait(4)
    disk.fail["unlink"] = 13
    writer.submit(delete(2, until_ms=0))
    writer.submit(put(4))
    await answers.wait(6)
    await writer.close()
    assert "0000000001.seg" not in disk.names()
    assert "can't be removed" in str(answers.troubles[0])


def test_a_retry_gives_way_to_newer_notes() -> None:
    """Only the names that were written since are left out."""
    group = WriteStore(notes={"a": b"1", "b": b"1"})
    assert writer_module._without_notes(group, set()) is group
    assert writer_module._without_notes(group, {"a"}).notes == {"b": b"1"}


class _QuickPace(DiskPace):
    """A disk that is always worth waiting for."""

    def may_wait(self, now: float) -> bool:
        return True


async def test_a_quick_disk_is_waited_for(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small group on an idle store is durable and answered when `submit` returns, together with what lay about."""
    monkeypatch.setattr(writer_module, "DiskPace", _QuickPace)
    disk = fake_disk()
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    writer.submit(put(1))
    assert [len(batch) for batch in answers.batches] == [1]
    writer.submit(delete(1))
    assert len(answers.batches) == 1, "nobody waits for a deletion"
    writer.submit(put(2))
    assert [len(batch) for batch in answers.batches] == [1, 2]
    disk.crash()
    assert sequences(open_log(disk)[1]) == {2}
    await writer.close()


async def test_what_was_prepared_is_committed_at_once(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where that is sure: in a segment that is there, and while no creation timestamp waits to be reserved."""
    monkeypatch.setattr(writer_module, "DiskPace", _QuickPace)
    disk = fake_disk()
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    assert not writer.prepare(put(1)), "there is no segment yet"
    writer.submit(put(1))
    writer.submit(delete(1))
    group = put(2)
    assert writer.prepare(group)
    assert len(answers.batches) == 1
    writer.submit(group)
    assert [len(batch) for batch in answers.batches] == [1, 2], "with what lay about"
    assert not writer.prepare(put(3, data=bytes(writer_module.SMALL_MAX_BYTES + 1)))
    assert not writer.prepare(WriteStore(put(3).puts, notes={CREATION_NOTE: b""}))
    writer.submit(WriteStore(notes={CREATION_NOTE: b""}))
    assert not writer.prepare(put(3)), "the reservation is not durable"
    writer.submit(put(3))
    disk.capacity_bytes = 0
    assert not writer.prepare(put(4)), "the disk is full"
    await writer.close()
    assert not writer.prepare(put(5)), "it is closed"


async def test_nobody_waits_where_it_is_forbidden(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """However quick the disk is: an order of silence could come meanwhile."""
    monkeypatch.setattr(writer_module, "DiskPace", _QuickPace)
    log, _ = open_log(fake_disk())
    answers = _Answers()
    writer = _writer(log, answers, may_wait=False)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    writer.submit(put(1))
    assert answers.batches == []
    assert [group.puts[0].id for group, _ in await answers.wait(1)] == [bundle_id(1)]
    await writer.close()


async def test_what_is_large_or_comes_behind_others_goes_to_the_thread(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "DiskPace", _QuickPace)
    monkeypatch.setattr(writer_module, "SMALL_MAX_BYTES", 100)
    log, _ = open_log(fake_disk())
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    writer.submit(put(1, data=bytes(101)))
    assert answers.batches == []
    writer.submit(put(2))
    assert answers.batches == [], "answers come in order"
    assert [group.puts[0].id for group, _ in await answers.wait(2)] == [bundle_id(1), bundle_id(2)]
    await writer.close()
