# SPDX-License-Identifier: Apache-2.0
"""Announcing a silence: it waits for the frames to leave, and not for ever."""

import pytest
import trio
import trio.testing

from meshd.cl.fountain.frames import U32_MAX
from meshd.daemon.announcement import DRAIN_S, LOOK_S, LOOKS_MAX, announce_silence


class Bearer:
    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.ends_at = 0.0
        self.told: list[int] = []

    def announce_silence(self, for_s: int) -> None:
        self.told.append(for_s)
        self.ends_at = trio.current_time() + self.takes_s

    @property
    def is_announcing(self) -> bool:
        return trio.current_time() < self.ends_at


@pytest.mark.parametrize(("for_s", "said"), [(None, 0), (0.4, 1), (600.0, 600), (1e12, U32_MAX)])
async def test_bearers_that_fall_silent_say_so(
    autojump_clock: trio.testing.MockClock, for_s: float | None, said: int
) -> None:
    sat, lan = Bearer(0.2), Bearer(0.2)
    began = trio.current_time()
    await announce_silence({"sat": sat, "lan": lan}, ["sat"], for_s)
    assert (sat.told, lan.told) == ([said], [])
    assert 0.2 + DRAIN_S <= trio.current_time() - began < 0.3


async def test_silence_does_not_wait_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    await announce_silence({"sat": Bearer(1e6)}, ["sat"], None)
    assert trio.current_time() - began == pytest.approx(LOOKS_MAX * LOOK_S + DRAIN_S)


async def test_where_nothing_falls_silent_nothing_waits(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    await announce_silence({}, [], None)
    assert trio.current_time() == began
