# SPDX-License-Identifier: Apache-2.0
"""When the event loop may wait for a small commit: a good disk, no stall lately, not all of the time."""

from meshd.store.disk_pace import PAUSE_MAX_S, PAUSE_MIN_S, QUICK_S, REST_SHARE, STALL_S, DiskPace

COMMITS = 40


def proven(duration_s: float = QUICK_S / 10) -> DiskPace:
    """A disk whose commits took so long so far, at time 0."""
    pace = DiskPace()
    for _ in range(COMMITS):
        pace.note(-duration_s, 0.0)
    return pace


def stall(pace: DiskPace, ended: float) -> None:
    """The event loop has waited too long."""
    pace.note_wait(ended - 2 * STALL_S, ended)


def test_a_disk_has_to_prove_itself() -> None:
    assert not DiskPace().may_wait(0.0)
    assert proven().may_wait(0.0)
    assert not proven(2 * QUICK_S).may_wait(0.0)


def test_a_disk_that_becomes_slow_loses_it_and_regains_it() -> None:
    pace = proven()
    for _ in range(COMMITS):
        pace.note(0.0, 2 * QUICK_S)
    assert not pace.may_wait(1.0)
    for _ in range(COMMITS):
        pace.note(0.0, QUICK_S / 10)
    assert pace.may_wait(1.0)


def test_not_all_of_the_time() -> None:
    pace = proven()
    pace.note_wait(1.0, 1.001)
    assert not pace.may_wait(1.001 + 0.9 * REST_SHARE * 0.001)
    assert pace.may_wait(1.001 + 1.1 * REST_SHARE * 0.001)


def test_stalls_forbid_it_for_longer_and_longer() -> None:
    pace = proven()
    now, pause_s = 100.0, PAUSE_MIN_S
    while pause_s < 2 * PAUSE_MAX_S:
        stall(pace, now)
        expected_s = min(pause_s, PAUSE_MAX_S)
        assert not pace.may_wait(now + expected_s - 0.01)
        assert pace.may_wait(now + expected_s + 0.01)
        now += expected_s + 0.01
        pause_s *= 2
    now += 3 * PAUSE_MAX_S
    stall(pace, now)
    assert pace.may_wait(now + PAUSE_MIN_S + 0.01), "long ago is forgotten"
