# SPDX-License-Identifier: Apache-2.0
"""Playbooks of a node that goes by its schedule: windows, clocks that are wrong, restarts, hung disks."""

import hashlib

import pytest

from meshd.emcon.commands import CloseGate, Command, OpenGate, OrderRefused, PersistState, Report
from meshd.emcon.events import OrderGiven, Persisted, SettingsChanged, TimerFired
from meshd.emcon.order import SCHEDULED, OrderState, decode_state_untrusted, encode_state
from meshd.emcon.profile import UnknownProfileError
from meshd.emcon.schedule import Schedule, ScheduleRow
from meshd.emcon.settings import EmconSettings
from meshd.link.settings import Posture
from tests.unit.emcon.emcon_samples import BEARERS, OPEN, RX_ONLY, Playbook, make_settings, only, order_state

HOUR_MS, MIN_MS = 3_600_000, 60_000
NOON_MS = 1_800_000_000_000 // HOUR_MS * HOUR_MS
HOURLY = Schedule((ScheduleRow("unrestricted", 0, 5 * MIN_MS, HOUR_MS),), "silent", 2000)


class Day(Playbook):
    """A playbook with a wall clock beside the monotonic one."""

    def __init__(self) -> None:
        super().__init__()
        self.wall_ms: int | None = NOON_MS - 10_000

    @property
    def posture(self) -> Posture:
        return self.policy.postures["sat"]

    def scheduled(self, schedule: Schedule | None = HOURLY, for_s: float | None = None) -> PersistState:
        self.orders += 1
        commands = self.tell(OrderGiven(self.orders, SCHEDULED, for_s, "uid 0", None, self.wall_ms, schedule))
        (write,) = only(commands, PersistState)
        self.tell(Persisted(write.number))
        return write

    def tick(self, seconds: float, jump_ms: int = 0) -> list[Command]:
        """Let time pass, and the clock jump."""
        self.now += seconds
        if self.wall_ms is not None:
            self.wall_ms += round(seconds * 1000) + jump_ms
        return self.tell(TimerFired(self.wall_ms))


@pytest.fixture
def day() -> Day:
    """Ten seconds before a window, which is ordered."""
    day = Day()
    day.boot(order_state("silent"), wall_ms=day.wall_ms)
    day.scheduled()
    assert day.posture is RX_ONLY
    return day


def test_a_window_opens_and_shuts_without_the_disk(day: Day) -> None:
    commands = day.tick(11.999)
    assert day.posture is RX_ONLY
    commands = day.tick(0.001)
    assert day.posture is OPEN
    assert only(commands, PersistState) == []
    assert "emcon.schedule" in [each.kind for each in commands if isinstance(each, Report)]
    day.tick(295.999)
    assert day.posture is OPEN
    commands = day.tick(0.001)
    assert day.posture is RX_ONLY
    assert isinstance(commands[0], CloseGate)


def test_the_timer_is_set_for_the_next_change(day: Day) -> None:
    day.tick(11.6)
    assert day.wake_at == pytest.approx(day.now + 0.4)


def test_an_unknown_clock_opens_nothing(day: Day) -> None:
    day.wall_ms = None
    day.tick(60)
    assert day.posture is RX_ONLY


def test_a_clock_that_becomes_unknown_within_a_window_shuts_it(day: Day) -> None:
    day.tick(20)
    assert day.posture is OPEN
    day.wall_ms = None
    day.tick(1)
    assert day.posture is RX_ONLY


def test_a_clock_that_steps_back_opens_nothing_until_it_has_caught_up(day: Day) -> None:
    day.tick(400)
    day.tick(1, jump_ms=-370_000)  # the clock says it is within the window again
    assert day.posture is RX_ONLY
    day.tick(200)
    assert day.posture is RX_ONLY
    day.tick(HOUR_MS / 1000 - 200)
    assert day.wall_ms is not None
    assert day.wall_ms % HOUR_MS < 5 * MIN_MS
    assert day.posture is OPEN


def test_a_step_back_within_the_margin_is_believed(day: Day) -> None:
    day.tick(60)
    day.tick(1, jump_ms=-2500)
    assert day.posture is OPEN


def test_a_new_order_vouches_for_the_clock(day: Day) -> None:
    day.tick(400)
    day.tick(1, jump_ms=-370_000)
    day.scheduled(None)
    assert day.posture is OPEN


def test_a_restart_keeps_the_schedule_and_distrusts_an_earlier_clock(day: Day) -> None:
    write = day.scheduled()
    assert write.state is not None
    state = decode_state_untrusted(encode_state(write.state))
    assert state == write.state
    again = Day()
    again.boot(state, wall_ms=NOON_MS + 60_000)
    assert again.posture is OPEN
    earlier = Day()
    earlier.boot(state, wall_ms=NOON_MS - HOUR_MS + 60_000)
    assert earlier.posture is RX_ONLY


def test_a_window_ends_though_a_write_hangs(day: Day) -> None:
    day.tick(290)
    assert day.posture is OPEN
    day.orders += 1
    day.tell(OrderGiven(day.orders, "unrestricted", None, "uid 0", None, day.wall_ms))
    day.tick(18)
    assert day.posture is RX_ONLY


def test_nothing_opens_while_a_write_hangs(day: Day) -> None:
    day.orders += 1
    day.tell(OrderGiven(day.orders, "unrestricted", None, "uid 0", None, day.wall_ms))
    commands = day.tick(60)
    assert day.posture is RX_ONLY
    assert not [each for each in commands if isinstance(each, OpenGate) and each.device == "dev-sat"]


def test_the_schedule_comes_back_after_an_order_with_an_end(day: Day) -> None:
    day.tick(20)
    (write,) = only(day.order("silent", for_s=30, wall_ms=day.wall_ms), PersistState)
    day.tell(Persisted(write.number))
    assert day.posture is RX_ONLY
    (write,) = only(day.tick(31), PersistState)
    day.tell(Persisted(write.number))
    assert day.posture is OPEN
    assert day.policy.order.profile == SCHEDULED


def test_a_schedule_is_kept_for_the_next_order(day: Day) -> None:
    (write,) = only(day.order("silent", wall_ms=day.wall_ms), PersistState)
    day.tell(Persisted(write.number))
    assert day.policy.schedule == HOURLY
    day.scheduled(None)
    day.tick(20)
    assert day.posture is OPEN


def test_without_a_schedule_nobody_can_go_by_it() -> None:
    day = Day()
    day.boot(None)
    (refusal,) = only(day.order(SCHEDULED), OrderRefused)
    assert "no schedule" in refusal.reason


def test_a_schedule_with_an_unknown_profile_is_refused() -> None:
    day = Day()
    day.boot(None)
    rows = (ScheduleRow("gone", 0, MIN_MS, HOUR_MS),)
    commands = day.tell(OrderGiven(1, SCHEDULED, None, "x", None, NOON_MS, Schedule(rows, "silent", 0)))
    (refusal,) = only(commands, OrderRefused)
    assert "gone" in refusal.reason


def test_a_profile_of_the_schedule_can_not_be_taken_away(day: Day) -> None:
    without = EmconSettings({"silent": make_settings().profiles["silent"]}, RX_ONLY, 6.0)
    with pytest.raises(UnknownProfileError):
        day.policy.check_settings(without)
    day.tell(SettingsChanged(make_settings(), BEARERS))
    assert day.posture is RX_ONLY


def test_the_next_opening_is_known(day: Day) -> None:
    assert day.policy.opens_at_ms(day.now) == NOON_MS + 2000
    day.wall_ms = None
    day.tick(1)
    assert day.policy.opens_at_ms(day.now) is None


def test_a_preview_changes_nothing(day: Day) -> None:
    assert day.policy.preview("unrestricted", None, day.now)["sat"] is OPEN
    assert day.policy.preview(SCHEDULED, None, day.now)["sat"] is RX_ONLY
    assert day.posture is RX_ONLY


def test_a_state_of_version_1_is_read() -> None:
    state = OrderState(order_state("silent").order, is_bounded=False, before=None)
    body = encode_state(state).partition(b"\n")[2].replace(b',\n "schedule": null', b"")
    body = body.removesuffix(b"\n")
    head = f"meshd-emcon 1 {hashlib.sha256(body).hexdigest()}\n".encode()
    assert b"schedule" not in body
    assert decode_state_untrusted(head + body + b"\n") == state


def test_a_window_that_has_to_wait_for_the_record_stays_shut_and_shutting_waits_for_nothing(day: Day) -> None:
    found = []
    for seconds, may_open in ((12, False), (0, True), (300, False)):
        day.now += seconds
        day.wall_ms = (day.wall_ms or 0) + seconds * 1000
        day.tell(TimerFired(day.wall_ms, may_open))
        found.append((day.posture, day.policy.is_opening_due))
    assert found == [(RX_ONLY, True), (OPEN, False), (RX_ONLY, False)]
