# SPDX-License-Identifier: Apache-2.0
"""One node on the bearer as the machine sees it: whether it lives, what arrived from it, and when it is answered.

A node that has our symbols has to be heard of. When it is not, PING asks; after DEATH_PROBES without an answer it is
called dead, and asked on every max(1 s, round trip) as long as something waits for it. Reports follow what arrives,
about REPORTS_PER_RTT in a round trip: more would say little, and fewer leave the sender guessing.
"""

import enum
from typing import Final

from meshd.cl.fountain.datagram import Opened
from meshd.cl.fountain.delivery_meter import DeliveryMeter
from meshd.cl.fountain.frames import U32_MAX, Heard, Report
from meshd.cl.fountain.path_meter import PathMeter
from meshd.cl.fountain.receiver import Receiver
from meshd.cl.fountain.settings import PeerSettings

DEATH_PROBES: Final = 3
PROBE_MIN_S: Final = 1.0
IDLE_DEATH_S: Final = 200.0
"""Three beacons of an idle node, and a little; longer where the node says that its beacons are further apart."""
HEARD_S: Final = 135.0
"""Two beacons of an idle node, and a little: who was heard since is named in our own."""
LATE_BEACONS: Final = 3.1
ONE_WAY_BEACONS: Final = 3
"""After so many that do not name us, a node does not hear us;"""
ONE_WAY_MIN_S: Final = 0.75
"""of those that follow closer on each other than this, one counts."""
SILENCE_MIN_S: Final = 0.5
"""A node that has said that it falls silent is taken for silent for so long, whatever else comes of it."""
BEACON_PAUSE_MAX_S: Final = 4000
"""No node is believed that its beacons are further apart."""
REPORTS_PER_RTT: Final = 8
REPORT_MIN_S: Final = 0.02
REPORT_REPEATS: Final = 2
"""Reports soon after the last datagram that had something new;"""
REPORTS_STEADY: Final = 60
"""so many in all every max(1 s, round trip) while an object is open, and then less and less often, to"""
REPORT_LAST_S: Final = 60.0
CONTROL_REPORT: Final = 16
"""Datagrams without symbols after which they are reported on, too."""
NEVER: Final = float("inf")

Figure = str | int | float


class Life(enum.Enum):
    """What is known of a node."""

    UNKNOWN = "not heard yet"
    UP = "up"
    DOWN = "not heard any more"
    ONE_WAY = "heard, but does not hear us"
    SILENT = "silent on order"
    MUTE = "never answers"


class Peer:
    """One node."""

    def __init__(self, settings: PeerSettings, receiver: Receiver, rtt_s: float, *, is_mute: bool) -> None:
        self.settings = settings
        self.receiver = receiver
        self.meter = PathMeter(rtt_s)
        self.delivery: DeliveryMeter | None = None
        """Where the bearer's rate is found."""
        self.life = Life.MUTE if is_mute else Life.UNKNOWN
        self.heard_at = -NEVER
        self.silenced_at = -NEVER
        self._next_s = 0.0
        """Until its next beacon, as it said."""
        self._lacking = 0
        self._lacking_at = -NEVER
        """Beacons that did not name us, since it last showed that it hears us."""
        # What arrived.
        self.boot = 0
        self.counter = 0
        self.first_counter = 0
        self.counter_at = 0.0
        self.received = 0
        self._control_since_report = 0
        self.received_bytes = 0
        self._reported_bytes = 0
        # What is to be said.
        self.report_at = NEVER
        self._reported_at = -NEVER
        self._repeats = 0
        self.pong: tuple[int, float] | None = None
        """Token of a PING, and when it came."""
        # Whether it lives.
        self.is_expecting = False
        """It has symbols of ours that it did not acknowledge."""
        self.probe_at = NEVER
        self.is_probe_due = False
        self._probes = 0

    @property
    def is_reachable(self) -> bool:
        """True when symbols may be sent to it, as it asks for them."""
        return self.life is Life.UP

    @property
    def loss(self) -> float | None:
        """Measured, of what we send to it; None while it is not reachable."""
        return self.meter.loss if self.life is Life.UP else None

    def is_heard(self, now: float) -> bool:
        """True when a datagram of it came of late."""
        return now < self.heard_at + max(HEARD_S, LATE_BEACONS * self._next_s)

    # Whether it hears us.

    def note_named(self) -> None:
        """It has shown that it hears us."""
        self._lacking = 0

    def take_heard(self, heard: Heard, own: int, now: float) -> bool:
        """It says whom it hears; True when it should have named us, and could be answered."""
        self._next_s = float(min(heard.next_s, BEACON_PAUSE_MAX_S))
        if own in heard.nodes:
            self._lacking = 0
        elif heard.is_whole and now >= self._lacking_at + ONE_WAY_MIN_S:
            self._lacking += 1
            self._lacking_at = now
            return self._lacking <= ONE_WAY_BEACONS
        return False

    @property
    def is_one_way(self) -> bool:
        """True when it does not hear us, as far as that is known."""
        return self._lacking >= ONE_WAY_BEACONS

    # Arrivals.

    def note_arrival(self, opened: Opened, now: float) -> bool:
        """A datagram of it has come; True when the node has started anew."""
        is_new_start = opened.boot != self.boot
        if is_new_start:
            self.boot, self.counter, self.first_counter, self.received = opened.boot, 0, opened.counter, 0
        if opened.counter > self.counter:
            self.counter, self.counter_at = opened.counter, now
        self.received += 1
        self.received_bytes += len(opened.plaintext)
        self.heard_at = now
        self._probes = 0
        self.is_probe_due = False
        self.probe_at = now + self._answer_s if self.is_expecting else NEVER
        return is_new_start

    @property
    def _answer_s(self) -> float:
        """How long an answer may take."""
        return 1.25 * self.meter.rtt_s + 3 * self.report_interval_s + 0.05

    # Reports.

    @property
    def report_interval_s(self) -> float:
        """From one report to the next."""
        return max(self.meter.rtt_s / REPORTS_PER_RTT, REPORT_MIN_S)

    def want_report(self, now: float) -> None:
        """Something has come, or was accepted, that the node should know of."""
        self._repeats = 0
        self.report_at = min(self.report_at, max(now, self._reported_at + self.report_interval_s))

    def note_control(self, now: float) -> None:
        """A datagram without symbols has come: its sender wants to know of its loss now and then."""
        self._control_since_report += 1
        if self._control_since_report >= CONTROL_REPORT:
            self.report_at = min(self.report_at, max(now, self._reported_at + self.report_interval_s))

    def make_report(self, now: float) -> Report:
        """The report that leaves now; the next one is due when something comes, or to repeat this one."""
        elapsed_s = now - self._reported_at
        rate_bps = (
            0 if elapsed_s > 60 or elapsed_s <= 0 else int((self.received_bytes - self._reported_bytes) * 8 / elapsed_s)
        )
        self._reported_at = now
        self._reported_bytes = self.received_bytes
        self._control_since_report = 0
        self.report_at = NEVER
        if self.receiver.open_objects or self.receiver.has_answers:
            self.report_at = now + self._repeat_s()
        hold_us = min(int((now - self.counter_at) * 1e6), U32_MAX)
        received, lost = self.received & U32_MAX, self._missing & U32_MAX
        return Report(self.settings.index, self.boot, self.counter, hold_us, received, lost, rate_bps)

    def _repeat_s(self) -> float:
        """When to say it again if nothing comes: soon, after a round trip, each second, and less and less often."""
        self._repeats += 1
        steady_s = max(self.meter.rtt_s, PROBE_MIN_S)
        if self._repeats <= REPORT_REPEATS:
            return self.report_interval_s if self._repeats == 1 else max(self.meter.rtt_s, self.report_interval_s)
        return min(steady_s * 2.0 ** min(max(self._repeats - REPORTS_STEADY, 0), 10), REPORT_LAST_S)

    @property
    def _missing(self) -> int:
        """Counters that were passed over: lost, or on a unicast bearer also for others."""
        return max(self.counter - self.first_counter + 1 - self.received, 0)

    @property
    def loss_in(self) -> float:
        """The share of its datagrams that did not reach us."""
        return self._missing / max(self._missing + self.received, 1)

    def revive_after_silence(self, at: float) -> None:
        """We were silent until then: what is to be said is said at once, and nothing is late."""
        if self.receiver.has_answers or self.receiver.open_objects:
            self._repeats = 0
            self.report_at = at
        self.heard_at = max(self.heard_at, at)
        self._lacking = 0
        self.probe_at = at + self._answer_s if self.is_expecting else NEVER

    # Life.

    def expect(self, now: float) -> None:
        """A symbol leaves for it."""
        if not self.is_expecting:
            self.is_expecting = True
            self.probe_at = now + self._answer_s

    def is_dying(self, now: float) -> bool:
        """Look after an answer that is late; True when the node is to be called dead now."""
        is_long_ago = self.heard_at + max(IDLE_DEATH_S, LATE_BEACONS * self._next_s) <= now
        if self.life is Life.ONE_WAY and is_long_ago:
            self.life = Life.DOWN
        if self.life is Life.UP and not self.is_expecting:
            return is_long_ago
        if now < self.probe_at or self.life not in (Life.UP, Life.DOWN):
            return False
        if self._probes >= DEATH_PROBES and self.life is Life.UP:
            self.probe_at = now
            return True
        self._probes += 1
        self.is_probe_due = True
        self.probe_at = now + max(PROBE_MIN_S, self.meter.rtt_s)
        return False

    def describe(self, now: float) -> dict[str, Figure]:
        """Figures for people."""
        return {
            "node": self.settings.node.uri,
            "state": self.life.value,
            "last_heard_s": now - self.heard_at,
            "rtt_s": self.meter.rtt_s,
            "loss_out": self.meter.loss,
            "loss_in": self.loss_in,
            "open_objects_in": self.receiver.open_objects,
            "late_symbols": self.receiver.symbols_late,
            "decode_failures": self.receiver.failures,
            "objects_without_room": self.receiver.refused_objects,
        }
