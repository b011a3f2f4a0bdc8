# SPDX-License-Identifier: Apache-2.0
"""Compaction: what lives in a mostly dead segment moves, everybody still finds it, and no crash doubles or loses it."""

import contextlib
import errno

import pytest

from meshd.base.errors import StoreError
from meshd.bundle.record import PayloadRef
from meshd.node.commands import WriteStore
from meshd.store.compaction import DEAD_FACTOR
from meshd.store.segment_log import SegmentLog
from tests.sim.fake_disk import FakeDisk, PowerCut
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

SEGMENT_BYTES = 20_000
SIZE_BYTES = 1000
FIRST = "0000000001.seg"


def _mostly_dead(disk: FakeDisk, live: int = 2) -> tuple[SegmentLog, dict[int, PayloadRef]]:
    """A log with a full first segment of which so many bundles live, and a second segment."""
    log, _ = open_log(disk, SEGMENT_BYTES)
    numbers = range(19)
    [rows] = commit(log, put(*numbers, data=bytes(SIZE_BYTES)))
    commit(log, put(20, data=bytes(SIZE_BYTES)))
    commit(log, put(21, data=b"second segment"))
    commit(log, delete(*numbers[live:], until_ms=0))
    return log, {row.id.sequence: row.payload for row in rows[:live]}


def _tidy(log: SegmentLog, now_ms: int = NOW_MS) -> int:
    count = 0
    while log.reclaim(now_ms):
        count += 1
    return count


def _relocations(log: SegmentLog) -> int:
    return log.usage.relocations


def test_a_mostly_dead_segment_goes() -> None:
    """Its live bundles are found under their old place, at once and after further moves, and after a restart."""
    disk = fake_disk()
    log, places = _mostly_dead(disk)
    assert DEAD_FACTOR * 3 * SIZE_BYTES < SEGMENT_BYTES
    live_bytes = log.usage.live_bytes
    _tidy(log)
    assert FIRST not in disk.names()
    assert log.usage.live_bytes == live_bytes
    assert [log.read(ref) for ref in places.values()] == [bytes(SIZE_BYTES)] * 2
    assert log.read_piece(places[0], 10, 5) == bytes(5)
    commit(log, put(*range(30, 49), data=bytes(SIZE_BYTES)))
    commit(log, delete(20, *range(30, 49), until_ms=0), put(50))
    _tidy(log)
    assert "0000000002.seg" not in disk.names()
    assert [log.read(ref) for ref in places.values()] == [bytes(SIZE_BYTES)] * 2
    disk.crash()
    log, recovered = open_log(disk)
    assert sequences(recovered) == {0, 1, 21, 50}
    assert [len(log.read(record.payload)) for record in recovered.records if record.id.sequence < 2] == [SIZE_BYTES] * 2


def test_a_segment_that_is_half_dead_stays() -> None:
    """Moving would cost more than it frees."""
    disk = fake_disk()
    log, _ = _mostly_dead(disk, live=8)
    before = log.usage.disk_bytes
    assert _tidy(log) == 0
    assert log.usage.disk_bytes == before


def test_relocations_go_with_their_bundles() -> None:
    """Nothing is remembered of moved bundles that are gone."""
    disk = fake_disk()
    log, places = _mostly_dead(disk)
    _tidy(log)
    assert _relocations(log) == 3
    commit(log, put(*range(30, 49), data=bytes(SIZE_BYTES)))
    commit(log, delete(0, 1, 20, 21, *range(30, 49), until_ms=0), put(50))
    _tidy(log)
    assert _relocations(log) == 0
    with pytest.raises(StoreError, match="can't be read: ENOENT"):
        log.read(places[0])


def test_a_moved_bundle_can_be_deleted_released_and_remembered() -> None:
    """Held bundles stay held until their release, wherever they lie."""
    disk = fake_disk()
    log, _ = open_log(disk, SEGMENT_BYTES)
    commit(log, put(1, 2, 3, data=b"part", held=True), put(*range(10, 29), data=bytes(SIZE_BYTES)))
    commit(log, WriteStore(releases=[bundle_id(1)]), put(40), put(41, data=b"x"))
    commit(log, put(42), delete(*range(10, 29), until_ms=0))
    _tidy(log)
    assert FIRST not in disk.names()
    commit(log, WriteStore(releases=[bundle_id(2)]))
    disk.crash()
    log, recovered = open_log(disk, SEGMENT_BYTES)
    assert sequences(recovered) == {1, 2, 40, 41, 42}
    commit(log, delete(1, until_ms=NOW_MS + 9 * HOUR_MS))
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == {2, 40, 41, 42}
    assert known(recovered)[1] == NOW_MS + 9 * HOUR_MS


def test_an_earlier_put_says_nothing_about_the_later_one() -> None:
    """One that was held and deleted within the same batch must not make the next put of its ID look held."""
    disk = fake_disk()
    log, _ = open_log(disk, SEGMENT_BYTES)
    commit(log, put(1, held=True), delete(1, until_ms=0), put(1), put(*range(10, 30), data=bytes(SIZE_BYTES)))
    commit(log, delete(*range(10, 30), until_ms=0), put(40))
    commit(log, put(41))
    _tidy(log)
    assert FIRST not in disk.names()
    assert sequences(open_log(disk)[1]) == {1, 40, 41}


def test_a_moved_and_deleted_bundle_is_not_brought_back_by_its_old_segment() -> None:
    """Half of a segment was moved; the place of the moved half died and was unlinked first."""
    disk = fake_disk()
    log, _ = _mostly_dead(disk)
    assert log.reclaim(NOW_MS)
    assert _relocations(log) == 2
    commit(log, delete(0, 1, 21, until_ms=0), put(*range(30, 50), data=bytes(SIZE_BYTES)))
    commit(log, delete(*range(30, 50), until_ms=0), put(50))
    assert log.reclaim(NOW_MS)
    assert FIRST in disk.names()
    assert "0000000002.seg" not in disk.names()
    assert sequences(open_log(disk)[1]) == {20, 50}


@pytest.mark.parametrize("cut", range(1, 6))
@pytest.mark.parametrize("seed", range(6))
def test_power_fails_while_compacting(cut: int, seed: int) -> None:
    """Wherever it does, everything is there once."""
    disk = fake_disk(seed)
    log, _ = _mostly_dead(disk)
    disk.power_cut_in = cut
    with contextlib.suppress(PowerCut):
        _tidy(log)
    disk.power_cut_in = 0
    disk.crash()
    log, recovered = open_log(disk, SEGMENT_BYTES)
    assert [record.id.sequence for record in recovered.records if record.id.sequence < 20] in ([0, 1], [1, 0])
    assert sequences(recovered) == {0, 1, 20, 21}
    assert not recovered.damage
    _tidy(log)
    assert all(log.read(record.payload) for record in recovered.records)


def test_a_damaged_bundle_is_not_moved() -> None:
    """Its segment stays, and the rest is still there."""
    disk = fake_disk()
    log, places = _mostly_dead(disk)
    disk.flip_bit(FIRST, places[0].offset)
    _tidy(log)
    assert FIRST in disk.names()
    with pytest.raises(StoreError, match="is damaged"):
        log.read(places[0])
    assert log.read(places[1]) == bytes(SIZE_BYTES)
    commit(log, delete(0, until_ms=0))
    _tidy(log)
    assert FIRST not in disk.names()


def test_a_move_that_fails_changes_nothing() -> None:
    """It is said, and tried again."""
    disk = fake_disk()
    log, places = _mostly_dead(disk)
    disk.fail["append"] = errno.EIO
    with pytest.raises(StoreError, match="EIO"):
        log.reclaim(NOW_MS)
    disk.fail = {}
    assert [log.read(ref) for ref in places.values()] == [bytes(SIZE_BYTES)] * 2
    _tidy(log)
    assert FIRST not in disk.names()


def test_a_segment_that_cannot_be_read_is_said_once() -> None:
    """It stays until all of its bundles are gone; whoever tidies up is not told again and again."""
    disk = fake_disk()
    log, places = _mostly_dead(disk)
    disk.fail["read"] = errno.EIO
    with pytest.raises(StoreError, match="can't be compacted: EIO"):
        log.reclaim(NOW_MS)
    assert not log.reclaim(NOW_MS)
    disk.fail = {}
    assert [log.read(ref) for ref in places.values()] == [bytes(SIZE_BYTES)] * 2


def test_a_full_disk_is_not_filled_further() -> None:
    """Without room for a move the segment waits; half of the reserve is for moves, since they make room."""
    disk = fake_disk()
    log, _ = _mostly_dead(disk)
    used_bytes = disk.capacity_bytes - disk.free_bytes()
    disk.capacity_bytes = used_bytes + 3000
    assert not log.reclaim(NOW_MS)
    disk.capacity_bytes = used_bytes + 5500
    _tidy(log)
    assert FIRST not in disk.names()
