# SPDX-License-Identifier: Apache-2.0
"""One direction of a link as a pure object: frames in at `now`, frames out when they are due.

It follows netem's order of operations (net/sched/sch_netem.c), all of it when the frame arrives: duplicate, **loss,
before the rate** (a lost frame takes no air time), corrupt, limit, then overtaking or delay and rate. With
`loss_after_rate` the lost frame is held like the others, takes its air time and never arrives. The rate works
as in netem: a frame is due at `max(now + delay, due time of the frame before) + its serialisation time`. The limit
counts every frame held, those that are only under way included. Beyond netem: jitter never reorders, even without a
rate (the netem back end gets the same by giving such a profile a very high rate). Not here: correlations,
distributions other than uniform, slots, ECN.

No socket, no clock: `relay` gives it both.
"""

import heapq
import random
from dataclasses import dataclass
from typing import Final

from netns_lab.link_profile import LinkProfile
from netns_lab.loss_model import LossModel, make_loss_model

LOST: Final = b""
"""Stands for a frame that takes air time and never arrives."""


@dataclass(slots=True)
class EmulatorCounters:
    """What became of the frames so far."""

    arrived: int = 0
    sent: int = 0
    lost: int = 0
    cut: int = 0
    """Dropped because the link was cut."""
    over_limit: int = 0
    duplicated: int = 0
    corrupted: int = 0
    overtook: int = 0


class LinkEmulator:
    """Holds the frames that are on their way to one member of a link."""

    def __init__(self, profile: LinkProfile, rng: random.Random) -> None:
        self._rng: Final = rng
        self._held: list[tuple[float, int, bytes]] = []
        self._sequence = 0
        self._last_due_s = float("-inf")
        self._since_overtaking = 0
        self._is_cut = False
        self._profile = profile
        self._loss: LossModel = make_loss_model(profile.loss, rng)
        self.counters: Final = EmulatorCounters()

    @property
    def is_cut(self) -> bool:
        """True between `cut` and `restore`."""
        return self._is_cut

    def cut(self) -> None:
        """Lose every frame from now on. Frames under way still arrive, as they do on a radio path."""
        self._is_cut = True

    def restore(self) -> None:
        """Undo `cut`."""
        self._is_cut = False

    def set_profile(self, profile: LinkProfile) -> None:
        """For frames from now on; those under way keep their time and their order."""
        self._profile = profile
        self._loss = make_loss_model(profile.loss, self._rng)

    def enqueue(self, frame: bytes, now: float) -> None:
        """A frame arrived from a sender."""
        self.counters.arrived += 1
        if self._is_cut:
            self.counters.cut += 1
            return
        copies = 1
        takes_air = self._profile.loss_after_rate
        if self._happens(self._profile.duplicate):
            self.counters.duplicated += 1
            copies = 2
        if not takes_air and self._loss.loses(now):
            self.counters.lost += 1
            copies -= 1
        if (
            not takes_air and copies == 2 and self._loss.loses(now)
        ):  # netem sends the copy through its own loss decision, after the first
            self.counters.lost += 1
            copies = 1
        for _ in range(copies):
            self._hold(frame, now)

    def frames_due(self, now: float) -> list[bytes]:
        """Frames whose time has come, in the order in which they arrive."""
        due = []
        while self._held and self._held[0][0] <= now:
            frame = heapq.heappop(self._held)[2]
            if frame:
                due.append(frame)
        self.counters.sent += len(due)
        return due

    def get_timer(self) -> float | None:
        """When `frames_due` has something next; None when nothing is held."""
        return self._held[0][0] if self._held else None

    def held_frames(self) -> int:
        """Frames in the queue or under way."""
        return len(self._held)

    def _hold(self, frame: bytes, now: float) -> None:
        if self._happens(self._profile.corrupt):
            self.counters.corrupted += 1
            frame = self._flip_one_bit(frame)
        if len(self._held) >= self._profile.limit:
            self.counters.over_limit += 1
            return
        due_s = now if self._overtakes() else self._due(len(frame), now)
        if self._profile.loss_after_rate and self._loss.loses(due_s - self._profile.delay_s):
            self.counters.lost += 1
            frame = LOST
        self._sequence += 1
        heapq.heappush(self._held, (due_s, self._sequence, frame))

    def _overtakes(self) -> bool:
        if self._since_overtaking >= self._profile.gap - 1 and self._happens(self._profile.reorder):
            self._since_overtaking = 0
            self.counters.overtook += 1
            return True
        self._since_overtaking += 1
        return False

    def _due(self, size_bytes: int, now: float) -> float:
        profile = self._profile
        delay_s = profile.delay_s
        if profile.jitter_s:
            delay_s += self._rng.uniform(-profile.jitter_s, profile.jitter_s)
        serialisation_s = size_bytes * 8 / profile.rate_bps if profile.rate_bps else 0.0
        self._last_due_s = max(now + delay_s, self._last_due_s) + serialisation_s
        return self._last_due_s

    def _flip_one_bit(self, frame: bytes) -> bytes:
        damaged = bytearray(frame)
        bit = self._rng.randrange(len(frame) * 8)
        damaged[bit // 8] ^= 1 << (bit % 8)
        return bytes(damaged)

    def _happens(self, probability: float) -> bool:
        return probability > 0.0 and self._rng.random() < probability
