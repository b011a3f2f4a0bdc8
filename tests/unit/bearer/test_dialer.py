# SPDX-License-Identifier: Apache-2.0
"""The dialler's patience, on a virtual clock without any socket."""

import itertools
import random
import socket
from collections.abc import Callable

import pytest
import trio
import trio.testing

from meshd.bearer import dialer as dialer_module
from meshd.bearer.dialer import Dialer
from meshd.bearer.problems import Problems
from meshd.bearer.sockets import BearerError
from meshd.link.settings import BearerSettings
from tests.unit.bearer.tcp_peers import Recorder, make_settings

Dial = Callable[[BearerSettings, str], "socket.socket"]


class Desk:
    """A dialler whose calls are answered by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, radiating: bool = True) -> None:
        self.times: list[float] = []
        self.answers: list[bool] = []
        self.missed: list[str] = []
        self.wanted = trio.Event()
        self.recorder = Recorder()
        monkeypatch.setattr(dialer_module, "dial", self.dial)
        problems = Problems("lan0", self.recorder.report)
        settings = make_settings(None, radiating=radiating)
        rng = random.Random(1)
        self.dialer = Dialer(
            settings, "10.1.0.2:4556", rng, problems, self.wait_until_wanted, self.carry, self.missed.append
        )

    async def dial(self, settings: BearerSettings, address: str) -> socket.socket:
        del settings
        self.times.append(trio.current_time())
        if not self.answers or not self.answers.pop(0):
            raise BearerError(f"no answer from {address}")
        return socket.socket()

    async def carry(self, sock: socket.socket, address: str) -> bool:
        del address
        sock.close()
        await trio.sleep(100)
        return True

    async def wait_until_wanted(self) -> None:
        await self.wanted.wait()


async def test_waits_grow_and_a_session_resets_them(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(monkeypatch)
    desk.wanted.set()
    desk.answers = [False] * 8 + [True]
    begin = trio.current_time()
    with trio.move_on_after(600):
        await desk.dialer.run()
    gaps = [later - earlier for earlier, later in zip([begin, *desk.times], desk.times, strict=False)]
    assert gaps[0] == 0
    for gap, base in zip(gaps[1:9], [1, 2, 4, 8, 16, 32, 60, 60], strict=True):
        assert base - 1e-6 <= gap <= min(1.5 * base, 60.0) + 1e-6
    assert 101 <= gaps[9] <= 101.5  # the session lived 100 s, then the shortest wait
    assert [fields["problem"] for _, fields in desk.recorder.reports] == ["no answer from 10.1.0.2:4556"] * 2
    assert desk.missed == ["no answer from 10.1.0.2:4556"] * (len(desk.times) - 1)


async def test_a_line_that_has_returned_is_found_within_seconds(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(monkeypatch, radiating=False)
    desk.wanted.set()
    with trio.move_on_after(600):
        await desk.dialer.run()
    gaps = [later - earlier for earlier, later in itertools.pairwise(desk.times)]
    assert len(gaps) > 250
    assert all(1 <= gap <= 2 + 1e-6 for gap in gaps)


async def test_nothing_is_dialled_while_not_wanted(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(monkeypatch)
    with trio.move_on_after(600):
        await desk.dialer.run()
    assert desk.times == []


async def test_interrupting_an_idle_dialler_dials_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    desk = Desk(monkeypatch)
    nursery.start_soon(desk.dialer.run)
    await trio.testing.wait_all_tasks_blocked()
    desk.dialer.interrupt()
    await trio.sleep(10)
    assert desk.times == []
    desk.wanted.set()
    await trio.sleep(0.5)
    assert len(desk.times) == 1


async def test_stopped_dialler_ends(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    desk = Desk(monkeypatch)
    desk.wanted.set()
    ended = trio.Event()

    async def run() -> None:
        await desk.dialer.run()
        ended.set()

    nursery.start_soon(run)
    await trio.sleep(0.5)
    desk.dialer.stop()
    with trio.fail_after(0.1):
        await ended.wait()
    assert len(desk.times) == 1
