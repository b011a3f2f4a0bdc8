# SPDX-License-Identifier: Apache-2.0
"""Decides what may leave which bearer: the decision object of emission control (DESIGN section 7).

Towards silence: shut the gate first, in one transaction, then tell everybody, then persist; silence holds also where
that fails, with an alarm. Towards OPEN: persist first; where that fails the order is refused and nothing opens. An
order that shuts one bearer and opens another does both in that sequence. An order with an end (`for_s`) brings back the
one before it, one order deep. At boot a valid state file decides; without one, `boot_posture`. Where an order has an
end and nobody knows the time, the stricter of it and of what would come back holds. An order that says `scheduled`
leaves it to the schedule: the state is not written when that opens or shuts, since the order is durable.

`wanted` says what an order gives each bearer, `device_plan` what that means for devices, `upkeep` keeps the gate as it
is decided here.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, assert_never

from meshd.emcon.commands import (
    ChangePostures,
    Command,
    OrderHolds,
    OrderRefused,
    PersistState,
    ReadCounters,
    Report,
    WakeAt,
)
from meshd.emcon.device_plan import DevicePlan
from meshd.emcon.events import (
    Booted,
    CountersRead,
    Event,
    GateClosed,
    GateFailed,
    GateOpened,
    GateProbed,
    HookRan,
    OrderGiven,
    Persisted,
    PersistingFailed,
    SettingsChanged,
    SilenceBroken,
    TimerFired,
)
from meshd.emcon.order import SCHEDULED, Order, OrderState, Source, left_s, make_order, wrong_with_order
from meshd.emcon.pending import Pending
from meshd.emcon.profile import UnknownProfileError, restricted, stricter_of, tighter_of
from meshd.emcon.reports import alarm, order_report
from meshd.emcon.schedule import Schedule
from meshd.emcon.settings import EmconSettings, Restriction
from meshd.emcon.upkeep import Upkeep
from meshd.emcon.wanted import Wanted
from meshd.link.settings import BearerSettings, Posture

RETRY_S: Final = 5.0
"""Between attempts to persist what could not be persisted, and looks at a clock that is unknown."""
BOOT: Final = "boot"
"""Shown as the profile's name while no order holds."""


class EmconPolicy:
    """One node's posture. Every bearer starts shut; `Booted` must be the first event."""

    def __init__(self, settings: EmconSettings, bearers: Sequence[BearerSettings]) -> None:
        self._wanted = Wanted(settings, bearers)
        self._state: OrderState | None = None
        self._boot_ms: int | None = None
        self._postures = {bearer.name: Posture.RX_ONLY for bearer in bearers}
        self._restrictions: dict[str, Restriction] = {}
        self._deadline: float | None = None
        self._pending: Pending | None = None
        self._writes = 0
        self._save_at: float | None = None
        self._schedule_at = math.inf
        self._clock_at: float | None = None
        self._unsaved: str | None = None
        self._upkeep = Upkeep()
        self.is_opening_due = False
        """The schedule, or new settings, would have opened something at the last tick, had they been allowed to."""
        self._set_down: set[str] = set()
        self._is_resettling = False
        """New settings may let out more than is let out now: that waits for the record."""

    @property
    def postures(self) -> Mapping[str, Posture]:
        """By bearer, as they are now."""
        return self._postures

    @property
    def restrictions(self) -> Mapping[str, Restriction]:
        """Of every bearer that is RESTRICTED now."""
        return self._restrictions

    @property
    def source(self) -> Source:
        """Whether an order holds, or what is configured for boot."""
        return Source.BOOT if self._state is None else Source.ORDER

    @property
    def order(self) -> Order:
        """The order in force; at boot one that says so."""
        if self._state is None:
            return Order(BOOT, BOOT, None, self._boot_ms, None)
        return self._state.order

    @property
    def problems(self) -> Mapping[str, str]:
        """By device: what the gate refused."""
        return self._upkeep.problems

    @property
    def unsaved(self) -> str | None:
        """Why what holds now would not survive a restart; None: it would."""
        return self._unsaved

    @property
    def is_opening(self) -> bool:
        """What is being written would open something: it does so only when that is durable."""
        return self._pending is not None and self._pending.opens

    def check_settings(self, settings: EmconSettings) -> None:
        """Could this configuration be taken while the orders of now hold?

        Errors: UnknownProfileError.
        """
        wanted = Wanted(settings, self._wanted.bearers)
        for state in (self._state, None if self._pending is None else self._pending.state):
            if state is not None:
                wanted.check(state)

    @property
    def schedule(self) -> Schedule | None:
        """The last one that was ordered, in force or not."""
        return None if self._state is None else self._state.schedule

    def opens_at_ms(self, now: float) -> int | None:
        """Unix time at which the schedule opens something that is shut now; None: no such time is known."""
        return self._wanted.next_opening_ms(self._state, now, self._postures)

    def preview(self, profile: str, schedule: Schedule | None, now: float) -> dict[str, Posture]:
        """What an order would give each bearer now. Errors: UnknownProfileError."""
        order = Order(profile, "", None, None, None)
        return self._wanted.by(order, schedule or self.schedule, now)

    def preview_restrictions(self, profile: str, schedule: Schedule | None) -> dict[str, Restriction]:
        """What it would let out of each bearer that it restricts. Errors: UnknownProfileError."""
        return self._wanted.restrictions(profile, schedule or self.schedule)

    def handle(self, event: Event, now: float) -> list[Command]:
        """What is to be done about an event."""
        if isinstance(event, Booted | OrderGiven | TimerFired):
            self._wanted.clock.read(event.wall_ms, now)
        match event:
            case Booted():
                commands = self._boot(event, now)
            case OrderGiven():
                commands = self._take_order(event, now)
            case Persisted():
                commands = self._persisted(event, now)
            case PersistingFailed():
                commands = self._persisting_failed(event, now)
            case GateClosed():
                commands = self._upkeep.done(event.devices)
            case GateOpened():
                commands = self._upkeep.done([event.device])
            case GateFailed():
                commands = self._upkeep.failed(event, now)
            case CountersRead():
                commands = self._upkeep.check(event, self._plan())
            case SilenceBroken(devices):
                commands = self._upkeep.leave_out(devices)
            case TimerFired():
                commands = self._tick(event, now)
            case GateProbed():
                self._wanted.weakness, commands = event.weakness, []
            case HookRan():
                commands = self._take_hook(event, now)
            case SettingsChanged():
                commands = self._take_settings(event, now)
            case _ as never:
                assert_never(never)
        self._schedule_at = self._wanted.look_at(self._state, now)
        return [*commands, WakeAt(self._next_wake())]

    def _boot(self, event: Booted, now: float) -> list[Command]:
        self._boot_ms = event.wall_ms
        problem = event.problem
        if event.state is not None:
            self._wanted.clock.was(event.state.order.since_ms)
            try:
                self._wanted.check(event.state)
                return self._resume(event.state, event.wall_ms, now)
            except UnknownProfileError as exc:
                problem = str(exc)
        self._state = None
        commands = self._enter(self._wanted.boot(), now)
        if problem is not None:
            # Not overwritten: what is wrong with it may be of interest, and the next order replaces it.
            commands.append(alarm(f"the EMCON state is not valid, what is configured for boot holds: {problem}"))
        return [*commands, self._report("emcon.boot")]

    def _resume(self, state: OrderState, wall_ms: int | None, now: float) -> list[Command]:
        """Take up persisted orders after a restart, or after the clock has become known."""
        ordered = self._wanted.of(state, now)
        if not state.is_bounded:
            self._state, self._deadline, self._clock_at = state, None, None
            return [*self._enter(ordered, now), self._report("emcon.resumed")]
        remaining_s = left_s(state.order, wall_ms)
        returning = self._wanted.after(state, now)
        if remaining_s is None:
            first = self._clock_at is None
            self._state, self._deadline, self._clock_at = state, None, now + RETRY_S
            if not first:
                return []
            text = "the order has an end and the clock is unknown: the stricter postures hold until it is known"
            return [*self._enter(stricter_of(ordered, returning), now), alarm(text), self._report("emcon.resumed")]
        self._clock_at = None
        if remaining_s <= 0:
            self._state, self._deadline, self._save_at = state.after(), None, now
            return [*self._enter(returning, now), self._report("emcon.returned")]
        self._state, self._deadline = state, now + remaining_s
        return [*self._enter(ordered, now), self._report("emcon.resumed")]

    def _take_order(self, event: OrderGiven, now: float) -> list[Command]:
        schedule = event.schedule or self.schedule
        refusal = wrong_with_order(event.for_s, event.by, event.reason)
        if event.profile == SCHEDULED and schedule is None:
            refusal = "there is no schedule: give one with `meshctl emcon schedule`"
        if refusal is not None:
            return [OrderRefused(event.number, refusal)]
        order = make_order(event.profile, event.by, event.reason, event.wall_ms, event.for_s)
        bounded, deadline = event.for_s is not None, None if event.for_s is None else now + event.for_s
        state = OrderState(order, bounded, self._state.base if bounded and self._state else None, schedule)
        try:
            self._wanted.check(state)
            refusal = self._wanted.why_not(event.profile, schedule)
        except UnknownProfileError as exc:
            refusal = str(exc)
        if refusal is not None:
            return [OrderRefused(event.number, refusal)]
        if event.profile == SCHEDULED:
            self._wanted.clock.vouch(event.wall_ms, now)
        return self._begin(state, self._wanted.of(state, now), deadline, event.number, now)

    def _begin(
        self,
        state: OrderState | None,
        postures: dict[str, Posture],
        deadline: float | None,
        number: int | None,
        now: float,
    ) -> list[Command]:
        """Shut what is to be shut, at once; what is to be opened waits for the disk."""
        silent, tight, opens = self._wanted.meet(state, postures, self._postures, self._restrictions)
        opens = opens or self._wanted.outlasts(postures, self._state)
        commands = self._shut(silent, tight, now)
        if self._pending is not None and self._pending.number is not None:
            commands.append(OrderRefused(self._pending.number, "a newer order has taken its place"))
        self._writes += 1
        self._pending = Pending(self._writes, state, deadline, number, opens)
        if not opens:
            self._state, self._deadline, self._clock_at = state, deadline, None
            if not any(isinstance(each, ChangePostures) for each in commands):
                commands.append(ChangePostures(dict(self._postures)))  # its end, or the schedule, may be another one
            commands.append(self._report("emcon.order"))
        return [*commands, PersistState(self._writes, state)]

    def _persisted(self, event: Persisted, now: float) -> list[Command]:
        pending = self._pending
        if pending is None or pending.write != event.number:
            return []
        self._pending, self._save_at, self._unsaved = None, None, None
        commands: list[Command] = []
        if pending.opens:
            self._state, self._deadline, self._clock_at = pending.state, pending.deadline, None
            commands = [*self._enter(self._wanted.of(pending.state, now), now), self._report("emcon.order")]
        if pending.number is not None:
            commands.append(OrderHolds(pending.number))
        return commands

    def _persisting_failed(self, event: PersistingFailed, now: float) -> list[Command]:
        """The disk may hold the old state or the new one: what holds now is written again until that succeeds."""
        pending = self._pending
        if pending is None or pending.write != event.number:
            return []
        self._pending, self._save_at, self._unsaved = None, now + RETRY_S, event.reason
        if not pending.opens:
            warning = alarm(f"silence holds but would not survive a restart: {event.reason}")
            return [warning] if pending.number is None else [warning, OrderHolds(pending.number)]
        text = f"the order could not be made durable, so nothing is opened: {event.reason}"
        commands: list[Command] = [alarm(text)]
        if pending.number is not None:
            commands.append(OrderRefused(pending.number, text))
        return commands

    def _tick(self, event: TimerFired, now: float) -> list[Command]:
        commands = self._tick_order(event.wall_ms, now) if self._pending is None else []
        commands += self._keep_schedule(now, may_open=event.may_open)
        commands += self._resettle(now, may_open=event.may_open)
        return [*commands, *self._upkeep.tick(self._plan(), now)]

    def _keep_schedule(self, now: float, *, may_open: bool) -> list[Command]:
        """Shut and open as the schedule says; while a write is under way, or to be waited for, nothing is opened."""
        state, self.is_opening_due = self._state, False
        if state is None or state.order.profile != SCHEDULED or self._clock_at is not None:
            return []
        target = self._wanted.of(state, now)
        silent = stricter_of(self._postures, target)
        self.is_opening_due = self._pending is None and not may_open and silent != target
        if self._pending is not None or self.is_opening_due:
            tight = tighter_of(self._restrictions, self._wanted.restrictions_of(state))
            return self._shut(silent, tight, now)
        return [] if target == self._postures else [*self._enter(target, now), self._report("emcon.schedule")]

    def _tick_order(self, wall_ms: int | None, now: float) -> list[Command]:
        state = self._state
        if state is not None and self._clock_at is not None and self._clock_at <= now:
            return self._resume(state, wall_ms, now)
        if self._save_at is not None and self._save_at > now:
            return []
        if state is not None and self._deadline is not None and self._deadline <= now:
            return self._begin(state.after(), self._wanted.after(state, now), None, None, now)
        if self._save_at is not None:
            return self._save()
        return []

    def _save(self) -> list[Command]:
        """Write what holds now, again."""
        self._writes += 1
        self._pending = Pending(self._writes, self._state, self._deadline, None, opens=False)
        return [PersistState(self._writes, self._state)]

    def _enter(
        self, postures: dict[str, Posture], now: float, restrictions: Mapping[str, Restriction] | None = None
    ) -> list[Command]:
        """Bring the gate and everybody to these postures: shutting before opening, opening before thawing.

        What is shut already is shut again, and what stays open is never shut in between. Restrictions: the order's.
        """
        known = restrictions or self._restrictions | self._wanted.restrictions_of(self._state)
        self._postures = postures
        self._restrictions = {name: known[name] for name in restricted(postures)}
        plan = self._plan()
        self._upkeep.opened(plan, now)
        return [*plan.close(plan.shut), *plan.let(plan.letting), ChangePostures(dict(postures)), ReadCounters()]

    def _shut(self, silent: dict[str, Posture], restrictions: Mapping[str, Restriction], now: float) -> list[Command]:
        """Take from the devices what they may send now and may not by these postures and restrictions."""
        before, changed = self._plan(), silent != self._postures
        self._postures = silent
        self._restrictions = {name: restrictions[name] for name in restricted(silent)}
        plan = self._plan()
        commands = plan.tightened(before)
        self._upkeep.begin_leases(plan, now)
        if changed or commands:
            commands += [ChangePostures(dict(silent)), ReadCounters()]
        return commands

    def _take_hook(self, event: HookRan, now: float) -> list[Command]:
        """Bearers whose hooks have failed are down, whatever their posture."""
        was_down = event.bearer in self._set_down
        (self._set_down.add if event.has_failed else self._set_down.discard)(event.bearer)
        return [] if was_down is event.has_failed else self._enter(dict(self._postures), now, self._restrictions)

    def _take_settings(self, event: SettingsChanged, now: float) -> list[Command]:
        """What they shut is shut at once. `check_settings` has been asked before."""
        self._wanted.settings, self._wanted.bearers = event.settings, tuple(event.bearers)
        self._postures = {bearer.name: self._postures.get(bearer.name, Posture.RX_ONLY) for bearer in event.bearers}
        self._is_resettling = True
        target = self._wanted.cautious(self._state, now, is_end_known=self._clock_at is None)
        silent, tight, _ = self._wanted.meet(self._state, target, self._postures, self._restrictions)
        return self._enter(silent, now, tight)

    def _resettle(self, now: float, *, may_open: bool) -> list[Command]:
        """Open what new settings open, when that is on record and nothing is being written."""
        if not self._is_resettling or self._pending is not None:
            return []
        target = self._wanted.cautious(self._state, now, is_end_known=self._clock_at is None)
        _, _, opens = self._wanted.meet(self._state, target, self._postures, self._restrictions)
        self.is_opening_due = self._is_resettling = opens and not may_open
        if self._is_resettling:
            return []
        return [*(self._enter(target, now) if opens else ()), self._report("emcon.settings")]

    def _plan(self) -> DevicePlan:
        postures = self._postures | dict.fromkeys(self._set_down & self._postures.keys(), Posture.OFF)
        return DevicePlan.make(postures, self._restrictions, self._wanted.settings, self._wanted.bearers)

    def _next_wake(self) -> float:
        wishes = [self._upkeep.wake_at, self._schedule_at]
        if self._pending is not None:
            return min(wishes)
        wishes += [at for at in (self._save_at, self._clock_at) if at is not None]
        if self._deadline is not None:
            wishes.append(max(self._deadline, self._save_at or self._deadline))
        return min(wishes)

    def _report(self, kind: str) -> Report:
        return order_report(kind, self.order, self._postures)
