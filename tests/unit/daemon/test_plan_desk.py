# SPDX-License-Identifier: Apache-2.0
"""`emcon.plan`: windows between silences."""

import math

import pytest

from meshd.control.errors import ControlError
from meshd.daemon.plan_desk import WINDOWS_TOLD_MAX, PlanDesk, windows_between
from meshd.emcon.schedule import Schedule, ScheduleRow
from meshd.emcon.silence_plan import OPEN, SILENT
from meshd.node import events as ev
from tests.unit.daemon.node_bench import Session
from tests.unit.node.playbook import NODE, Playbook


@pytest.mark.parametrize(
    ("silences", "windows"),
    [
        ([], [(100, None)]),
        ([(50, 150), (200, 300)], [(150, 200), (300, None)]),
        ([(150, 200)], [(100, 150), (200, None)]),
        ([(50, math.inf)], []),
    ],
)
def test_windows_between(silences: list[tuple[float, float]], windows: list[tuple[int, int | None]]) -> None:
    found = [(each["begins_ms"], each["ends_ms"]) for each in windows_between(silences, 100)]
    assert found == windows


def test_not_all_windows_are_told() -> None:
    silences = [(float(begin), begin + 5.0) for begin in range(100, 1000, 10)]
    assert len(windows_between(silences, 0)) == WINDOWS_TOLD_MAX


async def test_the_own_plan_is_told() -> None:
    play = Playbook()
    plan = Schedule((ScheduleRow(OPEN, 0, 300_000, 3_600_000),), SILENT, 0)
    play.handle(ev.PosturesChanged({}, plan=plan))
    desk = PlanDesk(play.agent, NODE, lambda: 0)
    reply = await desk.plan(Session(), {"node": None})
    assert [(each["node"], each["own"]) for each in reply["plans"]] == [(NODE.uri, True)]
    assert reply["plans"][0]["windows"]
    with pytest.raises(ControlError, match="dtn://b/"):
        await desk.plan(Session(), {"node": "dtn://b/"})
