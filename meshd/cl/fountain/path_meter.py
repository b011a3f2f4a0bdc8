# SPDX-License-Identifier: Apache-2.0
"""What is known of the way to one node: its loss, its round trip, from the reports that come back.

A report names the highest counter that arrived and how many datagrams arrived in all. We know which counters were
meant for that node, so the loss is exact however many other nodes the bearer serves, and duplicates or reordering
disturb it by a datagram at most.
"""

from collections import deque
from typing import Final

from meshd.cl.fountain.frames import U32_MAX, Report
from meshd.link.metric import LossCount

LOG_MAX: Final = 16384
"""Datagrams sent and not reported on that are remembered: the oldest go first."""
LOSS_MEMORY: Final = 1000
"""Datagrams over which loss is averaged."""
LOSS_BEGIN: Final = 0.01
"""Assumed of a link that nothing is known of."""
LOSS_BEGIN_WEIGHT: Final = 50
OUTAGE_S: Final = 1.0
"""When most is lost for so long, that is an outage, and says nothing of what is lost at other times."""
DISORDER_S: Final = 0.08
"""A datagram may be overtaken by so much."""
RTT_WEIGHT: Final = 8
DEVIATION_WEIGHT: Final = 4
"""RFC 6298: an eighth of each new sample, and a quarter of how far it is off."""
SHORTEST_WEIGHT: Final = 64
"""The shortest round trip grows by this part of how far a longer one is off."""


class PathMeter:
    """The way from here to one node."""

    def __init__(self, rtt_s: float) -> None:
        self._log: deque[tuple[int, float]] = deque(maxlen=LOG_MAX)
        """Counter and time of each datagram that no report has covered."""
        self._received: int | None = None
        self._weight = float(LOSS_BEGIN_WEIGHT)
        self._is_measured = False
        self._echo_sent_at = 0.0
        self.echo = -1
        """Highest counter that arrived there."""
        self.settled = -1
        """Highest counter that arrived there, or would have by the last report if it were to."""
        self.loss = LOSS_BEGIN
        self.rtt_s = rtt_s
        self.rtt_deviation_s = rtt_s / 2
        self._shortest_s = 0.0
        """Of the round trips of late; nothing until there was one."""
        self.count = LossCount()
        """For the link's score: what the node says of its loss, as far as its acknowledgements leave room for it."""
        self.sent = 0
        self.lost = 0
        """Since the start: datagrams that a report has covered, and those of them that did not arrive."""

    @property
    def owd_s(self) -> float:
        """So long at least a datagram is on its way, as far as that is known."""
        return self._shortest_s / 2

    def note_sent(self, counter: int, now: float) -> None:
        """A datagram for this node, or for all, leaves."""
        self._log.append((counter, now))

    def take_report(self, report: Report, now: float) -> bool:
        """Update everything; False for a report that came late and tells nothing new of what arrived."""
        if report.counter < self.echo:
            return False
        covered, sent_at, began_at, at = 0, None, now, now
        while self._log and self._log[0][0] <= report.counter:
            counter, at = self._log.popleft()
            began_at = min(began_at, at)
            covered += 1
            sent_at = at if counter == report.counter else None
        self.echo = report.counter
        hold_s = report.hold_us / 1e6
        if sent_at is not None:
            self._echo_sent_at = sent_at
            self._take_rtt(now - sent_at - hold_s)
        self.settled = max(self.settled, self.echo)
        self._settle(self._echo_sent_at + hold_s - DISORDER_S)
        previous, self._received = self._received, report.received
        arrived = covered if previous is None else (report.received - previous) & U32_MAX
        is_outage = at - began_at >= OUTAGE_S and 2 * arrived < covered
        if arrived <= 2 * covered + 2 and not is_outage:  # more arrived than was sent: the node has started anew
            self._take_loss(covered, covered - arrived)
            self.count.note_report(covered, covered - arrived)
        elif is_outage:
            self.count.note_report(arrived, 0)
        return True

    def _settle(self, until: float) -> None:
        """Nothing had arrived after the echo for so long that what was sent until then is lost."""
        for counter, at in self._log:
            if at > until:
                break
            self.settled = max(self.settled, counter)

    def restart(self) -> None:
        """The node has started anew: what it counts has nothing to do with what it counted before."""
        self._received = None

    def _take_rtt(self, sample_s: float) -> None:
        sample_s = max(sample_s, 0.0)
        if not self._is_measured:
            self._is_measured = True
            self.rtt_s, self.rtt_deviation_s = sample_s, sample_s / 2
            self._shortest_s = sample_s
        self._shortest_s = min(sample_s, self._shortest_s + (sample_s - self._shortest_s) / SHORTEST_WEIGHT)
        self.rtt_deviation_s += (abs(sample_s - self.rtt_s) - self.rtt_deviation_s) / DEVIATION_WEIGHT
        self.rtt_s += (sample_s - self.rtt_s) / RTT_WEIGHT

    def _take_loss(self, sent: int, lost: int) -> None:
        self.sent += sent
        self.lost += lost
        if sent:
            self._weight = min(self._weight + sent, LOSS_MEMORY)
            self.loss += (lost - self.loss * sent) / max(self._weight, sent)
            self.loss = min(max(self.loss, 0.0), 1.0)
