# SPDX-License-Identifier: Apache-2.0
"""The segment log against its model, over many seeds: power cuts anywhere, kills, full and read-only disks, failing
syncs, lost, torn and reordered writes, flipped bits.

MESHD_STORE_SEEDS=0-9999 runs other seeds than the 200 of every test run. Replay one seed: `StoreRun(seed).run(STEPS)`,
then `flip_a_bit()`.
"""

import os

import pytest

from tests.sim.fake_disk import LyingDisk
from tests.sim.store_model import StoreRun

STEPS = 40
CHUNK = 50


def _chunks() -> list[range]:
    first, _, last = os.environ.get("MESHD_STORE_SEEDS", "0-199").partition("-")
    stop = int(last or first) + 1
    return [range(start, min(start + CHUNK, stop)) for start in range(int(first), stop, CHUNK)]


@pytest.mark.parametrize("seeds", _chunks(), ids=str)
def test_acknowledged_groups_survive(seeds: range) -> None:
    """What was answered is there after any crash; nothing is there by half; what was deleted stays away."""
    unlinks = failures = large = flips = moves = 0
    for seed in seeds:
        run = StoreRun(seed)
        try:
            run.run(STEPS)
            run.flip_a_bit()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        unlinks += run.unlinks
        failures += run.failures
        large += run.large
        flips += run.flips
        moves += run.moves
    assert unlinks >= len(seeds), "the runs no longer unlink segments: they prove nothing about carrying marks on"
    assert failures >= len(seeds) // 5, "the runs no longer meet full disks and failing syncs"
    assert large >= len(seeds) // 6, "the runs no longer commit large bundles"
    assert moves >= len(seeds) // 25, "the runs no longer compact segments"
    assert flips >= len(seeds) // 3, "the runs no longer flip bits"


def test_the_oracle_catches_a_disk_that_does_not_sync() -> None:
    """Without a working fdatasync acknowledged groups are lost, and the model says so."""
    caught = 0
    for seed in range(20):
        try:
            StoreRun(seed, LyingDisk).run(STEPS)
        except AssertionError:
            caught += 1
    assert caught >= 15
