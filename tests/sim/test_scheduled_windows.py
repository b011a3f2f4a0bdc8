# SPDX-License-Identifier: Apache-2.0
"""A day of transmit windows with clocks that drift: no frame outside a window, and what fits into one is delivered.

Two nodes with the real decision objects of emission control; between them a link of a fixed rate. Their clocks are
wrong by up to two seconds, each by another amount that wanders through the day. A frame leaves as soon as the sender's
gate is open and it has something; what the windows mean is judged by true time.
"""

import random
from collections import deque
from functools import partial
from typing import Final

import pytest

from meshd.emcon.commands import ChangePostures, Command, PersistState, WakeAt
from meshd.emcon.events import Booted, Event, OrderGiven, Persisted, TimerFired
from meshd.emcon.order import SCHEDULED
from meshd.emcon.policy import EmconPolicy
from meshd.emcon.schedule import Schedule, ScheduleRow
from meshd.emcon.settings import EmconProfile, EmconSettings
from meshd.link.settings import BearerKind, BearerSettings, Posture
from tests.sim.virtual_time import VirtualTime

DAY_S: Final = 86_400
HOUR_S: Final = 3600
WINDOW_S: Final = 300
MARGIN_S: Final = 2
FRAME_S: Final = 0.25
TRUE_MS: Final = 1_800_000_000_000 // 86_400_000 * 86_400_000
"""Midnight, at the first instant of the simulation."""
DRIFT_MAX_MS: Final = 2000
BEARER: Final = BearerSettings("sat", BearerKind.SATCOM, "sat", True, None, 2_000_000, 1, 15)
SETTINGS: Final = EmconSettings(
    {
        "unrestricted": EmconProfile("unrestricted", {}, Posture.OPEN),
        "silent": EmconProfile("silent", {}, Posture.RX_ONLY),
    },
    Posture.RX_ONLY,
    6.0,
)
HOURLY: Final = Schedule((ScheduleRow("unrestricted", 0, WINDOW_S * 1000, HOUR_S * 1000),), "silent", MARGIN_S * 1000)


class Sender:
    """One node: policy, a gate that only it moves, and a queue of frames."""

    def __init__(self, time: VirtualTime, rng: random.Random) -> None:
        self.time = time
        self.rng = rng
        self.drift_ms = rng.uniform(-DRIFT_MAX_MS, DRIFT_MAX_MS)
        self.policy = EmconPolicy(SETTINGS, [BEARER])
        self.queue: deque[int] = deque()
        self.sent: list[tuple[float, int]] = []
        """True seconds at which the frame began, and its number."""
        self.is_open = False
        self.is_sending = False
        self.wake = 0

    @property
    def wall_ms(self) -> int:
        return TRUE_MS + round((self.time.now - 1000.0) * 1000 + self.drift_ms)

    def start(self, schedule: Schedule) -> None:
        self.tell(Booted(None, None, self.wall_ms))
        self.tell(OrderGiven(1, SCHEDULED, None, "uid 0", None, self.wall_ms, schedule))
        self.wander()

    def wander(self) -> None:
        """The clock runs fast or slow, within its bounds."""
        step_ms = self.rng.uniform(-20, 20)
        self.drift_ms = min(max(self.drift_ms + step_ms, -DRIFT_MAX_MS), DRIFT_MAX_MS)
        self.time.call_later(60, self.wander)

    def tell(self, event: Event) -> None:
        for command in self.policy.handle(event, self.time.now):
            self.take(command)

    def take(self, command: Command) -> None:
        match command:
            case ChangePostures(postures):
                self.is_open = postures["sat"] is Posture.OPEN
                self.pump()
            case PersistState(number, _):
                self.time.call_later(0.01, lambda: self.tell(Persisted(number)))
            case WakeAt(at):
                self.wake += 1
                mine = self.wake
                if at is not None:
                    self.time.call_at(at, lambda: self.tell(TimerFired(self.wall_ms)) if mine == self.wake else None)
            case _:
                pass

    def submit(self, number: int) -> None:
        self.queue.append(number)
        self.pump()

    def pump(self) -> None:
        if self.is_open and self.queue and not self.is_sending:
            self.is_sending = True
            self.sent.append((self.time.now - 1000.0, self.queue.popleft()))
            self.time.call_later(FRAME_S, self.go_on)

    def go_on(self) -> None:
        self.is_sending = False
        self.pump()


def run_day(seed: int, schedule: Schedule) -> tuple[list[tuple[float, int]], dict[int, float]]:
    """(frames as they left, when each was submitted), both in true seconds."""
    time, rng = VirtualTime(), random.Random(seed)
    sender = Sender(time, rng)
    sender.start(schedule)
    submitted: dict[int, float] = {}
    for number in range(5000):
        at = rng.uniform(0, DAY_S)
        submitted[number] = at
        time.call_at(1000.0 + at, partial(sender.submit, number))
    time.run_until(1000.0 + DAY_S + WINDOW_S)
    return sender.sent, submitted


@pytest.mark.parametrize("seed", range(2))
def test_no_frame_outside_a_window_and_every_bundle_that_fits_is_delivered(seed: int) -> None:
    sent, submitted = run_day(seed, HOURLY)
    assert all(0 <= at % HOUR_S <= WINDOW_S for at, _ in sent)
    arrived = {number: at for at, number in sent}
    assert arrived.keys() == submitted.keys()  # the window at midnight takes the last of them
    surely_open_s = WINDOW_S - 4 * MARGIN_S
    assert surely_open_s > 5000 / 24 * FRAME_S
    for number, at in submitted.items():
        until_next_s = HOUR_S - at % HOUR_S
        assert arrived[number] - at < until_next_s + WINDOW_S


def test_without_a_margin_the_drift_shows() -> None:
    """The test above can fail: it is the margin that keeps the frames within the windows."""
    bare = Schedule(HOURLY.rows, HOURLY.otherwise, 0)
    outside = [at for at, _ in run_day(0, bare)[0] if not 0 <= at % HOUR_S <= WINDOW_S]
    assert outside
