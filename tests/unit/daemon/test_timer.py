# SPDX-License-Identifier: Apache-2.0
"""The agent's timer under a virtual clock."""

from collections.abc import Callable

import pytest
import trio
import trio.testing

from meshd.daemon import timer
from meshd.daemon.timer import AgentTimer


@pytest.fixture
def fired(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times at which the timer fired; monotonic time is trio's virtual one."""
    monkeypatch.setattr(timer, "monotonic_s", trio.current_time)
    return []


async def play(fired: list[float], script: Callable[[AgentTimer], None], until_s: float) -> None:
    """Run a timer, set by the script, for a while."""
    made = AgentTimer(lambda: fired.append(trio.current_time()))
    with trio.move_on_after(until_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            await trio.testing.wait_all_tasks_blocked()
            script(made)


async def test_fires_once_at_its_time(fired: list[float], autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    await play(fired, lambda made: made.set(begun + 5), 100)
    assert fired == [begun + 5]


async def test_a_new_wish_replaces_the_old_one(fired: list[float], autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()

    def twice(made: AgentTimer) -> None:
        made.set(begun + 5)
        made.set(begun + 9)

    await play(fired, twice, 100)
    assert fired == [begun + 9]


async def test_none_is_no_timer(fired: list[float], autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()

    def changed_its_mind(made: AgentTimer) -> None:
        made.set(begun + 5)
        made.set(None)

    await play(fired, changed_its_mind, 100)
    assert fired == []


async def test_a_time_in_the_past_fires_at_once(fired: list[float], autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    await play(fired, lambda made: made.set(begun - 5), 1)
    assert fired == [begun]


async def test_set_before_it_runs_and_again_while_it_fires(
    fired: list[float], autojump_clock: trio.testing.MockClock
) -> None:
    begun = trio.current_time()

    def again() -> None:
        fired.append(trio.current_time())
        if len(fired) < 3:
            made.set(trio.current_time() + 2)

    made = AgentTimer(again)
    made.set(begun + 1)
    with trio.move_on_after(50):
        await made.run()
    assert fired == [begun + 1, begun + 3, begun + 5]
