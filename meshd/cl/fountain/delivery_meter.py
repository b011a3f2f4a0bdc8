# SPDX-License-Identifier: Apache-2.0
"""How fast datagrams come out at one node, and how long they wait on the way: what finds the rate of a bearer.

From the same reports as loss and round trip (`path_meter.py`): how much of what was sent by when has arrived by when.
A bearer has one modem, and what is sent to others waits in the same queue; so the bytes between two datagrams count all
that left between them, and the report says what share of it came out. As in BBR (draft-ietf-ccwg-bbr) a rate is never
counted over a shorter time than it was sent in, and a rate at which there was nothing more to send proves no limit. The
time in which datagrams came out is the node's own: it reports the rate at which it took them. When reports arrive
here would say more of the way back, where they may wait behind others.

Random loss does not lower the rate that is found: the least loss of late is taken for what the link always loses.
What follows from all this is left to `rate_finder.py`.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from meshd.cl.fountain.frames import U32_MAX, Report

LOG_MAX: Final = 16384
"""Datagrams sent and not reported on that are remembered: the oldest go first."""
MARKS_MAX: Final = 128
SPAN_RTTS: Final = 0.375
SPAN_MIN_S: Final = 0.05
SPAN_DATAGRAMS: Final = 24
"""A rate is counted over no less than these (at first over fewer, to know anything soon),"""
FIRST_SAMPLES: Final = 32
FIRST_DATAGRAMS: Final = 8
LOSS_RTTS: Final = 2
LOSS_DATAGRAMS: Final = 100
"""and what is always lost over these."""
RECENT_RTTS: Final = 3
"""Samples of the round trip whose least one is the present one: a single late report proves nothing."""
BASE_S: Final = 10.0
"""A round trip that was not so short for once or twice this long is not believed in any more: the way is another."""
LOSS_BASE_MAX: Final = 0.3
"""More is not what a link always loses."""
AS_FAST: Final = 0.95
"""What came out in less time than this share of the time in which it was sent could have come out faster."""
JUMP: Final = 0.35
"""So much more loss than always, and what is sent does not fit."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """What one report says: datagrams until then, to this node and in all."""

    sent_at: float
    arrived_at: float
    """On our clock, and late by the way back."""
    there_at: float
    """On the node's clock, from an unknown beginning."""
    all_bytes: int
    rests: int
    sent: int
    received: int


class DeliveryMeter:
    """The way from here to one node."""

    def __init__(self) -> None:
        self._log: deque[tuple[int, float, int, int, int]] = deque(maxlen=LOG_MAX)
        """Of each datagram that no report has covered: counter, time, and until then bytes to this node, bytes of the
        bearer, and rests."""
        self._own_bytes = self._echo_own_bytes = 0
        self._reported_s = 0.0
        """On the node's clock: its last report."""
        self._marks: deque[_Mark] = deque(maxlen=MARKS_MAX)
        self._old_marks: deque[_Mark] = deque(maxlen=MARKS_MAX)
        """The same, and further back."""
        self._sent = 0
        self._echo = -1
        self._echo_bytes = 0
        self._rtts_s: deque[float] = deque(maxlen=RECENT_RTTS)
        self._base_s = self._base_before_s = float("inf")
        self._base_until = 0.0
        self._high_bps = self._high_before_bps = 0.0
        self._low_loss = self._low_loss_before = 1.0
        self._crowded_since: float | None = None
        self.samples = 0
        self.latest_bps = 0.0
        """What came out of late when no more would have come out."""
        self.report_gap_s = 0.0

    def note_sent(self, counter: int, now: float, plaintext_bytes: int, all_bytes: int, rests: int) -> None:
        """A datagram leaves that this node hears; `rests`: how often there was nothing to send."""
        self._own_bytes += plaintext_bytes
        self._log.append((counter, now, self._own_bytes, all_bytes, rests))

    def restart(self) -> None:
        """What the node counts has nothing to do with what it counted before."""
        self._marks.clear()
        self._old_marks.clear()

    # What is known.

    @property
    def rate_bps(self) -> float:
        """The highest rate of late at which the bearer would carry all but what is always lost; 0: not known."""
        return max(self._high_bps, self._high_before_bps) / (1 - self.loss_base)

    @property
    def loss_base(self) -> float:
        """What the link loses always."""
        least = min(self._low_loss, self._low_loss_before)
        return min(max(least, 0.0), LOSS_BASE_MAX) if least < 1 else 0.0

    @property
    def base_rtt_s(self) -> float:
        """The round trip with nothing in the way; infinity: not known."""
        return min(self._base_s, self._base_before_s)

    @property
    def queue_s(self) -> float:
        """How much longer it takes now."""
        return min(self._rtts_s) - self.base_rtt_s if self._rtts_s else 0.0

    @property
    def under_way_bytes(self) -> int:
        """Of the bearer, since the last datagram that is known to have arrived here."""
        return self._log[-1][3] - self._echo_bytes if self._log else 0

    def is_crowded(self, for_s: float) -> bool:
        """For so long there was much more loss than always."""
        since = self._crowded_since
        return since is not None and bool(self._marks) and self._marks[-1].arrived_at - since >= for_s

    def turn(self) -> None:
        """Time goes on: what was measured two turns ago is forgotten."""
        if self._high_bps:
            self._high_before_bps, self._high_bps = self._high_bps, 0.0
            self._low_loss_before, self._low_loss = self._low_loss, 1.0

    def fall(self) -> None:
        """It is clear that no more comes out than of late."""
        self._high_bps, self._high_before_bps = self.latest_bps, 0.0

    # Reports.

    def take_report(self, report: Report, now: float) -> None:
        """A report that is newer than the one before."""
        if report.counter < self._echo:
            return
        newest = None
        while self._log and self._log[0][0] <= report.counter:
            newest = self._log.popleft()
            self._sent += 1
        self._echo = report.counter
        if newest is None:
            return
        _, sent_at, own_bytes, self._echo_bytes, rests = newest
        own_bytes, self._echo_own_bytes = own_bytes - self._echo_own_bytes, own_bytes
        hold_s = report.hold_us / 1e6
        arrived_at = now - hold_s
        if newest[0] == report.counter:
            self._take_rtt(arrived_at - sent_at, now)
        if self._marks:
            last = self._marks[-1]
            sent, received = self._sent - last.sent, (report.received - last.received) & U32_MAX
            if received > 2 * sent + 2:
                self.restart()
            self.report_gap_s += (max(arrived_at - last.arrived_at, 0.0) - self.report_gap_s) / 8
            since_last_s = own_bytes * received / sent * 8 / report.rate_bps if report.rate_bps else 0.0
            self._reported_s += since_last_s or arrived_at - last.arrived_at
        mark = _Mark(
            sent_at, arrived_at, self._reported_s - hold_s, self._echo_bytes, rests, self._sent, report.received
        )
        self._marks.append(mark)
        self._old_marks.append(mark)
        self._sample(mark)

    def _take_rtt(self, rtt_s: float, now: float) -> None:
        self._rtts_s.append(rtt_s)
        if now >= self._base_until:
            self._base_before_s, self._base_s = self._base_s, float("inf")
            self._base_until = now + BASE_S
        self._base_s = min(self._base_s, rtt_s)

    def _sample(self, end: _Mark) -> None:
        base_s = self.base_rtt_s if self._rtts_s else 0.0
        begin = _find_begin(self._old_marks, end, max(LOSS_RTTS * base_s, SPAN_MIN_S), LOSS_DATAGRAMS)
        if begin is not None:
            self._low_loss = min(self._low_loss, 1 - _share(begin, end))
        datagrams = FIRST_DATAGRAMS if self.samples < FIRST_SAMPLES else SPAN_DATAGRAMS
        begin = _find_begin(self._marks, end, max(SPAN_RTTS * base_s, SPAN_MIN_S), datagrams)
        if begin is None:
            return
        share = _share(begin, end)
        arriving_s, sending_s = end.there_at - begin.there_at, end.sent_at - begin.sent_at
        rate_bps = (end.all_bytes - begin.all_bytes) * 8 * share / max(arriving_s, sending_s)
        if end.rests == begin.rests:
            if arriving_s > AS_FAST * sending_s or not self.latest_bps:
                self.latest_bps = rate_bps
            self._take_sample(rate_bps, 1 - share, end.arrived_at)
        elif rate_bps > max(self._high_bps, self._high_before_bps):
            self._high_bps = rate_bps

    def _take_sample(self, rate_bps: float, loss: float, at: float) -> None:
        self.samples += 1
        self._high_bps = max(self._high_bps, rate_bps)
        if loss < self.loss_base + JUMP:
            self._crowded_since = None
        elif self._crowded_since is None:
            self._crowded_since = at


def _find_begin(marks: deque[_Mark], end: _Mark, span_s: float, datagrams: int) -> _Mark | None:
    """The newest mark that is far enough back; what is older is forgotten."""
    until, sent = end.arrived_at - span_s, end.sent - datagrams
    while len(marks) > 1 and marks[1].arrived_at <= until and marks[1].sent <= sent:
        marks.popleft()
    begin = marks[0]
    return begin if begin.arrived_at <= until and begin.sent <= sent else None


def _share(begin: _Mark, end: _Mark) -> float:
    """Of what was sent between them, what has arrived."""
    return min(((end.received - begin.received) & U32_MAX) / (end.sent - begin.sent), 1.0)
