# SPDX-License-Identifier: Apache-2.0
"""Neighbours that somebody says are silent."""

from pathlib import Path
from typing import Any, cast

import pytest

from meshd.bundle.eid import Eid
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.silence_desk import SilenceDesk
from meshd.daemon.silent_neighbours import FILE_NAME
from meshd.node.events import Event, NeighbourSilent, NeighbourSpeaks

NODE = Eid("dtn://dpop2/")
NOW_MS = 1_800_000_000_000


class Scene:
    def __init__(self, path: Path) -> None:
        self.now_ms = NOW_MS
        self.events: list[Event] = []
        self.told: list[tuple[Eid, int | None]] = []
        self.directory, self.path = path, path / FILE_NAME
        self.reports: list[str] = []
        self.desk = self.make()

    def make(self) -> SilenceDesk:
        return SilenceDesk(
            {"rad0": self},
            self.events.append,
            lambda node: node == NODE,
            lambda: self.now_ms,
            self.directory,
            lambda kind, _: self.reports.append(kind),
        )

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        self.told.append((node, for_s))

    async def call(self, name: str, **params: Any) -> None:
        await getattr(self.desk, name)(cast("SessionHandle", None), params)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


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


async def test_a_restart_forgets_neither_it_nor_its_end(scene: Scene) -> None:
    await scene.call("set_silent", node=NODE.uri, until_ms=NOW_MS + 10_000)
    scene.events.clear()
    scene.now_ms += 4000
    scene.desk = scene.make()
    await scene.desk.restore()
    assert scene.desk.is_silent(NODE)
    assert scene.events == [NeighbourSilent(NODE, 6)]
    scene.now_ms += 6000
    scene.desk = scene.make()
    await scene.desk.restore()
    assert scene.events == [NeighbourSilent(NODE, 6)], "it is over"


async def test_what_was_taken_back_stays_so(scene: Scene) -> None:
    await scene.call("set_silent", node=NODE.uri, until_ms=None)
    await scene.call("clear_silent", node=NODE.uri)
    scene.desk = scene.make()
    await scene.desk.restore()
    assert not scene.desk.is_silent(NODE)


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"nonsense": null}', b'{"dtn://dpop2/": 1.5}', b"{" * 100_000])
async def test_a_file_that_is_not_ours_is_told_of(scene: Scene, content: bytes) -> None:
    scene.path.write_bytes(content)
    await scene.desk.restore()
    assert scene.reports == ["neighbour.alarm"]
    assert scene.events == []


async def test_a_disk_that_takes_nothing_is_told_of_and_it_holds(scene: Scene) -> None:
    scene.path.mkdir()
    with pytest.raises(ControlError, match="restart would forget"):
        await scene.call("set_silent", node=NODE.uri, until_ms=None)
    assert scene.desk.is_silent(NODE)
