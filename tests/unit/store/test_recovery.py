# SPDX-License-Identifier: Apache-2.0
"""Recovery from damage: what was synced and is broken is reported, everything around it survives."""

import pytest

from meshd.node.commands import WriteStore
from meshd.store.file_names import segment_name, segment_number
from tests.sim.fake_disk import FakeDisk
from tests.unit.store.store_samples import (
    NOW_MS,
    bundle_id,
    commit,
    delete,
    fake_disk,
    known,
    open_log,
    put,
    record,
    sequences,
)

FIRST = "0000000001.seg"


def _three_commits(disk: FakeDisk) -> list[int]:
    """Three puts, each synced; where each group begins."""
    log, _ = open_log(disk)
    starts = []
    for number in (1, 2, 3):
        commit(log, put(number, data=b"data of %d" % number))
        starts.append(log.usage.disk_bytes)
    return [0, *starts]


@pytest.mark.parametrize("rounds", [1, 2])
def test_damage_in_synced_data_is_reported_and_passed_over(rounds: int) -> None:
    """A later group proves that the damaged one was durable: it isn't taken for a torn tail, wherever it is."""
    disk = fake_disk()
    starts = _three_commits(disk)
    disk.flip_bit(FIRST, starts[1] + 40)
    for _ in range(rounds):
        log, recovered = open_log(disk)
        assert sequences(recovered) == {1, 3}
        assert recovered.damage == [
            f"{FIRST}: {starts[2] - starts[1]} bytes from offset {starts[1]} on are damaged and lost"
        ]
        assert recovered.torn_bytes == 0
        commit(log, WriteStore())


def test_damage_at_the_very_end_looks_torn() -> None:
    """Nothing proves that the last group was durable: it is cut off, and counted."""
    disk = fake_disk()
    starts = _three_commits(disk)
    disk.flip_bit(FIRST, starts[2] + 40)
    _, recovered = open_log(disk)
    assert sequences(recovered) == {1, 2}
    assert recovered.torn_bytes == starts[3] - starts[2]
    assert not recovered.damage


def test_a_damaged_bundle_in_an_older_segment_is_left_to_reading() -> None:
    """Recovery doesn't read bundles of older segments; the group stays, the bundle is unreadable."""
    disk = fake_disk()
    log, _ = open_log(disk, segment_bytes=100)
    [[row]] = commit(log, put(1, data=bytes(200)))
    commit(log, put(2))
    disk.flip_bit(FIRST, row.payload.offset)
    log, recovered = open_log(disk)
    assert sequences(recovered) == {1, 2}
    with pytest.raises(Exception, match="is damaged"):
        log.read(row.payload)


def test_a_damaged_header_costs_nothing_else() -> None:
    """The groups behind it survive: they prove that it was once durable."""
    disk = fake_disk()
    _three_commits(disk)
    disk.flip_bit(FIRST, 9)
    for _ in range(2):
        log, recovered = open_log(disk)
        assert recovered.damage[0] == f"{FIRST}: the header is damaged"
        assert {2, 3} <= sequences(recovered)
        commit(log, WriteStore())


def test_a_missing_tail_of_an_older_segment_is_reported() -> None:
    """The next segment's header knows how long it was."""
    disk = fake_disk()
    log, _ = open_log(disk, segment_bytes=100)
    commit(log, put(1, data=bytes(200)))
    commit(log, put(2))
    size_bytes = disk.size_bytes(FIRST)
    disk.truncate(FIRST, size_bytes - 3)
    _, recovered = open_log(disk)
    assert sequences(recovered) == {2}
    assert recovered.damage[0] == f"{FIRST}: 3 bytes are missing at its end"


def test_a_copied_group_in_a_payload_is_not_a_group() -> None:
    """Somebody sends a piece of a store as a message: it must not come to life when a segment is searched."""
    disk = fake_disk()
    starts = _three_commits(disk)
    stolen = disk.read(FIRST, starts[1], starts[2] - starts[1])
    log, _ = open_log(disk)
    [[row]] = commit(log, WriteStore(puts=[record(7, b"..." + stolen + b"...")]))
    commit(log, delete(2), put(8))
    second = segment_name(row.payload.segment)
    disk.flip_bit(second, row.payload.offset - 10)
    _, recovered = open_log(disk)
    assert sequences(recovered) == {1, 3, 8}
    assert len(recovered.damage) == 1


def test_a_tail_of_zeros_is_cut() -> None:
    """Some file systems leave zeros where data was not written in time."""
    disk = fake_disk()
    _three_commits(disk)
    disk.append(FIRST, [bytes(5000)])
    _, recovered = open_log(disk)
    assert sequences(recovered) == {1, 2, 3}
    assert recovered.torn_bytes == 5000


def test_a_torn_batch_is_cut_at_its_first_missing_group() -> None:
    """A later group of the batch that happened to reach the disk is dropped too: it may build on the missing one."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    start = log.usage.disk_bytes
    commit(log, put(2), put(3), WriteStore(releases=[bundle_id(2)]))
    disk.flip_bit(FIRST, start + 50)
    _, recovered = open_log(disk)
    assert sequences(recovered) == {1}
    assert recovered.torn_bytes > 0


def test_what_a_kill_left_in_the_page_cache_is_synced_before_it_is_told() -> None:
    """Recovery may only report what power failure can no longer take away."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    second = disk.size_bytes(FIRST)
    commit(log, put(2))
    tail = disk.read(FIRST, second, 1 << 20)
    disk.truncate(FIRST, second)
    disk.append(FIRST, [tail])
    _, recovered = open_log(disk)
    assert sequences(recovered) == {1, 2}
    disk.crash()
    _, recovered = open_log(disk)
    assert sequences(recovered) == {1, 2}


def test_expired_memory_is_left_out() -> None:
    """With a clock; live bundles are always known."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(
        log, put(1, 2, 3, 4), delete(1, until_ms=NOW_MS + 10), delete(2, until_ms=NOW_MS + 11), delete(3, until_ms=0)
    )
    assert known(log_again := open_log(disk)[1]).keys() == {1, 2, 4}
    assert sequences(log_again) == {4}
    log, _ = open_log(disk)
    later = log.recover(NOW_MS + 10)
    assert known(later) == {2: NOW_MS + 11, 4: record(4).expiry_ms}


def test_foreign_files_are_left_alone() -> None:
    """Only names of ours are segments."""
    assert segment_number(segment_name(42)) == 42
    for name in ("42.seg", "000000004x.seg", "0000000042", "0000000042.tmp", "٠٠٠٠٠٠٠٠٤٢.seg"):
        assert segment_number(name) is None
    disk = fake_disk()
    disk.create("README")
    _, recovered = open_log(disk)
    assert (recovered.records, disk.names()) == ([], ["README"])
