# SPDX-License-Identifier: Apache-2.0
"""Finds the rate of a bearer whose rate nobody knows, from delay and delivery; loss alone neither finds nor lowers it.

After BBR (draft-ietf-ccwg-bbr), for datagrams that a fountain code repairs: begin at the floor and rise threefold each
round trip until datagrams begin to wait or nothing more comes out; let the queue run empty; then go a little below what
was found, and every few round trips a little above it for half a round trip, and as much below for as long. When more
came out twice in a row, rise again. Less is admitted at once when datagrams wait, or when much more is lost than always
for half a round trip; and never is more under way than the link carries in its round trip and a little, so that
a link whose rate falls is not flooded while the news are on their way.

All nodes that have symbols of ours to answer have a say, and the slowest decides. While no node answers at all (silent,
or dead), the floor holds: there is nobody to see how much is too much.
"""

import enum
from collections.abc import Sequence
from typing import Final

from meshd.cl.fountain.delivery_meter import SPAN_DATAGRAMS, DeliveryMeter

RISE: Final = 3.0
"""The pace, as a share of what was found, while rising;"""
DRAIN: Final = 0.5
"""until what waits has gone;"""
CRUISE: Final = 0.98
"""as a rule: what waits becomes less;"""
PROBE: Final = 1.25
"""to see whether more comes out;"""
SETTLE: Final = 0.75
"""and right after that."""
CRUISE_RTTS: Final = 3
PROBE_RTTS: Final = 0.5
ROUND_MIN_S: Final = 0.15
"""A round trip counts for no less, since reports do not follow closer than some 20 ms; nor for less than it takes to
send as many datagrams as a rate is counted over."""
RISING: Final = 1.25
"""A rise goes on as long as so much more comes out in a round trip,"""
FLAT_MAX: Final = 2
"""with one exception."""
GROWN: Final = 1.1
"""A probe has found more."""
GROWN_MIN: Final = 2
"""So many probes in a row that found more begin a rise."""
QUEUE_RTTS: Final = 1 / 6
QUEUE_S: Final = 0.04
QUEUE_DATAGRAMS: Final = 3
DATAGRAM_BITS: Final = 1514 * 8
"""Datagrams wait when they take longer by all these together than with nothing in the way."""
CLEAR: Final = 0.25
"""While they take longer by this share of that, no probe has found more."""
ROOM_RTTS: Final = 0.25
ROOM_S: Final = 0.1
ROOM_BYTES: Final = 8 * 1514
"""What may be under way besides what the link carries in its round trip and between two reports."""
ROUND_MAX_S: Final = 10.0
"""Phases last no longer, whatever a node says."""


class Phase(enum.Enum):
    """What the pace is for."""

    RISE = RISE
    DRAIN = DRAIN
    CRUISE = CRUISE
    PROBE = PROBE
    SETTLE = SETTLE


class RateFinder:
    """Of one bearer."""

    def __init__(self, rate_min_bps: int, rate_max_bps: int) -> None:
        self._min_bps = rate_min_bps
        self._max_bps = rate_max_bps
        self.found_bps = float(rate_min_bps)
        """What the bearer carries, as far as is known; the floor to begin with."""
        self.phase = Phase.RISE
        self._until = float("-inf")
        self._from_bps = 0.0
        """Found when the round trip of a rise, or the probe, began."""
        self._flat = 0
        self._grown = 0
        self._is_probed = False
        """A probe was made whose outcome is not known yet."""
        self._samples = 0

    def pace_bps(self, meters: Sequence[DeliveryMeter], now: float, *, is_anybody_live: bool) -> float:
        """The pace now; `meters` are of the live nodes that have something to answer."""
        if not is_anybody_live:
            return self._min_bps
        known = [each for each in meters if each.rate_bps]
        if known:
            self._weigh(known, now)
        if any(self._is_full(each) for each in meters):
            return self._min_bps
        return self._bound(self.found_bps * self.phase.value)

    def _bound(self, rate_bps: float) -> float:
        return min(max(rate_bps, self._min_bps), self._max_bps)

    def _is_full(self, meter: DeliveryMeter) -> bool:
        """No more may be under way; nor is anything known of a node that has not answered yet."""
        rtt_s = meter.base_rtt_s
        if rtt_s > ROUND_MAX_S:
            return True
        room_s = rtt_s * (1 + ROOM_RTTS) + ROOM_S + 2 * meter.report_gap_s
        gain = RISE if self.phase is Phase.RISE else 1.0
        return meter.under_way_bytes > self.found_bps / 8 * room_s * gain + ROOM_BYTES

    # What was measured.

    def _weigh(self, known: Sequence[DeliveryMeter], now: float) -> None:
        samples = sum(each.samples for each in known)
        is_new, self._samples = samples != self._samples, samples
        count_s = SPAN_DATAGRAMS * DATAGRAM_BITS / self.found_bps
        round_s = min(max(ROUND_MIN_S, count_s, *(each.base_rtt_s for each in known)), ROUND_MAX_S)
        crowded = [each for each in known if self._is_crowded(each, round_s)] if is_new else []
        for each in crowded:
            each.fall()
        self.found_bps = self._bound(min(each.rate_bps for each in known))
        if crowded:
            self._grown, self._is_probed = 0, False
            self._enter(Phase.DRAIN, now, round_s)
        elif now >= self._until or (self.phase is Phase.DRAIN and all(map(self._is_empty, known))):
            self._go_on(known, now, round_s)

    def _is_crowded(self, meter: DeliveryMeter, round_s: float) -> bool:
        waits_s = self._waits_s(meter)
        if meter.queue_s > waits_s or self.phase is Phase.DRAIN:  # less is sent already: what is lost is old
            return meter.queue_s > waits_s
        return meter.is_crowded(0 if self.phase is Phase.RISE else round_s / 2)

    def _waits_s(self, meter: DeliveryMeter) -> float:
        return meter.base_rtt_s * QUEUE_RTTS + QUEUE_S + QUEUE_DATAGRAMS * DATAGRAM_BITS / self.found_bps

    def _is_empty(self, meter: DeliveryMeter) -> bool:
        """What is under way does not wait anywhere."""
        return meter.under_way_bytes <= self.found_bps / 8 * (meter.base_rtt_s + meter.report_gap_s)

    # Phases.

    def _enter(self, phase: Phase, now: float, for_s: float) -> None:
        self.phase, self._until = phase, now + for_s

    def _go_on(self, known: Sequence[DeliveryMeter], now: float, round_s: float) -> None:
        match self.phase:
            case Phase.RISE:
                self._rise_on(now, round_s)
            case Phase.DRAIN:
                self._is_probed = False
                self._enter(Phase.CRUISE, now, round_s)
            case Phase.PROBE:
                self._enter(Phase.SETTLE, now, round_s * PROBE_RTTS)
            case Phase.SETTLE:
                self._is_probed = True
                self._enter(Phase.CRUISE, now, round_s)
            case Phase.CRUISE if self._is_probed:
                self._judge(known, now, round_s)
            case Phase.CRUISE:
                self._probe(known, now, round_s)

    def _rise_on(self, now: float, round_s: float) -> None:
        self._flat = 0 if self.found_bps >= self._from_bps * RISING else self._flat + 1
        self._from_bps = self.found_bps
        self._enter(Phase.DRAIN if self._flat >= FLAT_MAX else Phase.RISE, now, round_s)

    def _probe(self, known: Sequence[DeliveryMeter], now: float, round_s: float) -> None:
        for each in known:
            each.turn()
        self._from_bps = self.found_bps
        self._enter(Phase.PROBE, now, round_s * PROBE_RTTS)

    def _judge(self, known: Sequence[DeliveryMeter], now: float, round_s: float) -> None:
        """What the probe has found has come back."""
        self._is_probed = False
        is_clear = all(each.queue_s < self._waits_s(each) * CLEAR for each in known)
        self._grown = self._grown + 1 if is_clear and self.found_bps >= self._from_bps * GROWN else 0
        if self._grown >= GROWN_MIN:
            self._grown = self._flat = 0
            self._enter(Phase.RISE, now, round_s)
        elif self._grown:
            self._probe(known, now, round_s)
        else:
            self._enter(Phase.CRUISE, now, round_s * (CRUISE_RTTS - 1))
