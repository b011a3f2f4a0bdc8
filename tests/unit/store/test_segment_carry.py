# SPDX-License-Identifier: Apache-2.0
"""Unlinking segments whose bundles are gone, and what has to outlive them."""

import errno
import random
from collections.abc import Sequence

import pytest

from meshd.base.errors import StoreError
from meshd.node.commands import WriteStore
from meshd.store.segment_log import SegmentLog
from tests.sim.fake_disk import FakeDisk
from tests.unit.store.store_samples import (
    HOUR_MS,
    NOW_MS,
    bundle_id,
    commit,
    delete,
    fake_disk,
    known,
    open_log,
    put,
    sequences,
)

SEGMENT_BYTES = 1000


class _CountingDisk(FakeDisk):
    """Counts what is written, and what of it while a segment is being reclaimed."""

    written_bytes = 0
    carried_bytes = 0
    is_reclaiming = False

    def append(self, name: str, buffers: Sequence[bytes | memoryview]) -> None:
        """Count."""
        size_bytes = sum(map(len, buffers))
        self.written_bytes += size_bytes
        self.carried_bytes += size_bytes if self.is_reclaiming else 0
        super().append(name, buffers)


def _log(disk: FakeDisk) -> SegmentLog:
    return open_log(disk, segment_bytes=SEGMENT_BYTES)[0]


def _fill(log: SegmentLog, *numbers: int) -> None:
    """Put bundles that fill a segment each."""
    for number in numbers:
        commit(log, put(number, data=bytes(SEGMENT_BYTES)))


def _may_reclaim(log: SegmentLog) -> bool:
    return log.may_reclaim


def _reclaim_all(log: SegmentLog, now_ms: int = NOW_MS) -> int:
    count = 0
    while log.reclaim(now_ms):
        count += 1
    return count


def test_a_dead_segment_goes_and_its_memory_stays() -> None:
    """Deletions that lay in it are still remembered after a power failure."""
    disk = fake_disk()
    log = _log(disk)
    _fill(log, 1)
    commit(log, delete(1), put(2, data=bytes(SEGMENT_BYTES)))
    commit(log, delete(2), put(3))
    assert _reclaim_all(log) == 2
    assert log.usage.segments == 1
    assert disk.names() == ["0000000003.seg"]
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == {3}
    assert known(recovered).keys() == {1, 2, 3}


def test_the_current_segment_is_never_unlinked() -> None:
    """It is still written."""
    log = _log(fake_disk())
    commit(log, put(1), delete(1, until_ms=0))
    assert not log.reclaim(NOW_MS)
    commit(log, put(2))


def test_a_deletion_outlives_its_segment_while_the_put_exists() -> None:
    """Even one that need not be remembered: without it a restart would bring the bundle back."""
    disk = fake_disk()
    log = _log(disk)
    commit(log, put(1), put(2, data=bytes(SEGMENT_BYTES)))
    commit(log, delete(1, until_ms=0), put(3, data=bytes(SEGMENT_BYTES)))
    commit(log, delete(3, until_ms=0), put(4))
    assert _reclaim_all(log) == 1
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == {2, 4}


def test_unlinks_are_durable_after_a_restart() -> None:
    """A killed run's unlinks may still be undone: a start has to settle them before it forgets about those segments."""
    for seed in range(20):
        disk = fake_disk(seed)
        log = _log(disk)
        commit(log, put(1), put(2, data=bytes(SEGMENT_BYTES)))
        commit(log, delete(1, 2, until_ms=0), put(3, data=bytes(SEGMENT_BYTES)))
        commit(log, delete(3, until_ms=0), put(4))
        assert log.reclaim(NOW_MS)
        log = _log(disk)
        assert log.reclaim(NOW_MS)
        disk.crash()
        assert sequences(open_log(disk)[1]) == {4}


def test_a_release_outlives_its_segment() -> None:
    """Without it a restart would forget the bundle."""
    disk = fake_disk()
    log = _log(disk)
    commit(log, put(1, held=True, data=bytes(SEGMENT_BYTES)))
    commit(log, WriteStore(releases=[bundle_id(1)]), put(3, data=bytes(SEGMENT_BYTES)))
    commit(log, delete(3, until_ms=0), put(4))
    assert _reclaim_all(log) == 1
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == {1, 4}


def test_notes_outlive_their_segment() -> None:
    """Newest values, and deletions while an older value may be in some file."""
    disk = fake_disk()
    log = _log(disk)
    commit(log, WriteStore(notes={"gone": b"1", "kept": b"1", "late": b"1"}), put(1, data=bytes(SEGMENT_BYTES)))
    commit(log, WriteStore(notes={"gone": b"", "kept": b"2"}), put(2, data=bytes(SEGMENT_BYTES)))
    commit(log, delete(2, until_ms=0), WriteStore(notes={"late": b"3"}), put(3))
    assert _reclaim_all(log) == 1
    for _ in range(2):
        disk.crash()
        log, recovered = open_log(disk, SEGMENT_BYTES)
        assert recovered.notes == {"kept": b"2", "late": b"3"}
        commit(log, WriteStore())


def test_expired_memory_is_not_carried_on() -> None:
    """What need not be remembered any more goes with its segment."""
    disk = fake_disk()
    log = _log(disk)
    _fill(log, 1)
    commit(log, delete(1, until_ms=NOW_MS + HOUR_MS), put(2, data=bytes(SEGMENT_BYTES)))
    commit(log, delete(2, until_ms=0), put(3))
    assert _reclaim_all(log, NOW_MS + 2 * HOUR_MS) == 2
    now_ms = NOW_MS + 2 * HOUR_MS
    assert known(SegmentLog(disk).recover(now_ms)).keys() == {3}
    commit(log, put(4, data=bytes(SEGMENT_BYTES)))
    commit(log, delete(3, until_ms=0), delete(4, until_ms=0), put(5))
    assert _reclaim_all(log, now_ms) == 1
    assert known(SegmentLog(disk).recover()).keys() == {5}


def test_memory_alone_is_not_carried_round_and_round() -> None:
    """A segment that is mostly memory stays until it expires: carrying costs at most as much as it frees."""
    disk = _CountingDisk(random.Random(1))
    log = _log(disk)
    until_ms = NOW_MS + 10 * HOUR_MS
    for start in range(0, 2000, 10):
        commit(log, put(*range(start, start + 10)), delete(*range(start, start + 10), until_ms=until_ms))
        disk.is_reclaiming = True
        _reclaim_all(log)
        disk.is_reclaiming = False
    assert disk.carried_bytes <= disk.written_bytes - disk.carried_bytes, "memory is written over and over again"
    assert log.usage.disk_bytes < 3 * 2000 * 57, "dead bundles are not removed"
    assert len(known(open_log(disk)[1])) == 2000
    _reclaim_all(log, until_ms + 2 * HOUR_MS)
    assert log.usage.segments <= 1


def test_when_carrying_fails_the_segment_stays() -> None:
    """It is tried again later; nothing is lost meanwhile."""
    disk = fake_disk()
    log = _log(disk)
    _fill(log, 1)
    commit(log, delete(1), put(2, data=bytes(SEGMENT_BYTES)))
    commit(log, delete(2), put(3))
    _reclaim_all(log)
    commit(log, delete(3), put(4, data=bytes(SEGMENT_BYTES)))
    commit(log, put(5))
    disk.fail["unlink"] = errno.EACCES
    commit(log, delete(4))
    with pytest.raises(StoreError, match=r"0000000003.seg can't be removed: EACCES"):
        log.reclaim(NOW_MS)
    disk.fail = {}
    assert _may_reclaim(log)
    assert _reclaim_all(log) == 1
    assert not _may_reclaim(log)
    _, recovered = open_log(disk)
    assert sequences(recovered) == {5}
    assert known(recovered).keys() == {1, 2, 3, 4, 5}
