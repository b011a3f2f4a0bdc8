# SPDX-License-Identifier: Apache-2.0
"""Playbooks: what policy is told, and what it wants done, in which sequence."""

import pytest

from meshd.emcon.commands import (
    ChangePostures,
    CloseGate,
    OpenGate,
    OrderHolds,
    OrderRefused,
    PersistState,
    ReadCounters,
    Report,
)
from meshd.emcon.events import (
    Booted,
    CountersRead,
    GateClosed,
    GateFailed,
    Persisted,
    PersistingFailed,
    SettingsChanged,
    TimerFired,
)
from meshd.emcon.gate import GateCounters
from meshd.emcon.order import Source
from meshd.emcon.policy import RETRY_S, EmconPolicy
from meshd.emcon.profile import UnknownProfileError
from meshd.emcon.settings import EmconProfile, EmconSettings
from meshd.emcon.upkeep import TRIPWIRE_S
from tests.unit.emcon.emcon_samples import (
    BEARERS,
    LEASE_S,
    OPEN,
    PROFILES,
    RX_ONLY,
    WALL_MS,
    Playbook,
    make_bearer,
    make_settings,
    only,
    order_state,
)

ALL_OPEN = {"sat": OPEN, "los": OPEN, "lan": OPEN}
ALL_SILENT = {"sat": RX_ONLY, "los": RX_ONLY, "lan": RX_ONLY}
RADIO_SILENT = {"sat": RX_ONLY, "los": RX_ONLY, "lan": OPEN}


@pytest.fixture
def playbook() -> Playbook:
    return Playbook()


@pytest.fixture
def opened(playbook: Playbook) -> Playbook:
    """Everything OPEN by a persisted order."""
    playbook.boot(order_state("unrestricted"))
    return playbook


def test_first_boot_is_silent_where_it_radiates(playbook: Playbook) -> None:
    commands = playbook.boot(None)
    assert commands[0] == CloseGate(("dev-sat", "los"))
    assert only(commands, OpenGate) == [OpenGate("lan", None)]
    assert commands[-2:-1] == [ReadCounters()]
    assert only(commands, ChangePostures)[-1] == ChangePostures(RADIO_SILENT)
    assert playbook.policy.source is Source.BOOT
    assert playbook.policy.order.since_ms == WALL_MS
    assert not [report for report in only(commands, Report) if report.kind == "emcon.alarm"]


def test_boot_posture_is_configurable() -> None:
    playbook = Playbook(make_settings(OPEN))
    assert OpenGate("dev-sat", LEASE_S) in playbook.boot(None)


def test_a_damaged_state_is_a_first_boot_with_an_alarm(playbook: Playbook) -> None:
    commands = playbook.boot(None, "its checksum does not match")
    assert playbook.policy.postures == RADIO_SILENT
    (alarm,) = [report for report in only(commands, Report) if report.kind == "emcon.alarm"]
    assert "checksum" in str(alarm.fields["text"])
    assert only(commands, PersistState) == []


def test_a_state_with_an_unknown_profile_is_a_first_boot_with_an_alarm(playbook: Playbook) -> None:
    commands = playbook.boot(order_state("gone"))
    assert playbook.policy.postures == RADIO_SILENT
    assert any(report.kind == "emcon.alarm" for report in only(commands, Report))


def test_a_valid_state_holds_after_a_restart(playbook: Playbook) -> None:
    commands = playbook.boot(order_state("los-only"))
    assert commands[0] == CloseGate(("dev-sat",))
    assert only(commands, OpenGate) == [OpenGate("los", LEASE_S), OpenGate("lan", None)]
    assert playbook.policy.order.profile == "los-only"


def test_towards_silence_the_gate_comes_first_and_the_disk_last(opened: Playbook) -> None:
    commands = opened.order("silent", reason="enemy near")
    assert [type(command) for command in commands] == [CloseGate, ChangePostures, ReadCounters, Report, PersistState]
    assert commands[0] == CloseGate(("dev-sat", "los", "lan"))
    assert commands[1] == ChangePostures(ALL_SILENT)
    assert opened.policy.order.profile == "silent"
    assert opened.tell(Persisted(1)) == [OrderHolds(1)]


def test_silence_holds_without_a_disk_and_is_written_again(opened: Playbook) -> None:
    opened.order("silent")
    commands = opened.tell(PersistingFailed(1, "No space left on device"))
    assert only(commands, OrderHolds) == [OrderHolds(1)]
    assert commands[0] == Report("emcon.alarm", commands[0].fields) if isinstance(commands[0], Report) else False
    assert opened.policy.postures == ALL_SILENT
    assert "No space" in str(opened.policy.unsaved)
    opened.now += RETRY_S
    (again,) = only(opened.tell(TimerFired(WALL_MS)), PersistState)
    assert again.state is not None
    assert again.state.order.profile == "silent"
    assert opened.tell(Persisted(again.number)) == []
    assert opened.policy.unsaved is None


def test_towards_open_the_disk_comes_first(playbook: Playbook) -> None:
    playbook.boot(order_state("silent"))
    (write,) = only(commands := playbook.order("unrestricted"), PersistState)
    assert commands == [write]
    assert playbook.policy.postures == ALL_SILENT
    assert playbook.policy.order.profile == "silent"
    commands = playbook.tell(Persisted(write.number))
    kinds = [type(command) for command in commands]
    assert kinds.index(OpenGate) < kinds.index(ChangePostures)
    assert only(commands, OpenGate) == [OpenGate("dev-sat", LEASE_S), OpenGate("los", LEASE_S), OpenGate("lan", None)]
    assert only(commands, OrderHolds) == [OrderHolds(1)]
    assert playbook.policy.postures == ALL_OPEN


def test_towards_open_without_a_disk_nothing_opens(playbook: Playbook) -> None:
    playbook.boot(order_state("silent"))
    playbook.order("unrestricted")
    commands = playbook.tell(PersistingFailed(1, "Input/output error"))
    assert only(commands, OpenGate) == []
    (refused,) = only(commands, OrderRefused)
    assert "Input/output error" in refused.reason
    assert playbook.policy.order.profile == "silent"
    assert playbook.policy.postures == ALL_SILENT
    # The new order may have reached the disk all the same: what holds is written over it.
    playbook.now += RETRY_S
    (again,) = only(playbook.tell(TimerFired(WALL_MS)), PersistState)
    assert again.state == order_state("silent")


def test_an_order_that_shuts_and_opens_does_both_in_sequence(playbook: Playbook) -> None:
    playbook.boot(order_state("quiet-radio"))
    commands = playbook.order("los-only")
    assert only(commands, OpenGate) == []
    commands = playbook.tell(Persisted(1))
    assert playbook.policy.postures == {"sat": RX_ONLY, "los": OPEN, "lan": OPEN}
    commands = playbook.order("quiet-radio")
    assert commands[0] == CloseGate(("los",))


def test_a_newer_order_takes_the_place_of_one_under_way(playbook: Playbook) -> None:
    playbook.boot(order_state("silent"))
    playbook.order("unrestricted")
    commands = playbook.order("quiet-radio")
    assert only(commands, OrderRefused)[0].number == 1
    assert playbook.tell(Persisted(1)) == []
    assert playbook.policy.postures == ALL_SILENT
    assert only(playbook.tell(Persisted(2)), OrderHolds) == [OrderHolds(2)]
    assert playbook.policy.postures == RADIO_SILENT


def test_an_order_with_an_end_brings_back_the_one_before(opened: Playbook) -> None:
    opened.order("silent", for_s=60.0)
    opened.tell(Persisted(1))
    assert opened.policy.order.until_ms == WALL_MS + 60_000
    opened.now += 59.9
    assert only(opened.tell(TimerFired(WALL_MS)), PersistState) == []
    opened.now += 0.1
    (write,) = only(opened.tell(TimerFired(WALL_MS)), PersistState)
    assert write.state is not None
    assert write.state.order.profile == "unrestricted"
    assert opened.policy.postures == ALL_SILENT
    opened.tell(Persisted(write.number))
    assert opened.policy.postures == ALL_OPEN


def test_the_wake_is_at_the_end_of_the_order() -> None:
    playbook = Playbook()
    playbook.boot(order_state("silent"))
    playbook.order("silent", for_s=0.25)
    playbook.tell(Persisted(1))
    assert playbook.wake_at == playbook.now + 0.25


def test_two_orders_with_an_end_bring_back_the_same(opened: Playbook) -> None:
    opened.order("silent", for_s=60.0)
    opened.tell(Persisted(1))
    (write,) = only(opened.order("quiet-radio", for_s=30.0), PersistState)
    assert write.state is not None
    assert write.state.before is not None
    assert write.state.before.profile == "unrestricted"


def test_the_end_of_an_order_without_a_disk_keeps_the_silence(opened: Playbook) -> None:
    opened.order("silent", for_s=60.0)
    opened.tell(Persisted(1))
    opened.now += 60.0
    (write,) = only(opened.tell(TimerFired(WALL_MS)), PersistState)
    opened.tell(PersistingFailed(write.number, "Read-only file system"))
    assert opened.policy.postures == ALL_SILENT
    opened.now += RETRY_S
    (again,) = only(opened.tell(TimerFired(WALL_MS)), PersistState)
    opened.tell(Persisted(again.number))
    assert opened.policy.postures == ALL_OPEN


def test_an_order_with_an_end_after_none_brings_back_the_boot_posture(playbook: Playbook) -> None:
    playbook.boot(None)
    playbook.order("unrestricted", for_s=10.0)
    playbook.tell(Persisted(1))
    playbook.now += 10.0
    (write,) = only(playbook.tell(TimerFired(WALL_MS)), PersistState)
    assert write.state is None
    assert playbook.policy.postures == RADIO_SILENT
    assert playbook.policy.source is Source.BOOT


def test_an_end_that_came_while_we_were_down(playbook: Playbook) -> None:
    commands = playbook.boot(order_state("silent", WALL_MS + 1000, "unrestricted"), wall_ms=WALL_MS + 1000)
    assert playbook.policy.postures == ALL_OPEN
    assert only(commands, Report)[-1].kind == "emcon.returned"


def test_an_end_that_is_still_to_come_after_a_restart(playbook: Playbook) -> None:
    playbook.boot(order_state("silent", WALL_MS + 500, "unrestricted"))
    assert playbook.policy.postures == ALL_SILENT
    assert playbook.wake_at == playbook.now + 0.5


@pytest.mark.parametrize("wall_ms", [None, WALL_MS - 1])
@pytest.mark.parametrize(("profile", "before"), [("silent", "unrestricted"), ("unrestricted", "silent")])
def test_with_an_unknown_clock_the_stricter_holds(
    playbook: Playbook, wall_ms: int | None, profile: str, before: str
) -> None:
    playbook.boot(order_state(profile, WALL_MS + 5000, before), wall_ms=wall_ms)
    assert playbook.policy.postures == ALL_SILENT
    playbook.now += RETRY_S
    playbook.tell(TimerFired(wall_ms))
    assert playbook.policy.postures == ALL_SILENT
    playbook.now += RETRY_S
    playbook.tell(TimerFired(WALL_MS + 1))
    assert playbook.policy.postures == (ALL_SILENT if profile == "silent" else ALL_OPEN)


@pytest.mark.parametrize(
    ("profile", "for_s", "reason", "words"),
    [
        ("silnet", None, None, "did you mean 'silent'"),
        ("silent", 0.0, None, "more than 0"),
        ("silent", float("nan"), None, "more than 0"),
        ("silent", 1e12, None, "at most"),
        ("silent", None, "x" * 2000, "longer than"),
    ],
)
def test_impossible_orders_change_nothing(
    opened: Playbook, profile: str, for_s: float | None, reason: str | None, words: str
) -> None:
    (refused,) = opened.order(profile, for_s=for_s, reason=reason)
    assert isinstance(refused, OrderRefused)
    assert words in refused.reason
    assert opened.policy.postures == ALL_OPEN


def test_leases_are_renewed_at_a_third(opened: Playbook) -> None:
    opened.now += LEASE_S / 3 - 0.001
    assert only(opened.tell(TimerFired(WALL_MS)), OpenGate) == []
    opened.now += 0.001
    renewed = only(opened.tell(TimerFired(WALL_MS)), OpenGate)
    assert renewed == [OpenGate("dev-sat", LEASE_S), OpenGate("los", LEASE_S)]


def test_a_gate_that_does_not_shut_is_tried_again(opened: Playbook) -> None:
    opened.order("silent")
    (alarm,) = opened.tell(GateFailed(("los",), "EIO"))
    assert isinstance(alarm, Report)
    assert opened.policy.problems == {"los": "EIO"}
    opened.now += 1.0
    assert CloseGate(("los",)) in opened.tell(TimerFired(WALL_MS))
    assert opened.tell(GateFailed(("los",), "EIO")) == []
    (report,) = opened.tell(GateClosed(("los",)))
    assert isinstance(report, Report)
    assert opened.policy.problems == {}


def test_a_gate_that_does_not_open_is_tried_again(opened: Playbook) -> None:
    opened.tell(GateFailed(("lan",), "EIO"))
    opened.now += 1.0
    assert OpenGate("lan", None) in opened.tell(TimerFired(WALL_MS))


def test_frames_of_a_silent_device_are_an_alarm(opened: Playbook) -> None:
    opened.order("silent")
    assert opened.tell(CountersRead({"los": GateCounters(50, 0, is_open=False)})) == []
    (alarm,) = opened.tell(CountersRead({"los": GateCounters(53, 0, is_open=False)}))
    assert isinstance(alarm, Report)
    assert alarm.fields["device"] == "los"
    assert "3 frames" in str(alarm.fields["text"])
    assert opened.tell(CountersRead({"los": GateCounters(53, 9, is_open=False)})) == []


def test_a_gate_that_stands_open_is_shut(opened: Playbook) -> None:
    opened.order("silent")
    commands = opened.tell(CountersRead({"los": GateCounters(50, 0, is_open=True)}))
    assert commands[-1] == CloseGate(("los",))


def test_counters_are_looked_at_each_second(opened: Playbook) -> None:
    opened.now += 1.0
    assert ReadCounters() in opened.tell(TimerFired(WALL_MS))


def test_frames_of_an_open_device_are_none_of_our_business(opened: Playbook) -> None:
    opened.tell(CountersRead({"los": GateCounters(50, 0, is_open=True)}))
    assert opened.tell(CountersRead({"los": GateCounters(99, 0, is_open=True)})) == []


def test_bearers_that_share_a_device_take_the_strictest() -> None:

    shared = (make_bearer("sat", True, "eth1"), make_bearer("los", True, "eth1"))
    policy = EmconPolicy(make_settings(), shared)

    commands = policy.handle(Booted(order_state("los-only"), None, WALL_MS), 0.0)
    assert commands[0] == CloseGate(("eth1",))
    assert only(commands, OpenGate) == []


def test_reload_with_the_profile_in_force_gone_is_refused(opened: Playbook) -> None:
    fewer = {name: profile for name, profile in PROFILES.items() if name != "unrestricted"}
    with pytest.raises(UnknownProfileError):
        opened.policy.check_settings(EmconSettings(fewer, RX_ONLY, LEASE_S))
    opened.policy.check_settings(make_settings())


def test_reload_brings_new_bearers_and_lease(opened: Playbook) -> None:
    bearers = (*BEARERS, make_bearer("hf", True))
    commands = opened.tell(SettingsChanged(EmconSettings(PROFILES, RX_ONLY, 3.0), bearers))
    assert CloseGate(("hf",)) in commands
    assert OpenGate("los", 3.0) in commands
    assert OpenGate("hf", 3.0) in opened.tell(TimerFired(WALL_MS))
    assert opened.wake_at == opened.now + TRIPWIRE_S


def test_new_settings_shut_at_once_and_open_when_that_is_on_record(playbook: Playbook) -> None:
    playbook.boot(order_state("los-only"))
    swapped = PROFILES | {"los-only": EmconProfile("los-only", {"sat": OPEN, "lan": OPEN}, RX_ONLY)}
    commands = playbook.tell(SettingsChanged(EmconSettings(swapped, RX_ONLY, LEASE_S), BEARERS))
    assert CloseGate(("dev-sat", "los")) in commands
    assert [each.device for each in only(commands, OpenGate)] == ["lan"]
    waiting = playbook.tell(TimerFired(WALL_MS, may_open=False))
    assert (only(waiting, ChangePostures), playbook.policy.is_opening_due) == ([], True)
    opening = playbook.tell(TimerFired(WALL_MS))
    assert OpenGate("dev-sat", LEASE_S) in opening
    assert playbook.policy.postures == {"sat": OPEN, "los": RX_ONLY, "lan": OPEN}
    again = playbook.tell(TimerFired(WALL_MS, may_open=False))
    assert (only(again, ChangePostures), playbook.policy.is_opening_due) == ([], False)


def test_an_order_that_silences_forgets_what_new_settings_would_open(playbook: Playbook) -> None:
    playbook.boot(order_state("quiet-radio"))
    looser = PROFILES | {"quiet-radio": EmconProfile("quiet-radio", {}, OPEN)}
    playbook.tell(SettingsChanged(EmconSettings(looser, RX_ONLY, LEASE_S), BEARERS))
    playbook.order("silent")
    playbook.tell(Persisted(1))
    assert only(playbook.tell(TimerFired(WALL_MS)), OpenGate) == []
    assert playbook.policy.postures == ALL_SILENT


def test_reload_during_an_order_opens_nothing_of_it(playbook: Playbook) -> None:
    playbook.boot(order_state("silent"))
    playbook.order("unrestricted")
    bearers = (*BEARERS, make_bearer("hf", True))
    assert only(playbook.tell(SettingsChanged(make_settings(), bearers)), OpenGate) == []
    assert OpenGate("hf", LEASE_S) in playbook.tell(Persisted(1))
