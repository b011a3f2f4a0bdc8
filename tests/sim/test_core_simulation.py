# SPDX-License-Identifier: Apache-2.0
"""The core simulation: whole nodes under crashes that forget unsynced data, cuts and resets.

MESHD_SIM_SEEDS=0-1999 runs other seeds than the 50 of every test run; a failing seed replays exactly.
"""

import os

import pytest

from tests.sim.fake_disk import FakeDisk
from tests.sim.world import World


def _seeds() -> range:
    first, _, last = os.environ.get("MESHD_SIM_SEEDS", "0-49").partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.mark.parametrize("seed", _seeds())
def test_nothing_acknowledged_is_lost_and_nothing_delivered_twice(seed: int) -> None:
    World(seed).run()


def test_seeds_are_worth_their_time() -> None:
    """Together they accept, deliver and crash: a simulation in which nothing happens proves nothing."""
    oracles = [World(seed).run() for seed in range(10)]
    assert sum(oracle.accepted_messages() for oracle in oracles) >= 50
    assert sum(oracle.crashes for oracle in oracles) >= 10
    assert sum(oracle.streamed for oracle in oracles) >= 50
    assert sum(oracle.fragmented for oracle in oracles) >= 5
    assert sum(oracle.departures for oracle in oracles) >= 20
    assert sum(oracle.offers_to_groups for oracle in oracles) >= 10


def test_a_seed_replays_exactly() -> None:
    assert World(7).run().trace.digest() == World(7).run().trace.digest()
    assert World(7).run().trace.digest() != World(8).run().trace.digest()


class _DiskThatNeverSyncs(FakeDisk):
    """Promises and does not keep: what the oracle has to find."""

    def datasync(self, name: str) -> None:
        del name


def test_the_oracle_finds_a_disk_that_never_syncs() -> None:
    assert _failures(lambda rng: _DiskThatNeverSyncs(rng)) > 0


def test_the_oracle_is_content_with_a_disk_that_syncs() -> None:
    assert _failures(FakeDisk) == 0


def _failures(make_disk: "type[FakeDisk] | object") -> int:
    assert callable(make_disk)
    failures = 0
    for seed in range(12):
        try:
            World(seed, lambda rng: make_disk(rng)).run()
        except AssertionError:
            failures += 1
    return failures
