# SPDX-License-Identifier: Apache-2.0
"""Large bundles that come in pieces: visible with their record only, readable in pieces, gone with one unlink."""

import errno
import random
from pathlib import Path

import msgspec
import pytest

from meshd.base.errors import StoreError
from meshd.bundle.record import PayloadRef
from meshd.node.commands import WriteStore
from meshd.store import stream_handle
from meshd.store.errors import StoreFullError
from meshd.store.large_file import BLOCK_BYTES, stored_bytes
from meshd.store.segment_log import SegmentLog
from meshd.store.stream_handle import StreamHandle, StreamState
from tests.sim.fake_disk import FakeDisk, PowerCut
from tests.unit.store.store_samples import (
    NOW_MS,
    commit,
    delete,
    fake_disk,
    open_log,
    put,
    real_disk,
    record,
    sequences,
)

DATA = random.Random(7).randbytes(3 * BLOCK_BYTES + 1234)


def _stream(log: SegmentLog, data: bytes = DATA, piece_bytes: int = 50_000) -> PayloadRef:
    handle = log.begin_stream(len(data))
    for start in range(0, len(data), piece_bytes):
        handle.append(memoryview(data)[start : start + piece_bytes])
    return handle.finish()


def _large(number: int, ref: PayloadRef, held: bool = False) -> WriteStore:
    return WriteStore(puts=[msgspec.structs.replace(record(number, held=held), size_bytes=ref.size_bytes, payload=ref)])


def _tidy(log: SegmentLog) -> None:
    while log.reclaim(NOW_MS):
        pass


def _files(disk: FakeDisk) -> list[str]:
    return sorted(name for name in disk.names() if name.endswith(".big"))


@pytest.mark.parametrize("size_bytes", [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, len(DATA)])
@pytest.mark.parametrize("piece_bytes", [30_000, BLOCK_BYTES, 1 << 20])
def test_it_comes_back_whole_and_in_pieces(size_bytes: int, piece_bytes: int) -> None:
    """Whatever the sizes of what was appended and of what is asked for; after a crash, too."""
    disk = fake_disk()
    log, _ = open_log(disk)
    data = DATA[:size_bytes]
    ref = _stream(log, data, piece_bytes)
    [[row]] = commit(log, _large(1, ref))
    assert row.payload == ref
    disk.crash()
    log, recovered = open_log(disk)
    [back] = recovered.records
    assert back.payload == ref
    assert log.read(ref) == data
    assert log.usage.live_bytes == size_bytes
    rng = random.Random(size_bytes)
    for _ in range(50):
        offset, length = rng.randrange(size_bytes + 3), rng.randrange(1, 2 * BLOCK_BYTES)
        assert log.read_piece(ref, offset, length) == data[offset : offset + length]


def test_a_real_disk_and_streams_that_take_turns(tmp_path: Path) -> None:
    """Several streams between ordinary groups."""
    disk = real_disk(tmp_path)
    log, _ = open_log(disk)
    bodies = [random.Random(number).randbytes(300_000 + number) for number in range(3)]
    handles = [log.begin_stream() for _ in bodies]
    for start in range(0, 310_000, 31_000):
        for handle, data in zip(handles, bodies, strict=True):
            handle.append(data[start : start + 31_000])
        commit(log, put(100 + start))
    refs = [handle.finish() for handle in handles]
    commit(log, *[_large(number, ref) for number, ref in enumerate(refs)])
    assert [log.read(ref) for ref in refs] == bodies
    disk.close()
    disk = real_disk(tmp_path)
    log, recovered = open_log(disk)
    assert {item.id.sequence for item in recovered.records} == {0, 1, 2, *range(100, 310_100, 31_000)}
    assert [log.read(ref) for ref in refs] == bodies
    commit(log, delete(0, 1, 2, until_ms=0))
    _tidy(log)
    assert not [name for name in disk.names() if name.endswith(".big")]
    disk.close()


def test_what_is_not_finished_or_not_committed_is_gone_after_a_crash() -> None:
    """Pieces alone are nothing."""
    disk = fake_disk()
    log, _ = open_log(disk)
    log.begin_stream().append(DATA)
    _stream(log)
    commit(log, put(1))
    assert len(_files(disk)) == 2
    disk.crash()
    log, recovered = open_log(disk)
    assert sequences(recovered) == {1}
    assert not recovered.damage
    assert _files(disk) == []
    assert log.usage.live_bytes == 6


def test_what_is_aborted_or_dropped_frees_its_space() -> None:
    """At the next occasion for tidying up."""
    disk = fake_disk()
    log, _ = open_log(disk)
    handle = log.begin_stream()
    handle.append(DATA)
    assert log.usage.disk_bytes >= 3 * BLOCK_BYTES
    handle.abort()
    assert handle.state is StreamState.ABORTED
    ref = _stream(log)
    log.drop_stream(ref)
    assert log.may_reclaim
    _tidy(log)
    assert _files(disk) == []
    assert log.usage.disk_bytes == 0
    [result] = log.commit([_large(1, ref)])
    assert "was not finished" in str(result)


def test_a_ref_is_committed_once() -> None:
    """And only as it was finished."""
    log, _ = open_log(fake_disk())
    ref = _stream(log)
    other = msgspec.structs.replace(ref, size_bytes=ref.size_bytes - 1)
    results = log.commit([_large(1, other), _large(1, ref)])
    assert [isinstance(result, StoreError) for result in results] == [True, False]
    [again] = log.commit([_large(2, ref)])
    assert isinstance(again, StoreError)


def test_it_is_deleted_and_stays_away() -> None:
    """The file goes after the deletion is durable, and a crash in between brings nothing back."""
    for seed in range(20):
        disk = fake_disk(seed)
        log, _ = open_log(disk)
        commit(log, _large(1, _stream(log)))
        commit(log, delete(1, until_ms=0))
        assert log.usage.live_bytes == 0
        if seed % 2:
            _tidy(log)
        disk.crash()
        log, recovered = open_log(disk)
        assert sequences(recovered) == set()
        assert not recovered.damage
        assert _files(disk) == []


def test_its_record_moves_and_it_does_not() -> None:
    """Compaction of the segment with its record leaves the file alone; deletion afterwards still finds it."""
    disk = fake_disk()
    log, _ = open_log(disk, 20_000)
    ref = _stream(log)
    commit(log, _large(1, ref), put(*range(10, 30), data=bytes(1000)))
    commit(log, put(40), delete(*range(10, 30), until_ms=0))
    commit(log, put(41))
    _tidy(log)
    assert "0000000002.seg" not in disk.names()
    assert log.read(ref) == DATA
    disk.crash()
    log, recovered = open_log(disk)
    assert sequences(recovered) == {1, 40, 41}
    assert log.read(ref) == DATA
    commit(log, delete(1, until_ms=0))
    _tidy(log)
    disk.crash()
    assert sequences(open_log(disk)[1]) == {40, 41}
    assert _files(disk) == []


def test_a_number_is_not_used_again_while_a_record_names_it() -> None:
    """Its file is gone, its deleted record is still in a segment: a new segment must not be taken for the file."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    commit(log, _large(2, _stream(log)))
    commit(log, delete(2, until_ms=0))
    _tidy(log)
    for number in (3, 4):
        log, recovered = open_log(disk)
        assert not recovered.damage
        [[row]] = commit(log, put(number))
        assert log.read(row.payload) == b"bundle"
    _, recovered = open_log(disk)
    assert not recovered.damage
    assert sequences(recovered) == {1, 3, 4}
    assert "0000000002.seg" not in disk.names()


def test_a_held_one_is_forgotten_by_a_restart() -> None:
    """As any part of a submission that was never finished."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, _large(1, _stream(log), held=True), put(2))
    assert sequences(open_log(disk)[1]) == {2}
    assert _files(disk) == []


def test_damage_is_found_in_the_piece_that_has_it() -> None:
    """The other pieces are still right; a block in another's place is damage as well."""
    disk = fake_disk()
    log, _ = open_log(disk)
    ref = _stream(log)
    commit(log, _large(1, ref))
    [name] = _files(disk)
    disk.flip_bit(name, ref.offset + stored_bytes(BLOCK_BYTES) + 5)
    assert log.read_piece(ref, 0, BLOCK_BYTES) == DATA[:BLOCK_BYTES]
    assert log.read_piece(ref, 2 * BLOCK_BYTES, 9) == DATA[2 * BLOCK_BYTES :][:9]
    with pytest.raises(StoreError, match=rf"{name} is damaged at offset {BLOCK_BYTES}"):
        log.read_piece(ref, BLOCK_BYTES - 1, 2)
    with pytest.raises(StoreError, match="is damaged"):
        log.read(ref)


@pytest.mark.parametrize("loss", ["missing", "short", "header"])
def test_a_lost_file_is_reported(loss: str) -> None:
    """The record alone is no bundle."""
    disk = fake_disk()
    log, _ = open_log(disk)
    ref = _stream(log)
    commit(log, _large(1, ref), put(2))
    [name] = _files(disk)
    if loss == "missing":
        disk.unlink(name)
    elif loss == "short":
        disk.truncate(name, disk.size_bytes(name) - 1)
    else:
        disk.flip_bit(name, 3)
    _, recovered = open_log(disk)
    assert sequences(recovered) == {2}
    assert len(recovered.damage) == 1
    assert recovered.damage[0].startswith(name)


def test_a_full_disk_refuses_before_and_in_the_middle() -> None:
    """The stream is over then, its space is free again, and so is the way for others."""
    disk = fake_disk()
    log, _ = open_log(disk)
    disk.capacity_bytes = 200_000
    with pytest.raises(StoreFullError, match="4096 are kept"):
        log.begin_stream(200_000)
    handle = log.begin_stream()
    handle.append(DATA[:100_000])
    with pytest.raises(StoreFullError, match="a large bundle can't be stored"):
        handle.append(DATA)
    assert handle.state is StreamState.ABORTED
    _tidy(log)
    assert disk.free_bytes() == 200_000
    commit(log, put(1))


@pytest.mark.parametrize("call", ["create", "append", "datasync"])
def test_a_failing_disk_ends_the_stream(call: str) -> None:
    """A failed sync loses the whole bundle: it is never tried again."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))

    def stream() -> StreamHandle:
        handle = log.begin_stream()
        handle.append(DATA)
        handle.finish()
        return handle

    if call == "datasync":
        disk.fail_datasync_in = 1
    else:
        disk.fail[call] = errno.EIO
    with pytest.raises(StoreError, match=r"can't write 0000000002\.big: EIO"):
        stream()
    disk.fail = {}
    _tidy(log)
    assert _files(disk) == []
    assert stream().state is StreamState.FINISHED
    commit(log, put(2))


def test_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open ones and finished ones that nobody committed."""
    monkeypatch.setattr("meshd.store.segment_log.STREAMS_MAX", 2)
    log, _ = open_log(fake_disk())
    _stream(log)
    handle = log.begin_stream()
    with pytest.raises(StoreError, match="at most 2 large bundles"):
        log.begin_stream()
    handle.abort()
    log.begin_stream()


def test_long_streams_are_synced_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the last sync, which others wait for, is short."""
    monkeypatch.setattr(stream_handle, "SYNC_BYTES", BLOCK_BYTES)
    disk = fake_disk()
    log, _ = open_log(disk)
    _stream(log, piece_bytes=BLOCK_BYTES)
    assert disk.syncs == 4


@pytest.mark.parametrize("seed", range(40))
def test_power_fails_while_streaming(seed: int) -> None:
    """The bundle is there as a whole exactly when its commit was answered, or not at all."""
    disk = fake_disk(seed)
    log, _ = open_log(disk)
    commit(log, put(1))
    disk.power_cut_in = seed % 9 + 1
    answered = False
    try:
        commit(log, _large(2, _stream(log, piece_bytes=BLOCK_BYTES)))
        answered = True
        commit(log, put(3))
    except PowerCut:
        pass
    disk.power_cut_in = 0
    disk.crash()
    log, recovered = open_log(disk)
    assert not recovered.damage
    assert sequences(recovered) >= ({1, 2} if answered else {1})
    for item in recovered.records:
        assert log.read(item.payload) == (DATA if item.id.sequence == 2 else b"bundle")
    assert len(_files(disk)) == (2 in sequences(recovered))
