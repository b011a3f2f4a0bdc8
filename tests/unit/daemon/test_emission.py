# SPDX-License-Identifier: Apache-2.0
"""The shell of emission control: sequence of gate, disk and answers; its clock is trio's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshd.base.errors import AuditError, GateError, SettingsError
from meshd.daemon import emission, state_file
from meshd.daemon.emission import EmissionControl, OrderRefusedError
from meshd.emcon.order import OrderState
from meshd.emcon.profile import UnknownProfileError
from meshd.emcon.schedule import Schedule, ScheduleRow
from meshd.emcon.settings import EmconProfile, EmconSettings
from meshd.link.settings import Posture
from meshd.linux.link_monitor import LinkChanged, RulesetChanged
from tests.unit.daemon.fake_gate import FakeGate
from tests.unit.emcon.emcon_samples import BEARERS, LEASE_S, OPEN, PROFILES, RX_ONLY, WALL_MS, make_settings

START = ["adopt dev-sat los", "close dev-sat los", "open lan None"]


class Daemon:
    """What is around emission control in a daemon."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "emcon.state"
        self.gate = FakeGate()
        self.log: list[Any] = []
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.wall_ms: int | None = WALL_MS
        self.is_log_full = False
        self.control = self.restart()

    def restart(self) -> EmissionControl:
        self.control = EmissionControl(
            make_settings(),
            BEARERS,
            self.gate,
            self.path,
            self.take_postures,
            lambda kind, fields: self.reports.append((kind, fields)),
            lambda: self.wall_ms,
            trio.current_time,
            watch_kernel=False,
            before_opening=self.put_on_record,
        )
        return self.control

    async def put_on_record(self, state: OrderState | None) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_log_full:
            raise AuditError("the audit log is full")
        self.gate.calls.append("on record")

    def take_postures(self, postures: dict[str, Posture]) -> None:
        self.gate.calls.append("postures " + " ".join(f"{name}={what.value}" for name, what in postures.items()))

    @property
    def alarms(self) -> list[str]:
        return [fields["text"] for kind, fields in self.reports if kind == "emcon.alarm"]


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    # A thread under the test's clock would let virtual time run off: the disk is asked in place.
    async def run_sync(function: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    return Daemon(tmp_path)


def fail_writing(*_: Any) -> None:
    raise OSError(28, "No space left on device")


async def test_start_shuts_before_it_opens(daemon: Daemon) -> None:
    await daemon.control.start()
    assert daemon.gate.calls[:3] == START
    assert daemon.gate.calls[3] == "postures sat=RX_ONLY los=RX_ONLY lan=OPEN"


async def test_start_without_a_gate_is_refused(daemon: Daemon) -> None:
    daemon.gate.lacking = ["nftables egress: not there"]
    with pytest.raises(GateError, match="nftables egress: not there"):
        await daemon.control.start()
    assert daemon.gate.calls == []


async def test_an_order_survives_a_restart(daemon: Daemon) -> None:
    await daemon.control.start()
    status = await daemon.control.order("unrestricted", None, "all clear", "uid 0")
    assert status["profile"] == "unrestricted"
    assert status["reason"] == "all clear"
    assert status["source"] == "order"
    daemon.gate.calls.clear()
    await daemon.restart().start()
    assert daemon.gate.calls[0] == "adopt dev-sat los"
    assert f"open dev-sat {LEASE_S}" in daemon.gate.calls
    assert daemon.control.status()["by"] == "uid 0"


async def test_a_damaged_state_file_is_silence_with_an_alarm(daemon: Daemon) -> None:
    await daemon.control.start()
    await daemon.control.order("unrestricted", None, None, "uid 0")
    daemon.path.write_bytes(daemon.path.read_bytes().replace(b"unrestricted", b"Unrestricted"))
    await daemon.restart().start()
    assert not daemon.gate.is_open["los"]
    assert "checksum" in daemon.alarms[0]
    assert daemon.control.status()["source"] == "boot"


async def test_an_unreadable_state_file_is_silence_with_an_alarm(daemon: Daemon) -> None:
    daemon.path.mkdir()
    await daemon.control.start()
    assert not daemon.gate.is_open["los"]
    assert "Is a directory" in daemon.alarms[0]


async def test_towards_silence_the_gate_shuts_before_the_disk_is_asked(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    await daemon.control.start()
    await daemon.control.order("unrestricted", None, None, "uid 0")
    daemon.gate.calls.clear()
    monkeypatch.setattr(emission, "write_state", lambda *_: daemon.gate.calls.append("disk"))
    await daemon.control.order("silent", None, None, "uid 0")
    assert daemon.gate.calls == [
        "close dev-sat los lan",
        "postures sat=RX_ONLY los=RX_ONLY lan=RX_ONLY",
        "disk",
    ]


async def test_silence_without_a_disk_holds_and_says_so(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    await daemon.control.start()
    await daemon.control.order("unrestricted", None, None, "uid 0")
    monkeypatch.setattr(emission, "write_state", fail_writing)
    status = await daemon.control.order("silent", None, None, "uid 0")
    assert status["profile"] == "silent"
    assert not daemon.gate.is_open["los"]
    assert "would not survive a restart" in daemon.alarms[0]
    assert "No space" in status["bearers"][0]["problem"]


async def test_nothing_opens_that_can_not_be_put_on_record_and_silence_does_not_ask(daemon: Daemon) -> None:
    await daemon.control.start()
    daemon.is_log_full = True
    with pytest.raises(OrderRefusedError, match="audit log is full"):
        await daemon.control.order("unrestricted", None, None, "uid 0")
    assert not daemon.gate.is_open["los"]
    assert (await daemon.control.order("silent", None, None, "uid 0"))["profile"] == "silent"
    daemon.is_log_full = False
    daemon.gate.calls.clear()
    await daemon.control.order("unrestricted", None, None, "uid 0")
    assert daemon.gate.calls.index("on record") < daemon.gate.calls.index(f"open los {LEASE_S}")


async def test_towards_open_without_a_disk_is_refused(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    await daemon.control.start()
    monkeypatch.setattr(emission, "write_state", fail_writing)
    with pytest.raises(OrderRefusedError, match="No space left on device"):
        await daemon.control.order("unrestricted", None, None, "uid 0")
    assert not daemon.gate.is_open["los"]
    assert daemon.control.status()["source"] == "boot"


async def test_an_unknown_profile_is_refused(daemon: Daemon) -> None:
    await daemon.control.start()
    with pytest.raises(UnknownProfileError, match="did you mean 'silent'"):
        await daemon.control.order("silnt", None, None, "uid 0")


async def test_an_impossible_duration_is_refused(daemon: Daemon) -> None:
    await daemon.control.start()
    with pytest.raises(OrderRefusedError, match="more than 0"):
        await daemon.control.order("silent", -1.0, None, "uid 0")


async def test_a_gate_that_does_not_shut_is_an_error_to_who_ordered(daemon: Daemon) -> None:
    await daemon.control.start()
    await daemon.control.order("unrestricted", None, None, "uid 0")
    daemon.gate.fails = True
    with pytest.raises(GateError, match="in force, but dev-sat is not shut"):
        await daemon.control.order("silent", None, None, "uid 0")
    status = daemon.control.status()
    assert status["profile"] == "silent"
    assert status["bearers"][0]["gate"] is None
    assert "the kernel says no" in status["bearers"][0]["problem"]


async def test_status_is_the_map_of_the_protocol(daemon: Daemon) -> None:
    await daemon.control.start()
    status = daemon.control.status()
    order = {"profile", "by", "reason", "since_ms", "until_ms", "source"}
    assert set(status) == order | {"profiles", "schedule", "bearers"}
    assert status["profiles"] == sorted(PROFILES)
    assert status["bearers"][0] == {
        "bearer": "sat",
        "device": "dev-sat",
        "radiating": True,
        "posture": "RX_ONLY",
        "gate": {"open": False, "tx_frames": 0, "blocked_frames": 5},
        "restriction": None,
        "problem": None,
    }


async def test_leases_are_renewed_as_long_as_it_runs(
    daemon: Daemon, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    await daemon.control.start()
    await daemon.control.order("unrestricted", None, None, "uid 0")
    daemon.gate.calls.clear()
    await nursery.start(daemon.control.run)
    await trio.sleep(LEASE_S * 2.1)
    assert daemon.gate.calls.count(f"open los {LEASE_S}") == 6
    assert "open lan None" not in daemon.gate.calls


async def test_an_order_with_an_end_ends(
    daemon: Daemon, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    await daemon.control.start()
    await nursery.start(daemon.control.run)
    await daemon.control.order("quiet-radio", None, None, "uid 0")
    await daemon.control.order("unrestricted", 30.0, None, "uid 7")
    assert daemon.gate.is_open["los"]
    await trio.sleep(29.9)
    assert daemon.gate.is_open["los"]
    await trio.sleep(0.2)
    assert daemon.gate.is_open == {"dev-sat": False, "los": False, "lan": True}
    assert daemon.control.status()["profile"] == "quiet-radio"
    await daemon.restart().start()
    assert daemon.control.status()["profile"] == "quiet-radio"


async def test_a_moving_counter_is_an_alarm(
    daemon: Daemon, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    await daemon.control.start()
    await nursery.start(daemon.control.run)
    daemon.gate.tx_frames["los"] = 4
    await trio.sleep(1.5)
    assert daemon.alarms == ["4 frames left a device that is ordered silent"]


async def test_a_newer_order_refuses_one_that_waits_for_the_disk(
    daemon: Daemon, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await daemon.control.start()
    await daemon.control.order("quiet-radio", None, None, "uid 0")
    going_on, refusals = trio.Event(), []

    async def slow_disk(function: Callable[..., Any], *arguments: Any) -> Any:
        await going_on.wait()
        return function(*arguments)

    async def open_all() -> None:
        try:
            await daemon.control.order("unrestricted", None, None, "uid 1")
        except OrderRefusedError as exc:
            refusals.append(str(exc))

    monkeypatch.setattr(trio.to_thread, "run_sync", slow_disk)
    nursery.start_soon(open_all)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(daemon.control.order, "silent", None, None, "uid 0")
    await trio.testing.wait_all_tasks_blocked()
    assert not daemon.gate.is_open["lan"]  # silence does not wait for the disk
    going_on.set()
    await trio.testing.wait_all_tasks_blocked()
    assert refusals == ["a newer order has taken its place"]
    assert daemon.control.status()["profile"] == "silent"
    assert not any(daemon.gate.is_open.values())
    await daemon.restart().start()
    assert daemon.control.status()["profile"] == "silent"


async def test_an_order_is_completed_when_its_giver_goes_away(daemon: Daemon) -> None:
    await daemon.control.start()
    with trio.CancelScope() as scope:
        scope.cancel()
        await daemon.control.order("unrestricted", None, None, "uid 0")
    assert daemon.gate.is_open["los"]


async def test_a_changed_ruleset_is_reported(daemon: Daemon) -> None:
    await daemon.control.start()
    daemon.gate.mended = ["table netdev meshd had been changed or removed"]
    daemon.control._kernel_changed([RulesetChanged("nft (pid 9)")])
    assert daemon.reports[-1][1]["by"] == "nft (pid 9)"
    daemon.reports.clear()
    daemon.control._kernel_changed([LinkChanged("other0", 4, exists=True, is_up=True)])  # it may stand below ours now
    assert daemon.reports[-1][1]["by"] == "the kernel or an unknown program"


async def test_a_gate_that_can_not_be_mended_is_reported(daemon: Daemon) -> None:
    await daemon.control.start()
    daemon.gate.fails = True
    daemon.control._kernel_changed([RulesetChanged("")])
    assert daemon.alarms[-1] == "the kernel says no"
    assert "the kernel says no" in daemon.control.status()["bearers"][1]["problem"]


async def test_reload_refuses_to_lose_the_profile_in_force(daemon: Daemon) -> None:
    await daemon.control.start()
    await daemon.control.order("los-only", None, None, "uid 0")
    fewer = {name: profile for name, profile in PROFILES.items() if name != "los-only"}
    with pytest.raises(SettingsError, match="los-only"):
        await daemon.control.reload(EmconSettings(fewer, RX_ONLY, LEASE_S))
    await daemon.control.reload(EmconSettings(PROFILES, OPEN, 9.0))
    assert daemon.gate.calls[-2:-1] == ["open lan None"]
    assert "open los 9.0" in daemon.gate.calls


async def test_reload_opens_after_the_record_and_not_without(daemon: Daemon, autojump_clock: object) -> None:
    looser = EmconSettings(PROFILES | {"silent": EmconProfile("silent", {"los": OPEN}, RX_ONLY)}, RX_ONLY, LEASE_S)
    await daemon.control.start()
    await daemon.control.order("silent", None, None, "uid 0")
    daemon.gate.calls.clear()
    daemon.is_log_full = True
    await daemon.control.reload(looser)
    assert not daemon.gate.is_open["los"]
    assert not any(call.startswith("open") for call in daemon.gate.calls)
    assert any("until the audit log takes an entry" in text for text in daemon.alarms)
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.control.run)
        await trio.sleep(3 * emission.RECORD_RETRY_S)
        assert not any(call.startswith("open los") for call in daemon.gate.calls)
        daemon.is_log_full = False
        await trio.sleep(2 * emission.RECORD_RETRY_S)
        nursery.cancel_scope.cancel()
    calls = daemon.gate.calls
    assert calls.index("on record") < calls.index(f"open los {LEASE_S}")
    assert calls.count("on record") == 1


async def test_reload_returns_when_what_it_opens_is_open(daemon: Daemon) -> None:
    await daemon.control.start()
    daemon.gate.calls.clear()
    await daemon.control.reload(EmconSettings(PROFILES, OPEN, LEASE_S))
    calls = daemon.gate.calls
    assert calls.index("on record") < calls.index(f"open los {LEASE_S}")
    await daemon.control.reload(EmconSettings(PROFILES, RX_ONLY, LEASE_S))
    assert calls.count("on record") == 1
    assert not daemon.gate.is_open["los"]


def test_state_file_is_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert state_file.read_state(path, 10) is None
    state_file.write_state(path, b"one")
    state_file.write_state(path, b"two")
    assert state_file.read_state(path, 10) == b"two"
    assert state_file.read_state(path, 1) == b"tw"
    assert path.stat().st_mode & 0o777 == 0o600
    state_file.remove_state(path)
    state_file.remove_state(path)
    assert list(tmp_path.iterdir()) == []


def hourly() -> Schedule:
    return Schedule((ScheduleRow("unrestricted", 0, 300_000, 3_600_000),), "silent", 2000)


async def test_a_schedule_is_shown_and_survives_a_restart(daemon: Daemon) -> None:
    await daemon.control.start()
    status = await daemon.control.order("scheduled", None, None, "uid 0", schedule=hourly())
    assert status["profile"] == "scheduled"
    assert status["schedule"]["rows"] == ["unrestricted from 00:00:00 for 300 s every 3600 s"]
    await daemon.restart().start()
    assert daemon.control.status()["schedule"]["otherwise"] == "silent"


async def test_without_a_schedule_the_order_is_refused(daemon: Daemon) -> None:
    await daemon.control.start()
    with pytest.raises(OrderRefusedError, match="there is no schedule"):
        await daemon.control.order("scheduled", None, None, "uid 0")


async def test_an_order_in_the_past_is_refused(daemon: Daemon) -> None:
    await daemon.control.start()
    with pytest.raises(OrderRefusedError, match="Zulu"):
        await daemon.control.order("silent", None, None, "uid 0", until_ms=1)


async def test_a_preview_opens_nothing(daemon: Daemon) -> None:
    await daemon.control.start()
    daemon.gate.calls.clear()
    assert daemon.control.preview("unrestricted", None)["sat"].value == "OPEN"
    assert daemon.gate.calls == []


async def test_the_status_says_which_path_stays_open(daemon: Daemon) -> None:
    daemon.gate.weak = ["no clsact; what tc redirects passes"]
    await daemon.control.start()
    assert daemon.control.status()["bearers"][0]["problem"] == "no clsact; what tc redirects passes"


async def test_a_window_opens_once_it_is_on_record(daemon: Daemon, autojump_clock: trio.testing.MockClock) -> None:
    await daemon.control.start()
    await daemon.control.order("silent", None, None, "uid 0")
    daemon.wall_ms = WALL_MS - WALL_MS % 3_600_000 - 3000
    await daemon.control.order("scheduled", None, None, "uid 0", schedule=hourly())
    daemon.is_log_full = True
    daemon.gate.calls.clear()
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.control.run)
        daemon.wall_ms += 10_000
        await trio.sleep(20)
        assert not [call for call in daemon.gate.calls if call.startswith("open dev-sat")]
        daemon.is_log_full = False
        await trio.sleep(2 * emission.RECORD_RETRY_S)
        opened = daemon.gate.calls.index(f"open dev-sat {LEASE_S}")
        assert "on record" in daemon.gate.calls[:opened]
        nursery.cancel_scope.cancel()
