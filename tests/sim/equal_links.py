# SPDX-License-Identifier: Apache-2.0
"""Two equal links on a virtual clock, measured each second with loss or jitter: how often is one left for the other?"""

import random
from collections.abc import Callable, Mapping
from typing import Final

from meshd.bundle.eid import parse_eid
from meshd.link.identity import LinkId
from meshd.link.link_table import SCORED_BYTES
from meshd.link.metric import LinkSample, measured, seeded
from meshd.link.switching import Choice, Score, evaluate

RATE_BPS: Final = 10_000_000
RTT_S: Final = 0.1
PACKETS_PER_S: Final = 64
NEIGHBOUR: Final = parse_eid("dtn://dpop2/")
LINKS: Final = LinkId("a", NEIGHBOUR), LinkId("b", NEIGHBOUR)

Measure = Callable[[random.Random], LinkSample]


def _lossy(rng: random.Random) -> LinkSample:
    lost = sum(rng.random() < 0.1 for _ in range(PACKETS_PER_S))
    return LinkSample(RATE_BPS, rtt_s=RTT_S, packets=PACKETS_PER_S, lost=lost)


def _varying(rng: random.Random) -> LinkSample:
    return LinkSample(RATE_BPS * rng.uniform(0.7, 1.3), rtt_s=RTT_S)


class _Jitter:
    """A delay that varies by 30 %, smoothed as RFC 6298 has it."""

    def __init__(self) -> None:
        self._rtt_s, self._deviation_s = RTT_S, RTT_S / 2

    def __call__(self, rng: random.Random) -> LinkSample:
        for _ in range(8):
            sample_s = RTT_S * rng.uniform(0.7, 1.3)
            self._deviation_s += (abs(sample_s - self._rtt_s) - self._deviation_s) / 4
            self._rtt_s += (sample_s - self._rtt_s) / 8
        return LinkSample(RATE_BPS, rtt_s=self._rtt_s, rtt_deviation_s=self._deviation_s)


CASES: Final[Mapping[str, Callable[[], Measure]]] = {
    "10 % loss": lambda: _lossy,
    "rate +-30 %": lambda: _varying,
    "delay +-30 %": _Jitter,
}


def count_switches(case: str, hours: int, seed: int) -> int:
    """In so many hours, with an evaluation after each measurement of either link."""
    rng = random.Random(seed)
    measures = {link: CASES[case]() for link in LINKS}
    metrics = {link: seeded(RATE_BPS, RTT_S / 2) for link in LINKS}
    scores = {
        link: Score(metric.expected_s(SCORED_BYTES, 0), metric.sigma_s(SCORED_BYTES))
        for link, metric in metrics.items()
    }
    choice, switches = Choice(LINKS[0]), 0
    for second in range(hours * 3600):
        for link, measure in measures.items():
            metric = metrics[link] = measured(metrics[link], measure(rng))
            scores[link] = Score(metric.expected_s(SCORED_BYTES, second), metric.sigma_s(SCORED_BYTES))
            after = evaluate(choice, scores)
            switches += after.link != choice.link
            choice = after
    return switches
