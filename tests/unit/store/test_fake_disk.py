# SPDX-License-Identifier: Apache-2.0
"""The fake disk itself: it forgets what was not synced, nothing else, and repeats itself."""

import errno
import random

import pytest

from tests.sim.fake_disk import FakeDisk, PowerCut


def test_synced_data_survives_and_unsynced_data_may_not() -> None:
    """Over many seeds: always the synced prefix; sometimes nothing more, sometimes a torn piece, sometimes all."""
    sizes = set()
    for seed in range(200):
        disk = FakeDisk(random.Random(seed))
        disk.create("a")
        disk.append("a", [b"S" * 100])
        disk.datasync("a")
        disk.append("a", [b"U" * 100])
        assert disk.size_bytes("a") == 200
        disk.crash()
        data = disk.read("a", 0, 1000)
        assert data[:100] == b"S" * 100
        assert set(data[100:]) <= set(b"U\0")
        sizes.add(len(data))
    assert {100, 200} < sizes


def test_a_failed_datasync_loses_the_data_and_the_next_one_lies() -> None:
    """Readers see it until the crash; afterwards there is a hole."""
    disk = FakeDisk(random.Random(1))
    disk.create("a")
    disk.append("a", [b"lost"])
    disk.fail_datasync_in = 1
    with pytest.raises(OSError, match="Input/output error") as caught:
        disk.datasync("a")
    assert caught.value.errno == errno.EIO
    disk.append("a", [b"kept"])
    disk.datasync("a")
    assert disk.read("a", 0, 10) == b"lostkept"
    disk.crash()
    assert disk.read("a", 0, 8) == b"\0\0\0\0kept"


def test_an_unlink_may_be_undone_until_the_next_create() -> None:
    """Both outcomes happen before, one after."""
    outcomes = set()
    for seed in range(30):
        disk = FakeDisk(random.Random(seed))
        disk.create("a")
        disk.unlink("a")
        disk.crash()
        outcomes.add(tuple(disk.names()))
        if not disk.names():
            disk.create("a")
        disk.unlink("a")
        disk.create("b")
        disk.crash()
        assert disk.names() == ["b"]
    assert outcomes == {(), ("a",)}


def test_a_full_disk_takes_what_fits() -> None:
    """The rest raises ENOSPC."""
    disk = FakeDisk(random.Random(1), capacity_bytes=6)
    disk.create("a")
    with pytest.raises(OSError, match="No space left") as caught:
        disk.append("a", [b"12345678"])
    assert caught.value.errno == errno.ENOSPC
    assert disk.read("a", 0, 10) == b"123456"


def test_power_fails_in_the_call_that_was_named() -> None:
    """Before or after its effect."""
    effects = set()
    for seed in range(20):
        disk = FakeDisk(random.Random(seed))
        disk.power_cut_in = 2
        disk.create("a")
        with pytest.raises(PowerCut):
            disk.create("b")
        effects.add(len(disk.names()))
    assert effects == {1, 2}
