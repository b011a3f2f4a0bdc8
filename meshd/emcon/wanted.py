# SPDX-License-Identifier: Apache-2.0
"""What orders give each bearer at a time: by their profile, by the schedule, or as configured for boot.

Part of `policy`, which says whose order holds. Where the time can't be believed, a schedule gives the strictest of all
that it may ever give: nothing is opened that only the schedule would open.
"""

import math
from collections.abc import Mapping, Sequence

from meshd.emcon.order import SCHEDULED, Order, OrderState
from meshd.emcon.profile import (
    boot_postures,
    find_profile,
    profile_postures,
    profile_restrictions,
    restricted,
    stricter_of,
    tighter_of,
)
from meshd.emcon.schedule import Schedule, next_opening_ms, postures_of
from meshd.emcon.schedule_clock import READ_EVERY_S, ScheduleClock
from meshd.emcon.settings import EmconSettings, Restriction
from meshd.link.settings import BearerSettings, Posture


class Wanted:
    """Owns the settings and what is known of the time of day."""

    def __init__(self, settings: EmconSettings, bearers: Sequence[BearerSettings]) -> None:
        self.settings = settings
        self.bearers = tuple(bearers)
        self.clock = ScheduleClock()
        self.weakness = ""
        """Which path a gate that is shut leaves open here; empty: none."""

    def boot(self) -> dict[str, Posture]:
        """Where nobody has given a valid order."""
        return self._assured(boot_postures(self.settings, self.bearers))

    def _assured(self, postures: dict[str, Posture]) -> dict[str, Posture]:
        """Where the gate does not hold what is assured, the device has to be off."""
        unheld = self._unheld(postures) if self.weakness else ()
        return postures | dict.fromkeys(unheld, Posture.OFF)

    def _unheld(self, postures: Mapping[str, Posture]) -> list[str]:
        gated = (Posture.RESTRICTED, Posture.RX_ONLY)
        return [each.name for each in self.bearers if each.assured and postures[each.name] in gated]

    def why_not(self, profile: str, schedule: Schedule | None) -> str | None:
        """Why a profile can't be ordered on this host. Errors: UnknownProfileError."""
        names = schedule.profiles if profile == SCHEDULED and schedule is not None else [profile]
        for name in names if self.weakness else ():
            unheld = self._unheld(profile_postures(find_profile(self.settings, name), self.bearers))
            if unheld:
                which = ", ".join(unheld)
                return f"{which} is assured, and this kernel does not hold it ({self.weakness}): order OFF for it"
        return None

    def by(self, order: Order | None, schedule: Schedule | None, now: float) -> dict[str, Posture]:
        """What an order gives; None: what holds at boot.

        Errors: UnknownProfileError.
        """
        if order is None:
            return self.boot()
        if order.profile != SCHEDULED:
            return self._assured(profile_postures(find_profile(self.settings, order.profile), self.bearers))
        assert schedule is not None, "an order that says `scheduled` is not taken without a schedule"
        at_ms = self.clock.time_ms(now, schedule.margin_ms)
        names = schedule.profiles if at_ms is None else schedule.profiles_near(at_ms)
        return self._assured(postures_of(names, self.settings, self.bearers))

    def of(self, state: OrderState | None, now: float) -> dict[str, Posture]:
        """What the order in force gives."""
        return self.boot() if state is None else self.by(state.order, state.schedule, now)

    def restrictions(self, profile: str, schedule: Schedule | None) -> dict[str, Restriction]:
        """What a profile lets out of each bearer that it restricts; the tightest of all where a schedule changes them.

        Errors: UnknownProfileError.
        """
        names = [profile] if profile != SCHEDULED or schedule is None else schedule.profiles
        found: dict[str, Restriction] = {}
        for name in names:
            found = tighter_of(found, profile_restrictions(find_profile(self.settings, name), self.bearers))
        return found

    def restrictions_of(self, state: OrderState | None) -> dict[str, Restriction]:
        """What the order in force lets out, and what comes back after it, where that may hold already."""
        if state is None:
            return {}
        found = self.restrictions(state.order.profile, state.schedule)
        if state.is_bounded and state.before is not None:
            return self.restrictions(state.before.profile, state.schedule) | found
        return found

    def after(self, state: OrderState, now: float) -> dict[str, Posture]:
        """What comes back after it."""
        return self.by(state.before, state.schedule, now)

    def cautious(self, state: OrderState | None, now: float, *, is_end_known: bool) -> dict[str, Posture]:
        """As `of`; where nobody knows whether the order is over, the stricter of it and of what comes back."""
        target = self.of(state, now)
        return target if is_end_known or state is None else stricter_of(target, self.after(state, now))

    def meet(
        self,
        state: OrderState | None,
        target: Mapping[str, Posture],
        postures: Mapping[str, Posture],
        restrictions: Mapping[str, Restriction],
    ) -> tuple[dict[str, Posture], dict[str, Restriction], bool]:
        """The stricter of what holds and of what a state is to bring; and whether that is to let out more."""
        silent, wanted = stricter_of(postures, target), self.restrictions_of(state)
        tight = tighter_of(restrictions, wanted)
        opens = silent != target or any(tight[name] != wanted.get(name) for name in restricted(silent))
        return silent, tight, opens

    def check(self, state: OrderState) -> None:
        """Whether every profile that it names is there. Errors: UnknownProfileError."""
        orders = (each for each in (state.order, state.before) if each is not None)
        names = [each.profile for each in orders if each.profile != SCHEDULED]
        for name in (*names, *(state.schedule.profiles if state.schedule is not None else ())):
            find_profile(self.settings, name)

    def look_at(self, state: OrderState | None, now: float) -> float:
        """Monotonic time at which to read the clock again: the next change, or soon; infinite where none matters."""
        if state is None or state.schedule is None or state.order.profile != SCHEDULED:
            return math.inf
        at_ms = self.clock.time_ms(now, state.schedule.margin_ms)
        change_ms = None if at_ms is None else state.schedule.next_change_ms(at_ms)
        if at_ms is None or change_ms is None:
            return now + READ_EVERY_S
        return now + min(READ_EVERY_S, (change_ms - at_ms) / 1000)

    def outlasts(self, postures: Mapping[str, Posture], state: OrderState | None) -> bool:
        """Whether these hold something open that the schedule in force would shut some time."""
        if state is None or state.schedule is None or state.order.profile != SCHEDULED:
            return False
        least = postures_of(state.schedule.profiles, self.settings, self.bearers)
        return stricter_of(postures, least) != postures

    def next_opening_ms(self, state: OrderState | None, now: float, shut: Mapping[str, Posture]) -> int | None:
        """Unix time at which the schedule opens the first bearer that is shut now; None: nobody can tell."""
        if state is None or state.schedule is None or state.order.profile != SCHEDULED:
            return None
        at_ms = self.clock.time_ms(now, state.schedule.margin_ms)
        if at_ms is None:
            return None
        names = [name for name, posture in shut.items() if posture is not Posture.OPEN]
        times = [next_opening_ms(state.schedule, at_ms, name, self.settings, self.bearers) for name in names]
        return min((each for each in times if each is not None), default=None)
