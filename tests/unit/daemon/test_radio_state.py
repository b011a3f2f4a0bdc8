# SPDX-License-Identifier: Apache-2.0
"""One boot number for all radio bearers of a start, a higher one for the next, and none from nothing."""

from pathlib import Path

import pytest

from meshd.daemon.radio_state import RadioState
from meshd.security.boot_number import BootNumberError
from meshd.security.replay_window import Mark
from tests.unit.bearer.tcp_peers import ALPHA

UTC_S = 1_790_000_000


def test_all_bearers_of_a_start_share_a_number(tmp_path: Path) -> None:
    state = RadioState(tmp_path, lambda: UTC_S)
    first = state.take_boot_number()
    assert state.take_boot_number() is first
    assert RadioState(tmp_path, lambda: None).take_boot_number().number == first.number + 1


def test_without_state_and_clock_there_is_none_until_the_clock_is_set(tmp_path: Path) -> None:
    clock: list[int | None] = [None]
    state = RadioState(tmp_path, lambda: clock[0])
    with pytest.raises(BootNumberError):
        state.take_boot_number()
    clock[0] = UTC_S
    assert state.take_boot_number().number == UTC_S


def test_marks_of_each_bearer_are_kept(tmp_path: Path) -> None:
    state = RadioState(tmp_path, lambda: UTC_S)
    state.write_marks("satcom0", {ALPHA: Mark(5, 6)})
    assert RadioState(tmp_path, lambda: UTC_S).read_marks("satcom0") == {ALPHA: Mark(5, 6)}
    assert state.read_marks("los0") == {}
