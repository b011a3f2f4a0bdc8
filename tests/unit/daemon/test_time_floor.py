# SPDX-License-Identifier: Apache-2.0
"""The time is never earlier than what was written down last."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from meshd.daemon import time_floor
from meshd.daemon.time_floor import SAVE_INTERVAL_S, TimeFloor

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """The host's clocks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = NOON
        self.monotonic_s = 1000.0
        monkeypatch.setattr(time_floor, "wall_ms", lambda: int(self.wall.timestamp() * 1000))
        monkeypatch.setattr(time_floor, "monotonic_s", lambda: self.monotonic_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "time.floor"


def test_without_a_file_the_hosts_clock_counts(clock: Clock, path: Path) -> None:
    assert TimeFloor(path).now() == NOON
    assert not path.exists()


def test_a_clock_that_fell_behind_is_not_believed(clock: Clock, path: Path) -> None:
    TimeFloor(path).save()
    clock.wall = datetime(1970, 1, 2, tzinfo=UTC)
    floor = TimeFloor(path)
    assert floor.now() == NOON
    assert floor.host_now() == clock.wall
    clock.monotonic_s += 90
    assert floor.now() == NOON + timedelta(seconds=90)


def test_a_clock_that_is_ahead_is_believed(clock: Clock, path: Path) -> None:
    TimeFloor(path).save()
    clock.wall = NOON + timedelta(days=9)
    assert TimeFloor(path).now() == clock.wall


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-5", b"9" * 40, b"\xff\xfe"])
def test_a_damaged_file_counts_as_none(clock: Clock, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert TimeFloor(path).now() == NOON


async def test_it_is_saved_now_and_then_and_a_full_disk_is_told(
    nursery: trio.Nursery, clock: Clock, path: Path, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves, told = trio.open_memory_channel[bytes](9)
    alarms_in, alarms = trio.open_memory_channel[str](9)

    def write(path: Path, data: bytes) -> None:
        trio.from_thread.run_sync(saves.send_nowait, data)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(time_floor, "write_state", write)
    nursery.start_soon(TimeFloor(path).run, alarms_in.send_nowait)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(SAVE_INTERVAL_S - 1)
    await trio.testing.wait_all_tasks_blocked()
    assert told.statistics().current_buffer_used == 0
    for _ in range(2):
        mock_clock.jump(SAVE_INTERVAL_S)
        assert int(await told.receive()) == int(NOON.timestamp())
        assert await alarms.receive() == f"{path} can't be written: No space left on device"
        await trio.testing.wait_all_tasks_blocked()
