# SPDX-License-Identifier: Apache-2.0
"""The segment log against its model, over many seeds: power cuts anywhere, kills, full disks, failing syncs.

Replay one seed: `StoreRun(seed).run(STEPS)`.
"""

import pytest

from tests.sim.fake_disk import LyingDisk
from tests.sim.store_model import StoreRun

SEEDS = 300
STEPS = 40


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_acknowledged_groups_survive(first: int) -> None:
    """What was answered is there after any crash; nothing is there by half; what was deleted stays away."""
    unlinks = failures = 0
    for seed in range(first, first + 50):
        run = StoreRun(seed)
        try:
            run.run(STEPS)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        unlinks += run.unlinks
        failures += run.failures
    assert unlinks > 50, "the runs no longer unlink segments: they prove nothing about carrying marks on"
    assert failures > 20, "the runs no longer meet full disks and failing syncs"


def test_the_oracle_catches_a_disk_that_does_not_sync() -> None:
    """Without a working fdatasync acknowledged groups are lost, and the model says so."""
    caught = 0
    for seed in range(20):
        try:
            StoreRun(seed, LyingDisk).run(STEPS)
        except AssertionError:
            caught += 1
    assert caught >= 15
