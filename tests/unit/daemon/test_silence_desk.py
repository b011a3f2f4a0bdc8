# SPDX-License-Identifier: Apache-2.0
"""Neighbours that somebody says are silent."""

from typing import Any, cast

import pytest

from meshd.bundle.eid import Eid
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.silence_desk import SilenceDesk
from meshd.node.events import Event, NeighbourSilent, NeighbourSpeaks

NODE = Eid("dtn://dpop2/")
NOW_MS = 1_800_000_000_000


class Scene:
    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.events: list[Event] = []
        self.told: list[tuple[Eid, int | None]] = []
        self.desk = SilenceDesk({"rad0": self}, self.events.append, lambda node: node == NODE, lambda: self.now_ms)

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        self.told.append((node, for_s))

    async def call(self, name: str, **params: Any) -> None:
        await getattr(self.desk, name)(cast("SessionHandle", None), params)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_it_is_silent_until_somebody_says_otherwise(scene: Scene) -> None:
    assert not scene.desk.is_silent(NODE)
    await scene.call("set_silent", node=NODE.uri, until_ms=None)
    scene.now_ms += 10**12
    assert scene.desk.is_silent(NODE)
    await scene.call("clear_silent", node=NODE.uri)
    assert not scene.desk.is_silent(NODE)
    assert scene.told == [(NODE, 0), (NODE, None)]
    assert scene.events == [NeighbourSilent(NODE, 0), NeighbourSpeaks(NODE)]


async def test_it_is_silent_until_then(scene: Scene) -> None:
    await scene.call("set_silent", node=NODE.uri, until_ms=NOW_MS + 1500)
    assert scene.events == [NeighbourSilent(NODE, 2)]
    scene.now_ms += 1499
    assert scene.desk.is_silent(NODE)
    scene.now_ms += 1
    assert not scene.desk.is_silent(NODE)


@pytest.mark.parametrize(
    ("node", "until_ms", "name"),
    [("nonsense", None, "bad_params"), ("dtn://other/", None, "not_found"), (NODE.uri, NOW_MS, "bad_params")],
)
async def test_what_can_not_be_is_refused(scene: Scene, node: str, until_ms: int | None, name: str) -> None:
    with pytest.raises(ControlError) as caught:
        await scene.call("set_silent", node=node, until_ms=until_ms)
    assert caught.value.name == name
    assert scene.events == []
