# SPDX-License-Identifier: Apache-2.0
"""The segment log: commits, reading, space, failing disks. Crashes at random are in test_crashes.py."""

import errno
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from meshd.base.errors import StoreError
from meshd.bundle.record import PayloadRef
from meshd.node.commands import WriteStore
from meshd.store.contents import NOTE_SIZE_MAX_BYTES
from meshd.store.errors import StoreFullError
from meshd.store.record_format import encode_segment_header
from meshd.store.segment_log import SegmentLog
from tests.sim.fake_disk import FakeDisk
from tests.unit.store.store_samples import (
    bundle_id,
    commit,
    delete,
    fake_disk,
    known,
    open_log,
    put,
    real_disk,
    record,
    sequences,
)


def test_a_commit_is_durable_with_one_sync() -> None:
    """Many groups, one sync; all of them survive a power failure at once."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1, 2), put(3), delete(2))
    assert disk.syncs == 1
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == {1, 3}


def test_it_works_on_a_real_disk(tmp_path: Path) -> None:
    """The same log, real files, small and large bundles."""
    disk = real_disk(tmp_path)
    log, _ = open_log(disk, segment_bytes=300_000)
    sizes = (1, 31_000, 33_000, 200_000, 700_000)
    data = {number: bytes([number]) * size for number, size in enumerate(sizes)}
    rows = [commit(log, put(number, data=data[number]))[0][0] for number in data]
    assert [log.read(row.payload) for row in rows] == list(data.values())
    disk.close()
    disk = real_disk(tmp_path)
    log, recovered = open_log(disk)
    assert {item.id.sequence: log.read(item.payload) for item in recovered.records} == data
    assert log.usage.live_bytes == sum(sizes)
    disk.close()


def test_rows_say_where_the_bundle_is() -> None:
    """The rows carry no bytes; reading by them gives the bundle."""
    log, _ = open_log(fake_disk())
    [rows] = commit(log, WriteStore(puts=[record(1, b"one"), record(2, b"two")]))
    assert [row.id for row in rows] == [bundle_id(1), bundle_id(2)]
    assert [row.payload.inline for row in rows] == [None, None]
    assert [log.read(row.payload) for row in rows] == [b"one", b"two"]
    assert log.read(PayloadRef(-1, 0, 3, b"mem")) == b"mem"


def test_a_flipped_bit_is_found_when_reading() -> None:
    """That bundle alone is unreadable, its neighbours are not."""
    disk = fake_disk()
    log, _ = open_log(disk)
    [[first, second]] = commit(log, put(1, 2, data=b"x" * 100))
    disk.flip_bit("0000000001.seg", first.payload.offset + 50)
    with pytest.raises(StoreError, match=r"offset \d+ of 0000000001.seg is damaged"):
        log.read(first.payload)
    assert log.read(second.payload) == b"x" * 100


def test_reading_what_is_gone_or_fails() -> None:
    """A store error, whatever the reason."""
    disk = fake_disk()
    log, _ = open_log(disk)
    [[row]] = commit(log, put(1))
    with pytest.raises(StoreError, match="can't be read: ENOENT"):
        log.read(PayloadRef(9, 0, 5))
    with pytest.raises(StoreError, match="damaged"):
        log.read(PayloadRef(1, 1 << 30, 5))
    disk.fail["read"] = errno.EIO
    with pytest.raises(StoreError, match="can't be read: EIO"):
        log.read(row.payload)


def test_a_bundle_is_taken_once() -> None:
    """A second put of a live ID fails with its whole group, and nothing else does."""
    log, _ = open_log(fake_disk())
    results = log.commit([put(1), put(2, 1), put(3, 3), put(4)])
    assert [isinstance(result, StoreError) for result in results] == [False, True, True, False]
    assert "in the store already" in str(results[1])
    assert log.usage.bundles == 2


def test_a_bundle_may_come_back_after_its_deletion() -> None:
    """Also within one batch; the newest one counts after a restart."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1, data=b"old"), delete(1, until_ms=0), put(1, data=b"new"))
    disk.crash()
    log, recovered = open_log(disk)
    assert [log.read(item.payload) for item in recovered.records] == [b"new"]


def test_put_and_deleted_in_one_group() -> None:
    """The changes of a group are done in the order puts, deletes."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, WriteStore(puts=put(1, 2).puts, deletes=delete(1).deletes))
    assert log.usage.bundles == 1
    _, recovered = open_log(disk)
    assert sequences(recovered) == {2}
    assert known(recovered).keys() == {1, 2}


def test_held_bundles_need_their_release() -> None:
    """Without a durable release a restart forgets them; with it they are like any other."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1, 2, held=True), WriteStore(releases=[bundle_id(2)]))
    log, recovered = open_log(disk)
    assert sequences(recovered) == {2}
    assert known(recovered).keys() == {2}
    assert not recovered.records[0].held
    assert log.usage.bundles == 1


def test_a_release_is_about_one_put() -> None:
    """One that found nothing to release must not bring back a bundle that a restart forgot before."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1, held=True))
    log, _ = open_log(disk)
    commit(log, WriteStore(releases=[bundle_id(1)]))
    _, recovered = open_log(disk)
    assert sequences(recovered) == set()


def test_notes_newest_wins_and_empty_deletes() -> None:
    """Across restarts."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, WriteStore(notes={"a": b"1", "b": b"1"}), WriteStore(notes={"a": b"2", "c": b"3"}))
    commit(log, WriteStore(notes={"b": b""}))
    _, recovered = open_log(disk)
    assert recovered.notes == {"a": b"2", "c": b"3"}


def test_notes_are_bounded(set_limit: Callable[[str, int], None]) -> None:
    """In number and in size; a group beyond is refused as a whole."""
    set_limit("meshd.store.batch.NOTE_NAMES_MAX", 2)
    log, _ = open_log(fake_disk())
    results = log.commit(
        [
            WriteStore(notes={"a": b"1", "b": b"1"}),
            WriteStore(puts=put(1).puts, notes={"c": b"1"}),
            WriteStore(notes={"a": bytes(NOTE_SIZE_MAX_BYTES + 1)}),
            WriteStore(notes={"a": b"2"}),
        ]
    )
    assert [str(result) for result in results] == [
        "[]",
        "the store holds at most 2 notes",
        "the note a has 65537 bytes, at most 65536 are allowed",
        "[]",
    ]
    assert log.usage.bundles == 0


def test_a_group_too_large_or_with_huge_numbers_is_refused(set_limit: Callable[[str, int], None]) -> None:
    """Nothing of it is written; the next group is."""
    set_limit("meshd.store.batch.GROUP_SIZE_MAX_BYTES", 100)
    disk = fake_disk()
    log, _ = open_log(disk)
    huge = WriteStore(puts=[msgspec.structs.replace(record(2), received_ms=1 << 70)])
    results = log.commit([put(1, data=bytes(101)), huge, put(3)])
    assert [isinstance(result, StoreError) for result in results] == [True, True, False]
    _, recovered = open_log(disk)
    assert sequences(recovered) == {3}


def test_a_full_segment_is_followed_by_a_new_one() -> None:
    """A batch is cut where the segment is full, and each piece is synced."""
    disk = fake_disk()
    log, _ = open_log(disk, segment_bytes=1000)
    commit(log, *[put(number, data=bytes(400)) for number in range(10)])
    assert len(disk.names()) > 2
    assert log.usage.segments == len(disk.names())
    assert log.usage.disk_bytes == sum(map(disk.size_bytes, disk.names()))
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == set(range(10))


def test_after_a_restart_a_new_segment_begins() -> None:
    """A recovered segment is never written again."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    size_bytes = disk.size_bytes("0000000001.seg")
    log, _ = open_log(disk)
    assert len(disk.names()) == 1
    commit(log, put(2))
    assert sorted(disk.names()) == ["0000000001.seg", "0000000002.seg"]
    assert disk.size_bytes("0000000001.seg") == size_bytes


def test_a_failed_sync_is_never_taken_for_success() -> None:
    """The groups in flight fail; the next go to a new segment; a restart finds exactly what was answered."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    disk.fail_datasync_in = 1
    [failed] = log.commit([put(2)])
    assert isinstance(failed, StoreError)
    assert "EIO" in str(failed)
    assert _is_failed(log)
    assert log.usage.bundles == 1
    commit(log, put(3), delete(1))
    assert not _is_failed(log)
    assert len(disk.names()) == 2
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == {3}
    assert not recovered.damage


def test_when_the_tail_cannot_be_cut_the_next_header_says_so() -> None:
    """What failed does not come back once the next segment is durable, over several restarts."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    disk.fail_datasync_in = 1
    disk.fail["truncate"] = errno.EIO
    assert isinstance(log.commit([put(2)])[0], StoreError)
    del disk.fail["truncate"]
    commit(log, put(3))
    for number in (4, 5):
        log, recovered = open_log(disk)
        assert sequences(recovered) == {1, 3, *range(4, number)}
        assert not recovered.damage
        commit(log, put(number))


def test_a_disk_that_fails_for_good_and_comes_back() -> None:
    """Every commit tries a new segment, says why it fails, and works again when the disk does."""
    disk = fake_disk()
    log, _ = open_log(disk)
    disk.fail = {"create": errno.EIO}
    for number in range(3):
        [result] = log.commit([put(number)])
        assert "can't begin the new segment" in str(result)
        assert _is_failed(log)
    disk.fail = {"append": errno.EIO, "truncate": errno.EIO}
    assert isinstance(log.commit([put(7)])[0], StoreError)
    disk.fail = {}
    commit(log, put(8))
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == {8}


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, r"EROFS \(Read-only file system\); the file system is mounted read-only: remount it writable"),
        (errno.EACCES, r"EACCES \(Permission denied\); the daemon's user has to own the store's directory"),
        (errno.EIO, r"EIO \(Input/output error\); check the disk"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_disk_that_cannot_be_written_says_what_to_do(number: int, remedy: str, is_first: bool) -> None:
    """Nothing is acknowledged; what is there can be read; when it is writable again the store goes on by itself."""
    disk = fake_disk()
    log, _ = open_log(disk)
    if not is_first:
        [[row]] = commit(log, put(1))
    disk.fail = dict.fromkeys(("append", "create", "truncate", "unlink"), number)
    [result] = log.commit([put(2)])
    assert isinstance(result, StoreError)
    assert re.search(remedy, str(result))
    assert _is_failed(log)
    if not is_first:
        assert log.read(row.payload) == b"bundle"
    disk.fail = {}
    commit(log, put(3))
    disk.crash()
    assert sequences(open_log(disk)[1]) == ({3} if is_first else {1, 3})


def test_a_full_disk_refuses_puts_and_takes_deletes() -> None:
    """With the reserve, deletions go through; when there is room again, puts do."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1, data=bytes(5000)))
    disk.capacity_bytes = disk.size_bytes("0000000001.seg") + 4500
    results = log.commit([put(2, data=bytes(1000)), delete(1), put(3, data=bytes(1000))])
    assert isinstance(results[0], StoreFullError)
    assert "4096 are kept for deletions; free some space" in str(results[0])
    assert results[1] == []
    assert isinstance(results[2], StoreFullError)
    assert not _is_failed(log)
    disk.capacity_bytes = 1 << 30
    commit(log, put(2))
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == {2}


def test_enospc_in_the_middle_of_a_write_is_cut_off() -> None:
    """Somebody else took the space: the segment goes on where it was, also when it is a new one."""
    disk = fake_disk()
    log = SegmentLog(disk, reserve_bytes=0)
    log.recover()
    for number in range(3):
        before = disk.capacity_bytes - disk.free_bytes()
        disk.capacity_bytes, capacity_bytes = before + 100, disk.capacity_bytes
        results = log.commit([put(10 + number, data=bytes(80))])
        assert isinstance(results[0], StoreFullError)
        assert "ENOSPC" in str(results[0])
        disk.capacity_bytes = capacity_bytes
        assert disk.capacity_bytes - disk.free_bytes() == before
        commit(log, put(number))
    assert disk.names() == ["0000000001.seg"]
    _, recovered = open_log(disk)
    assert sequences(recovered) == {0, 1, 2}


def test_a_torn_write_at_every_offset() -> None:
    """Wherever the write of a group was torn, the group is not there and the one before is."""
    base = fake_disk()
    log, _ = open_log(base)
    commit(log, put(1, data=b"first"))
    start = base.size_bytes("0000000001.seg")
    group = WriteStore(put(2, 3, data=b"second").puts, delete(1).deletes, [], {"n": b"v"})
    commit(log, group)
    whole = base.read("0000000001.seg", 0, 1 << 20)
    for size_bytes in range(start, len(whole) + 1):
        disk = _disk_with(whole[:size_bytes])
        log, recovered = open_log(disk)
        is_whole = size_bytes == len(whole)
        assert sequences(recovered) == ({2, 3} if is_whole else {1})
        assert recovered.torn_bytes == (0 if is_whole else size_bytes - start)
        assert disk.size_bytes("0000000001.seg") == (size_bytes if is_whole else start)
        assert not recovered.damage
        commit(log, put(4))


def test_a_torn_header_at_every_offset() -> None:
    """A segment whose header never became durable held nothing: it goes, whatever its number."""
    base = fake_disk()
    log, _ = open_log(base)
    commit(log, put(1))
    whole = base.read("0000000001.seg", 0, 1 << 20)
    for size_bytes in range(24):
        disk = _disk_with(whole[:size_bytes])
        log, recovered = open_log(disk)
        assert sequences(recovered) == set()
        assert not recovered.damage
        assert disk.names() == []
        commit(log, put(2))


def test_a_version_of_another_meshd_stops_the_start() -> None:
    """Nothing is dropped or written."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    data = disk.read("0000000001.seg", 0, 1 << 20)
    mixed = _disk_with(encode_segment_header(1, {}, version=9) + data)
    with pytest.raises(StoreError, match="store version 9"):
        open_log(mixed)
    assert mixed.names() == ["0000000001.seg"]


def test_an_unreadable_disk_stops_the_start() -> None:
    """The reason is named."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    disk.fail["read"] = errno.EIO
    with pytest.raises(StoreError, match="the store can't be read: EIO"):
        open_log(disk)


def _is_failed(log: SegmentLog) -> bool:
    return log.usage.is_failed


def _disk_with(segment: bytes) -> FakeDisk:
    disk = fake_disk()
    disk.create("0000000001.seg")
    disk.append("0000000001.seg", [segment])
    disk.datasync("0000000001.seg")
    return disk
