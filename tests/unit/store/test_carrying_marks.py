# SPDX-License-Identifier: Apache-2.0
"""What outlives a segment is carried on once, not each time that the bundles around it are gone."""

import random
from collections.abc import Sequence

import pytest

from tests.sim.fake_disk import FakeDisk
from tests.unit.store.store_samples import NOW_MS, commit, delete, known, open_log, put

SEGMENT_BYTES = 256 * 1024
SMALL = 2000
LARGE = 200
LARGE_BYTES = 8 * 1024


class CountingDisk(FakeDisk):
    """Counts what is written."""

    appended_bytes = 0

    def append(self, name: str, buffers: Sequence[bytes | memoryview]) -> None:
        self.appended_bytes += sum(map(len, buffers))
        super().append(name, buffers)


@pytest.fixture
def counting_disk() -> CountingDisk:
    """Empty."""
    return CountingDisk(random.Random(1))


def test_many_marks_do_not_travel_with_every_segment(counting_disk: CountingDisk) -> None:
    """2 000 deletions fill nearly half of a segment: among bundles they would double what those cost."""
    log, _ = open_log(counting_disk, segment_bytes=SEGMENT_BYTES)
    for number in range(SMALL):
        commit(log, put(number))
        commit(log, delete(number))
    before = counting_disk.appended_bytes
    for number in range(SMALL, SMALL + LARGE):
        commit(log, put(number, data=bytes(LARGE_BYTES)))
        commit(log, delete(number))
        while log.reclaim(NOW_MS):
            pass
    written = counting_disk.appended_bytes - before
    assert written < 1.25 * LARGE * LARGE_BYTES
    assert log.usage.segments < 8
    _, recovered = open_log(counting_disk)
    assert known(recovered).keys() == set(range(SMALL + LARGE))


def test_marks_of_short_lives_go_with_the_lives(counting_disk: CountingDisk) -> None:
    """What is remembered for a minute does not stay for the rest of the hour: that would be all of its traffic."""
    log, _ = open_log(counting_disk, segment_bytes=SEGMENT_BYTES // 16)
    now_ms, sizes = NOW_MS - NOW_MS % 3_600_000, []
    for number in range(4 * SMALL):
        now_ms += 300
        commit(log, put(number))
        commit(log, delete(number, until_ms=now_ms + 60_000))
        if number % 100 == 99:
            while log.reclaim(now_ms):
                pass
            sizes.append(log.usage.disk_bytes)
    half = len(sizes) // 2
    assert max(sizes[half:]) < 1.25 * max(sizes[:half])
