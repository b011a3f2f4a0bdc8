# SPDX-License-Identifier: Apache-2.0
"""Hooks are told postures, one at a time; what comes of one that fails."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from meshd.daemon.bearer_hooks import BearerHooks
from meshd.link.settings import BearerKind, BearerSettings, Hook, HookFailure, Posture

LONG_S = 20.0


class Site:
    """A hook that is a shell script, and what it brought about."""

    def __init__(self, folder: Path, script: str, failure: HookFailure, timeout_s: int = 15) -> None:
        self.told = folder / "told"
        path = folder / "hook"
        path.write_text(f'#!/bin/sh\necho "$1 $2" >> {self.told}\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        hook = Hook((str(path), "los0"), timeout_s, failure)
        bearer = BearerSettings("los", BearerKind.LOS, "rad0", True, None, 1_000_000, 0x6D01, 15, hook=hook)
        self.alarms: list[str] = []
        self.down: list[tuple[str, bool]] = []
        self.happened = trio.Event()
        self.hooks = BearerHooks([bearer], self.set_down, self.report)

    def set_down(self, bearer: str, is_down: bool) -> None:
        self.down.append((bearer, is_down))
        self.happened.set()

    def report(self, kind: str, fields: Mapping[str, Any]) -> None:
        assert kind == "emcon.alarm"
        self.alarms.append(fields["text"])
        self.happened.set()

    async def tell(self, posture: Posture) -> None:
        """And wait for what comes of it."""
        self.happened = trio.Event()
        self.hooks.postures_changed({"los": posture, "lan": Posture.OPEN})
        with trio.fail_after(LONG_S):
            await self.happened.wait()


async def test_a_hook_is_told_each_posture_once(tmp_path: Path, nursery: trio.Nursery) -> None:
    site = Site(tmp_path, "exit 0", HookFailure.DOWN)
    nursery.start_soon(site.hooks.run)
    await site.tell(Posture.RX_ONLY)
    site.hooks.postures_changed({"los": Posture.RX_ONLY, "lan": Posture.OPEN})
    await site.tell(Posture.OPEN)
    assert site.told.read_text() == "los0 RX_ONLY\nlos0 OPEN\n"
    assert site.down == [("los", False), ("los", False)]
    assert site.alarms == []


@pytest.mark.parametrize("failure", HookFailure)
async def test_a_failure_is_an_alarm_and_may_take_the_device_down(
    tmp_path: Path, nursery: trio.Nursery, failure: HookFailure
) -> None:
    site = Site(tmp_path, 'echo "no radio"; [ "$2" = OPEN ]', failure)
    nursery.start_soon(site.hooks.run)
    await site.tell(Posture.RX_ONLY)
    await trio.testing.wait_all_tasks_blocked()
    assert site.alarms == ["the hook of los was not told RX_ONLY: it ended with 1: no radio"]
    assert site.down == ([("los", True)] if failure is HookFailure.DOWN else [])


async def test_one_that_hangs_is_killed(tmp_path: Path, nursery: trio.Nursery) -> None:
    site = Site(tmp_path, "exec sleep 100", HookFailure.ALARM, timeout_s=1)
    nursery.start_soon(site.hooks.run)
    await site.tell(Posture.OFF)
    assert site.alarms == ["the hook of los was not told OFF: it took longer than 1 s"]


async def test_one_that_is_not_there_is_an_alarm(tmp_path: Path, nursery: trio.Nursery) -> None:
    site = Site(tmp_path, "", HookFailure.ALARM)
    (tmp_path / "hook").unlink()
    nursery.start_soon(site.hooks.run)
    await site.tell(Posture.OPEN)
    assert "can't be run: No such file or directory" in site.alarms[0]
