# SPDX-License-Identifier: Apache-2.0
"""Breaking silence in the daemon: record, gate, bearers, in that order, and silent again whatever happens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshd.base.errors import AuditError
from meshd.bearer.sockets import BearerError
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId
from meshd.daemon.audit_desk import DAEMON, OK, Author
from meshd.daemon.emission import EmissionControl, OrderRefusedError
from meshd.daemon.emission_record import EmissionRecord
from meshd.daemon.silence_breaker import ABOVE_ALL, SilenceBreaker
from meshd.emcon.breaking import PRECEDENCE_MIN, Breaking, BreakOrder, breaking_mark
from meshd.link.settings import Posture
from tests.unit.daemon.fake_gate import FakeGate
from tests.unit.emcon.emcon_samples import BEARERS, WALL_MS, make_settings

ORDER = BreakOrder(("los",), 2.0, 20_000, "convoy hit", "uid 7")
BUNDLE = BundleId(parse_eid("dtn://dpop1/inbox"), 820_000_000_000, 1)


class Log:
    """One list for everything, so that the order of things can be seen."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_full = False

    def note(self, action: str, details: Mapping[str, Any], outcome: str = OK, author: Author = DAEMON) -> None:
        self.lines.append(f"note {action}")

    async def append(self, action: str, details: Mapping[str, Any], author: Author = DAEMON) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_full:
            raise AuditError("no space left")
        self.lines.append(f"audit {action}: {details.get('reason')}")


class Gate(FakeGate):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def close(self, *arguments: Any) -> None:
        super().close(*arguments)
        self._log.lines.append(self.calls[-1])

    def break_for(self, *arguments: Any) -> None:
        super().break_for(*arguments)
        self._log.lines.append(self.calls[-1])


class Radio:
    def __init__(self, name: str, log: Log) -> None:
        self._name, self._log = name, log
        self.problem = ""

    def break_silence(self, precedence_min: int, bundle: BundleId | None, mark: int) -> None:
        if self.problem:
            raise BearerError(self.problem)
        self._log.lines.append(f"{self._name} lets out {precedence_min} {'one' if bundle else 'all'} {mark:#x}")

    def freeze(self) -> None:
        self._log.lines.append(f"{self._name} freezes")


class World:
    def __init__(self, tmp_path: Path) -> None:
        self.log = Log()
        self.gate = Gate(self.log)
        self.is_here = True
        self.told: list[tuple[Posture, int, bool]] = []
        breaking = Breaking()
        record = EmissionRecord(self.log, self.gate, BEARERS, lambda *_: None, lambda: (), breaking)
        self.emission = EmissionControl(
            make_settings(),
            BEARERS,
            self.gate,
            tmp_path / "state",
            lambda _: self.breaker.postures_changed(),
            record.report,
            lambda: WALL_MS,
            trio.current_time,
            watch_kernel=False,
        )
        self.radios = {bearer.name: Radio(bearer.name, self.log) for bearer in BEARERS}
        self.breaker = SilenceBreaker(
            self.emission, self.gate, record, breaking, self.radios, BEARERS, self.tell, lambda _: self.is_here
        )

    def tell(self) -> None:
        event = self.breaker.event(self.emission.postures)
        self.told.append((event.postures["los"], event.floors.get("los", 0), event.let_through is not None))

    async def start(self) -> None:
        await self.emission.start()
        self.log.lines.clear()

    def send(self, frames: int) -> None:
        self.gate.let_out(BEARERS[1].device, frames, 1000)


async def test_the_record_is_first_and_silence_is_last(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    await world.start()
    async with trio.open_nursery() as nursery:
        replies: list[dict[str, Any]] = []

        async def call() -> None:
            replies.append(await world.breaker.break_silence(ORDER, None))

        nursery.start_soon(call)
        await trio.sleep(1)
        world.send(7)
    mark = breaking_mark(BEARERS[1])
    assert world.log.lines == [
        "audit emcon.breaking: convoy hit",
        f"los lets out {PRECEDENCE_MIN} all {mark:#x}",
        f"break los {mark} 20000 2.0",
        "los freezes",
        "close los",
        "note emcon.broken",
    ]
    assert trio.current_time() == pytest.approx(2.0)
    assert world.told == [(Posture.RESTRICTED, PRECEDENCE_MIN, False), (Posture.RX_ONLY, 0, False)]
    assert replies == [{"frames": 7, "bytes": 7000, "ended_by_order": False}]


async def test_without_a_record_nothing_happens(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.start()
    world.log.is_full = True
    with pytest.raises(OrderRefusedError, match="no space left"):
        await world.breaker.break_silence(ORDER, None)
    assert world.log.lines == []
    assert world.told == []


@pytest.mark.parametrize("part", ["gate", "radio"])
async def test_what_can_not_be_broken_stays_silent(tmp_path: Path, part: str) -> None:
    world = World(tmp_path)
    await world.start()
    if part == "gate":
        world.gate.fails = True
    else:
        world.radios["los"].problem = "no socket"
    with pytest.raises(OrderRefusedError, match="not broken"):
        await world.breaker.break_silence(ORDER, None)
    assert "los freezes" in world.log.lines
    assert world.told == []
    assert world.breaker.event(world.emission.postures).postures["los"] is Posture.RX_ONLY


async def test_one_bundle_ends_it_when_it_has_left(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    await world.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.breaker.break_silence, ORDER, BUNDLE)
        await trio.sleep(0.5)
        assert world.told == [(Posture.RESTRICTED, ABOVE_ALL, True)]
        world.is_here = False
    assert trio.current_time() < 0.7
    assert world.log.lines[-3:] == ["los freezes", "close los", "note emcon.broken"]


async def test_whoever_goes_away_ends_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    await world.start()
    with trio.move_on_after(0.5):
        await world.breaker.break_silence(ORDER, None)
    assert world.log.lines[-3:] == ["los freezes", "close los", "note emcon.broken"]
    assert world.told[-1] == (Posture.RX_ONLY, 0, False)


async def test_an_order_ends_it_and_what_that_opens_stays_open(tmp_path: Path, mock_clock: MockClock) -> None:
    """The clock stands still: nothing but the order can end it."""
    world = World(tmp_path)
    await world.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.breaker.break_silence, ORDER, None)
        await wait_all_tasks_blocked()
        await world.emission.order("unrestricted", None, None, "uid 0")
        closed = world.gate.calls.count("close los")
    assert world.gate.calls.count("close los") == closed
    assert world.gate.is_open["los"]
    assert world.told == [(Posture.RESTRICTED, PRECEDENCE_MIN, False)], "emission control tells of what it changes"


async def test_one_at_a_time_and_only_where_it_is_silent(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    await world.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.breaker.break_silence, ORDER, None)
        await trio.sleep(0.5)
        with pytest.raises(OrderRefusedError, match="already"):
            await world.breaker.break_silence(ORDER, None)
    await world.emission.order("unrestricted", None, None, "uid 0")
    with pytest.raises(OrderRefusedError, match="not silent"):
        await world.breaker.break_silence(ORDER, None)


async def test_frames_that_nobody_let_out_are_an_alarm(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    await world.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.breaker.break_silence, ORDER, None)
        await trio.sleep(0.5)
        world.send(3)
        world.gate.tx_frames["los"] += 2
    assert "note emcon.alarm" in world.log.lines
