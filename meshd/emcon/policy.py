# SPDX-License-Identifier: Apache-2.0
"""Decides what may leave which bearer: the decision object of emission control (DESIGN section 7).

Towards silence: shut the gate first, in one transaction, then tell everybody, then persist; silence holds also where
that fails, with an alarm. Towards OPEN: persist first; where that fails the order is refused and nothing opens. An
order that shuts one bearer and opens another does both in that sequence. An order with an end (`for_s`) brings back the
one before it, one order deep. At boot a valid state file decides; without one, `boot_posture`. Where an order has an
end and nobody knows the time, the stricter of it and of what would come back holds.

`upkeep` keeps the gate as it is decided here. Schedules, RESTRICTED, breaking silence and hold-off come later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from meshd.emcon.commands import (
    ChangePostures,
    CloseGate,
    Command,
    OpenGate,
    OrderHolds,
    OrderRefused,
    PersistState,
    ReadCounters,
    Report,
    WakeAt,
)
from meshd.emcon.events import (
    Booted,
    CountersRead,
    Event,
    GateClosed,
    GateFailed,
    GateOpened,
    OrderGiven,
    Persisted,
    PersistingFailed,
    SettingsChanged,
    TimerFired,
)
from meshd.emcon.order import Order, OrderState, Source, left_s, wrong_with_order
from meshd.emcon.profile import (
    UnknownProfileError,
    boot_postures,
    device_postures,
    find_profile,
    leased_devices,
    profile_postures,
    stricter_of,
)
from meshd.emcon.settings import EmconSettings
from meshd.emcon.upkeep import OpenDevices, Upkeep, alarm
from meshd.link.settings import BearerSettings, Posture

RETRY_S: Final = 5.0
"""Between attempts to persist what could not be persisted, and looks at a clock that is unknown."""
BOOT: Final = "boot"
"""Shown as the profile's name while no order holds."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """An order on its way to the disk."""

    write: int
    state: OrderState | None
    deadline: float | None
    number: int | None
    """Of the order that waits for an answer."""
    opens: bool


class EmconPolicy:
    """One node's posture. Every bearer starts shut; `Booted` must be the first event."""

    def __init__(self, settings: EmconSettings, bearers: Sequence[BearerSettings]) -> None:
        self._settings = settings
        self._bearers = tuple(bearers)
        self._state: OrderState | None = None
        self._boot_ms: int | None = None
        self._postures = {bearer.name: Posture.RX_ONLY for bearer in bearers}
        self._deadline: float | None = None
        self._pending: _Pending | None = None
        self._writes = 0
        self._save_at: float | None = None
        self._clock_at: float | None = None
        self._unsaved: str | None = None
        self._upkeep = Upkeep()

    @property
    def postures(self) -> Mapping[str, Posture]:
        """By bearer, as they are now."""
        return self._postures

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

    def check_settings(self, settings: EmconSettings) -> None:
        """Could this configuration be taken while the orders of now hold?

        Errors: UnknownProfileError.
        """
        states = (self._state, None if self._pending is None else self._pending.state)
        for state in (state for state in states if state is not None):
            find_profile(settings, state.order.profile)
            if state.before is not None:
                find_profile(settings, state.before.profile)

    def handle(self, event: Event, now: float) -> list[Command]:
        """What is to be done about an event."""
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
                commands = self._upkeep.check(event, self._shut_devices())
            case TimerFired():
                commands = self._tick(event.wall_ms, now)
            case SettingsChanged():
                commands = self._take_settings(event, now)
            case _ as never:
                assert_never(never)
        return [*commands, WakeAt(self._next_wake())]

    def _boot(self, event: Booted, now: float) -> list[Command]:
        self._boot_ms = event.wall_ms
        problem = event.problem
        if event.state is not None:
            try:
                return self._resume(event.state, event.wall_ms, now)
            except UnknownProfileError as exc:
                problem = str(exc)
        self._state = None
        commands = self._enter(boot_postures(self._settings, self._bearers), now)
        if problem is not None:
            # Not overwritten: what is wrong with it may be of interest, and the next order replaces it.
            commands.append(alarm(f"the EMCON state is not valid, what is configured for boot holds: {problem}"))
        return [*commands, self._report("emcon.boot")]

    def _resume(self, state: OrderState, wall_ms: int | None, now: float) -> list[Command]:
        """Take up persisted orders after a restart, or after the clock has become known."""
        ordered = self._postures_of(state.order)
        if not state.is_bounded:
            self._state, self._deadline, self._clock_at = state, None, None
            return [*self._enter(ordered, now), self._report("emcon.resumed")]
        remaining_s = left_s(state.order, wall_ms)
        returning = self._postures_of(state.before)
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
        refusal = wrong_with_order(event.for_s, event.by, event.reason)
        try:
            profile = find_profile(self._settings, event.profile)
        except UnknownProfileError as exc:
            return [OrderRefused(event.number, str(exc))]
        if refusal is not None:
            return [OrderRefused(event.number, refusal)]
        until_ms = None
        if event.for_s is not None and event.wall_ms is not None:
            until_ms = event.wall_ms + round(event.for_s * 1000)
        order = Order(profile.name, event.by, event.reason, event.wall_ms, until_ms)
        bounded = event.for_s is not None
        state = OrderState(order, bounded, self._base() if bounded else None)
        deadline = None if event.for_s is None else now + event.for_s
        postures = profile_postures(profile, self._bearers)
        return self._begin(state, postures, deadline, event.number)

    def _begin(
        self,
        state: OrderState | None,
        postures: dict[str, Posture],
        deadline: float | None,
        number: int | None,
    ) -> list[Command]:
        """Shut what is to be shut, at once; what is to be opened waits for the disk."""
        silent = stricter_of(self._postures, postures)
        opens = silent != postures
        commands = self._shut(silent)
        if self._pending is not None and self._pending.number is not None:
            commands.append(OrderRefused(self._pending.number, "a newer order has taken its place"))
        self._writes += 1
        self._pending = _Pending(self._writes, state, deadline, number, opens)
        if not opens:
            self._state, self._deadline, self._clock_at = state, deadline, None
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
            commands = [*self._enter(self._ordered(pending.state), now), self._report("emcon.order")]
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

    def _tick(self, wall_ms: int | None, now: float) -> list[Command]:
        commands: list[Command] = []
        if self._pending is None:
            commands += self._tick_order(wall_ms, now)
        return [*commands, *self._upkeep.tick(self._open_devices(), now)]

    def _tick_order(self, wall_ms: int | None, now: float) -> list[Command]:
        state = self._state
        if state is not None and self._clock_at is not None and self._clock_at <= now:
            return self._resume(state, wall_ms, now)
        if self._save_at is not None and self._save_at > now:
            return []
        if state is not None and self._deadline is not None and self._deadline <= now:
            return self._begin(state.after(), self._postures_of(state.before), None, None)
        if self._save_at is not None:
            return self._save()
        return []

    def _save(self) -> list[Command]:
        """Write what holds now, again."""
        self._writes += 1
        self._pending = _Pending(self._writes, self._state, self._deadline, None, opens=False)
        return [PersistState(self._writes, self._state)]

    def _enter(self, postures: dict[str, Posture], now: float) -> list[Command]:
        """Bring the gate and everybody to these postures: shutting before opening, opening before thawing.

        Also what is shut already is shut again, and a device that stays open is never shut in between.
        """
        self._postures = postures
        shut = tuple(device for device in self._devices() if device in self._shut_devices())
        commands: list[Command] = [CloseGate(shut)] if shut else []
        opened = self._open_devices()
        commands += [OpenGate(device, lease_s) for device, lease_s in opened.items()]
        self._upkeep.opened(opened, now)
        return [*commands, ChangePostures(dict(postures)), ReadCounters()]

    def _shut(self, silent: dict[str, Posture]) -> list[Command]:
        """Shut the devices that are open now and that these postures shut."""
        opened = self._open_devices()
        changed = silent != self._postures
        self._postures = silent
        shut = tuple(device for device in opened if device in self._shut_devices())
        commands: list[Command] = [CloseGate(shut)] if shut else []
        if changed:
            commands += [ChangePostures(dict(silent)), ReadCounters()]
        return commands

    def _take_settings(self, event: SettingsChanged, now: float) -> list[Command]:
        """`check_settings` has been asked before."""
        self._settings, self._bearers = event.settings, tuple(event.bearers)
        self._postures = {bearer.name: self._postures.get(bearer.name, Posture.RX_ONLY) for bearer in event.bearers}
        if self._pending is not None:
            return self._enter(dict(self._postures), now)
        target = self._ordered(self._state)
        if self._clock_at is not None and self._state is not None:
            target = stricter_of(target, self._postures_of(self._state.before))
        return [*self._enter(target, now), self._report("emcon.settings")]

    def _postures_of(self, order: Order | None) -> dict[str, Posture]:
        if order is None:
            return boot_postures(self._settings, self._bearers)
        return profile_postures(find_profile(self._settings, order.profile), self._bearers)

    def _ordered(self, state: OrderState | None) -> dict[str, Posture]:
        return self._postures_of(None if state is None else state.order)

    def _base(self) -> Order | None:
        """What comes back after an order with an end; a second one of that sort brings back the same."""
        if self._state is None:
            return None
        return self._state.before if self._state.is_bounded else self._state.order

    def _open_devices(self) -> OpenDevices:
        leased = leased_devices(self._bearers)
        devices = device_postures(self._postures, self._bearers)
        return {
            device: self._settings.lease_s if device in leased else None
            for device, posture in devices.items()
            if posture is Posture.OPEN
        }

    def _devices(self) -> list[str]:
        """Each once, in the order of the configuration."""
        return list(dict.fromkeys(bearer.device for bearer in self._bearers))

    def _shut_devices(self) -> frozenset[str]:
        return frozenset(self._devices()) - self._open_devices().keys()

    def _next_wake(self) -> float:
        if self._pending is not None:
            return self._upkeep.wake_at
        wishes = [self._upkeep.wake_at]
        wishes += [at for at in (self._save_at, self._clock_at) if at is not None]
        if self._deadline is not None:
            wishes.append(max(self._deadline, self._save_at or self._deadline))
        return min(wishes)

    def _report(self, kind: str) -> Report:
        order = self.order
        postures = " ".join(f"{name}={posture.value}" for name, posture in sorted(self._postures.items()))
        return Report(
            kind,
            {
                "profile": order.profile,
                "by": order.by,
                "reason": order.reason,
                "until_ms": order.until_ms,
                "postures": postures,
            },
        )


def _after(state: OrderState) -> OrderState | None:
    """What is persisted once an order with an end is over."""
    return None if state.before is None else OrderState(state.before, is_bounded=False, before=None)
