# SPDX-License-Identifier: Apache-2.0
"""Turns what the fountain machine knows of the way to a neighbour into samples for the link's score.

Loss is what the neighbour counts, held to what its acknowledgements prove; the round trip is the path meter's. R is
what was acknowledged while there always was more to send, without the share that loss took: the score adds that by
itself. At most one sample each SAMPLE_S, and none when nothing is new: an idle link costs nothing.
"""

from typing import Final

from meshd.bearer.fountain_link import FountainLink
from meshd.cl.fountain.peer import Peer
from meshd.link.metric import LinkSample

SAMPLE_S: Final = 1.0
PACKETS_MIN: Final = 16
"""Fewer are worth no sample of their own."""
FULL_SHARE: Final = 0.5
"""A sender whose credit is used up by so much always has something to send."""
FIRST_SAMPLES: Final = 4
"""Told of a link that has come up whether anything has changed or not: it has to be looked at several times."""
RTT_SHARE: Final = 0.1
RTT_STEP_S: Final = 0.005
"""A change of the round trip is worth telling above both of these."""


class FountainGauge:
    """Of one neighbour on one bearer."""

    def __init__(self) -> None:
        self._told_at = float("-inf")
        self._told_rtt_s = 0.0
        self._since = -1.0
        """The link came up then; as the link says."""
        self._samples = 0
        self._acked_bytes = 0
        self._was_full = False

    def is_due(self, now: float) -> bool:
        """A sample may be taken."""
        return now - self._told_at >= SAMPLE_S

    def take(self, link: FountainLink, peer: Peer, used_share: float, now: float) -> LinkSample | None:
        """The sample that is due, if any; `used_share` is that of the neighbour's credit."""
        meter = peer.meter
        goodput_bps = self._take_goodput(link, meter.loss, used_share, now)
        if link.since != self._since:
            self._since, self._samples = link.since, 0
        step_s = abs(meter.rtt_s - self._told_rtt_s)
        has_moved = step_s > max(RTT_STEP_S, RTT_SHARE * self._told_rtt_s)
        is_first = self._samples < FIRST_SAMPLES
        if not (is_first or has_moved or goodput_bps is not None or meter.count.waiting >= PACKETS_MIN):
            self._told_at = now
            return None
        self._told_at, self._told_rtt_s = now, meter.rtt_s
        self._samples += 1
        packets, lost = meter.count.take()
        return LinkSample(
            goodput_bps,
            rtt_s=meter.rtt_s,
            rtt_deviation_s=meter.rtt_deviation_s,
            packets=packets,
            lost=lost,
            loss_in=peer.loss_in,
        )

    def _take_goodput(self, link: FountainLink, loss: float, used_share: float, now: float) -> float | None:
        """None: there was not always something to send since the last look."""
        acked_bytes, self._acked_bytes = link.sent_bytes - self._acked_bytes, link.sent_bytes
        was_full, self._was_full = self._was_full, used_share >= FULL_SHARE
        if not was_full or not self._was_full or not acked_bytes:
            return None
        return acked_bytes * 8 / (now - self._told_at) / max(1.0 - loss, 0.01)
