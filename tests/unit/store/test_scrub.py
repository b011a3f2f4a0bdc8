# SPDX-License-Identifier: Apache-2.0
"""Scrubbing: every flipped bit of what lives is found in one round, and nothing else is reported."""

import errno
from pathlib import Path

import msgspec
import pytest

from meshd.base.errors import StoreError
from meshd.node.commands import WriteStore
from meshd.store.scrub import ScrubReport
from meshd.store.segment_log import SegmentLog
from tests.unit.store.store_samples import commit, delete, fake_disk, open_log, put, real_disk, record

SEGMENT_BYTES = 5000


def _round(log: SegmentLog, step_bytes: int = 1000) -> ScrubReport:
    """All reports of one round in one."""
    whole = ScrubReport()
    while not whole.is_round_done:
        step = log.scrub(step_bytes)
        whole.read_bytes += step.read_bytes
        whole.damaged += step.damaged
        whole.problems += step.problems
        whole.is_round_done = step.is_round_done
    return whole


def test_a_flipped_bit_is_reported_and_the_bundle_can_go() -> None:
    """The row names bundle and place; after its deletion the next round is silent."""
    disk = fake_disk()
    log, _ = open_log(disk, SEGMENT_BYTES)
    rows = [commit(log, put(number, data=bytes(900)))[0][0] for number in range(20)]
    assert _round(log).problems == []
    victim = rows[7]
    name = f"{victim.payload.segment:010d}.seg"
    disk.flip_bit(name, victim.payload.offset + 5)
    report = _round(log)
    assert report.damaged == [victim]
    assert report.problems == [f"{name}: the bundle at offset {victim.payload.offset} is damaged"]
    with pytest.raises(StoreError, match="is damaged"):
        log.read(victim.payload)
    commit(log, delete(7, until_ms=0))
    assert _round(log).problems == []


def test_a_damaged_group_is_reported() -> None:
    """Its bundles are still known; the place is said."""
    disk = fake_disk()
    log, _ = open_log(disk, SEGMENT_BYTES)
    [[first]] = commit(log, put(1))
    commit(log, put(2))
    disk.flip_bit("0000000001.seg", first.payload.offset - 3)
    [problem] = _round(log).problems
    assert problem.startswith("0000000001.seg: ")
    assert problem.endswith("are damaged")


def test_large_bundles_are_looked_at() -> None:
    """In pieces, and reported like the others."""
    disk = fake_disk()
    log, _ = open_log(disk)
    handle = log.begin_stream()
    handle.append(bytes(300_000))
    ref = handle.finish()
    large = msgspec.structs.replace(record(1), size_bytes=ref.size_bytes, payload=ref)
    commit(log, WriteStore(puts=[large]))
    report = _round(log)
    assert report.problems == []
    assert report.read_bytes >= 300_000
    disk.flip_bit("0000000001.big", ref.offset + 200_000)
    report = _round(log)
    assert [(row.id, row.payload) for row in report.damaged] == [(large.id, ref)]


def test_it_reads_a_little_at_a_time() -> None:
    """Each step is bounded by what is asked for and one group; all of them together see everything."""
    log, _ = open_log(fake_disk(), SEGMENT_BYTES)
    for number in range(30):
        commit(log, put(number, data=bytes(900)))
    steps = []
    while True:
        step = log.scrub(2000)
        steps.append(step.read_bytes)
        if step.is_round_done:
            break
    assert max(steps) < 2000 + 1200
    assert sum(steps) >= 30 * 900


def test_segments_may_go_in_between() -> None:
    """A round that was under way ends without a complaint."""
    log, _ = open_log(fake_disk(), SEGMENT_BYTES)
    for number in range(20):
        commit(log, put(number, data=bytes(900)))
    log.scrub(100)
    commit(log, delete(*range(19), until_ms=0), put(50))
    while log.reclaim(0):
        pass
    assert _round(log).problems == []


def test_a_segment_whose_sync_failed_comes_first() -> None:
    """Nobody knows what happened to the rest of it."""
    disk = fake_disk()
    log, _ = open_log(disk, SEGMENT_BYTES)
    for number in range(12):
        commit(log, put(number, data=bytes(900)))
    [[row]] = commit(log, put(20, data=bytes(900)))
    disk.fail_datasync_in = 1
    assert isinstance(log.commit([put(21)])[0], StoreError)
    disk.flip_bit(f"{row.payload.segment:010d}.seg", row.payload.offset)
    assert log.scrub(5 * SEGMENT_BYTES // 4).damaged == [row]


def test_an_unreadable_segment_is_said() -> None:
    """The round goes on."""
    disk = fake_disk()
    log, _ = open_log(disk)
    commit(log, put(1))
    disk.fail["read"] = errno.EIO
    assert _round(log).problems == ["0000000001.seg can't be read: EIO (Input/output error)"]


def test_it_works_on_a_real_disk(tmp_path: Path) -> None:
    """Damage on the medium, while the page cache may still hold what was written."""
    disk = real_disk(tmp_path)
    log, _ = open_log(disk)
    [[row]] = commit(log, put(1, data=bytes(10_000)))
    assert _round(log).problems == []
    with (tmp_path / "store" / "0000000001.seg").open("r+b") as file:
        file.seek(row.payload.offset + 77)
        file.write(b"\x01")
    assert _round(log).damaged == [row]
    disk.close()
