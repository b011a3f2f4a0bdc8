# SPDX-License-Identifier: Apache-2.0
"""The host's clocks: a step is found by comparing the two."""

import pytest

from meshd.bundle.dtn_time import DTN_EPOCH_UNIX_S
from meshd.daemon import dtn_clock
from meshd.daemon.dtn_clock import STEP_MIN_MS, DtnClock, monotonic_s, unix_ms, wall_ms


class Clocks:
    """Two clocks in the test's hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic = 50.0
        self.wall = DTN_EPOCH_UNIX_S * 1000 + 900_000
        monkeypatch.setattr(dtn_clock, "monotonic_s", lambda: self.monotonic)
        monkeypatch.setattr(dtn_clock, "wall_ms", lambda: self.wall)


def test_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    Clocks(monkeypatch)
    assert DtnClock().utc_offset_ms == 850_000


def test_time_going_by_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    clock = DtnClock()
    clocks.monotonic, clocks.wall = 60.0, clocks.wall + 10_000
    assert clock.step() is None


@pytest.mark.parametrize("step_ms", [STEP_MIN_MS, -STEP_MIN_MS, 10**9])
def test_a_step_is_told_once(monkeypatch: pytest.MonkeyPatch, step_ms: int) -> None:
    clocks = Clocks(monkeypatch)
    clock = DtnClock()
    clocks.wall += step_ms
    assert clock.step() == 850_000 + step_ms == clock.utc_offset_ms
    assert clock.step() is None


def test_slow_correction_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    clock = DtnClock()
    clocks.wall += STEP_MIN_MS - 1
    assert clock.step() is None
    clocks.wall += 1
    assert clock.step() == 850_000 + STEP_MIN_MS


def test_real_clocks() -> None:
    assert monotonic_s() <= monotonic_s()
    assert wall_ms() > DTN_EPOCH_UNIX_S * 1000
    assert unix_ms(5) == DTN_EPOCH_UNIX_S * 1000 + 5
