# SPDX-License-Identifier: Apache-2.0
"""Large bundles by way of the writer: written in turn with the groups, answered like one, gone when they fail."""

import trio
from msgspec import structs

from meshd.base.errors import StoreError
from meshd.bundle.record import BundleRecord, PayloadRef
from meshd.link.identity import LinkId
from meshd.node.commands import AbortStream, BeginStream, FinishStream, StreamCommand, WritePiece
from meshd.store.file_names import large_number
from meshd.store.segment_log import SegmentLog
from meshd.store.stream_writer import StreamWriter
from tests.sim.fake_disk import FakeDisk
from tests.unit.store.store_samples import bundle_id, delete, fake_disk, open_log, put, record, sequences
from tests.unit.store.test_writer import _Answers, _writer

DATA = bytes(range(256)) * 1000
LINK = LinkId("lan0", bundle_id(1).source)


def large(sequence: int) -> BundleRecord:
    """The record of a bundle with DATA as its bytes."""
    made = record(sequence)
    return structs.replace(made, size_bytes=len(DATA), payload=PayloadRef(-1, 0, len(DATA)))


def pieces(stream: int) -> list[WritePiece]:
    """All of DATA."""
    return [WritePiece(stream, LINK, "t", DATA[start : start + 100_000]) for start in range(0, len(DATA), 100_000)]


def large_files(disk: FakeDisk) -> list[str]:
    return [name for name in disk.names() if large_number(name) is not None]


async def test_it_is_there_with_its_record_and_later_groups_come_later(nursery: trio.Nursery) -> None:
    disk = fake_disk()
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    writer.stream(BeginStream(1, LINK, "t", len(DATA)))
    for piece in pieces(1):
        writer.stream(piece)
    writer.submit(put(5))
    writer.stream(FinishStream(1, large(7)))
    writer.submit(delete(5))
    writer.submit(put(9))
    outcomes = await answers.wait(4)
    rows = [row for _, rows in outcomes if not isinstance(rows, StoreError) for row in rows]
    assert {row.id for row in rows} == {bundle_id(5), bundle_id(7), bundle_id(9)}
    (place,) = [row.payload for row in rows if row.id == bundle_id(7)]
    assert log.read_piece(place, 70_000, 1000) == DATA[70_000:71_000]
    assert [type(command).__name__ for command, _ in answers.streamed] == [
        "BeginStream",
        *["WritePiece"] * len(pieces(1)),
        "FinishStream",
    ]
    assert not any(error for _, error in answers.streamed)
    assert not writer.is_full
    disk.crash()
    assert sequences(open_log(disk)[1]) == {7, 9}
    await writer.close()


async def test_what_is_under_way_at_the_end_is_forgotten(nursery: trio.Nursery) -> None:
    disk = fake_disk()
    log, _ = open_log(disk)
    answers = _Answers()
    writer = _writer(log, answers)
    await nursery.start(lambda task_status: writer.run(task_status=task_status))
    writer.stream(BeginStream(1, LINK, "t", len(DATA)))
    writer.stream(pieces(1)[0])
    await writer.close()
    log, recovered = open_log(disk)
    assert recovered.records == []
    while log.reclaim(0):
        pass
    assert large_files(disk) == []


def test_one_that_could_not_begin_fails_once_and_is_not_finished() -> None:
    disk = fake_disk()
    log, _ = open_log(disk)
    streams = StreamWriter(log)
    commands: list[StreamCommand] = [BeginStream(1, LINK, "t", 1 << 60), *pieces(1), FinishStream(1, large(7))]
    outcomes, groups = streams.run(commands)
    assert groups == []
    assert [error is not None for _, error in outcomes] == [True, *[False] * len(pieces(1)), True]
    assert "full" in str(outcomes[0][1])
    assert "could not be written" in str(outcomes[-1][1])


def test_an_aborted_one_leaves_no_file() -> None:
    disk = fake_disk()
    log, _ = open_log(disk)
    streams = StreamWriter(log)
    outcomes, groups = streams.run([BeginStream(1, LINK, "t", 10), pieces(1)[0], AbortStream(1), AbortStream(2)])
    assert groups == []
    assert not any(error for _, error in outcomes)
    while log.reclaim(0):
        pass
    assert large_files(disk) == []


def test_one_whose_record_fails_is_dropped() -> None:
    disk = fake_disk()
    log: SegmentLog
    log, _ = open_log(disk)
    streams = StreamWriter(log)
    _, groups = streams.run([BeginStream(1, LINK, "t", len(DATA)), *pieces(1), FinishStream(1, large(7))])
    streams.drop_failed([(groups[0], StoreError("no"))])
    while log.reclaim(0):
        pass
    assert large_files(disk) == []
