# SPDX-License-Identifier: Apache-2.0
"""The link score: expected seconds to deliver so many bytes over one link, in the direction away from this node.

    wait + queued_at_or_above / R + (S / R) / (1 - p) + owd + mean_outage * (1 - availability)

Pure functions on an immutable `LinkMetric`: each of `measured`, `came_up`, `went_down` makes the next one. R is
acknowledged goodput, so it holds what a convergence layer needs to repair loss by itself; p is loss that is counted on
top of it. Every figure carries its uncertainty, so that `switching` can tell a better link from a lucky one. A
neighbour's word on loss counts only as far as its acknowledgements leave room for it. Who measures is the bearer's
matter, when a link is dead its convergence layer's.
"""

import math
from typing import Final

import msgspec

from meshd.link.settings import BearerSettings, ConvergenceLayer

RATE_WEIGHT: Final = 1 / 8
"""Of a new sample of R."""
LOSS_PACKETS: Final = 64
"""Packets over which loss is counted."""
LOSS_MAX: Final = 0.99
"""A link that loses everything is the business of its death, not of its score."""
RATE_MIN_BPS: Final = 1.0
AVAILABILITY_HALF_LIFE_S: Final = 600.0
OUTAGE_WEIGHT: Final = 1 / 8
_SMOOTHED: Final = RATE_WEIGHT / (2 - RATE_WEIGHT)
"""Variance of an average with this weight, as a share of its samples'."""
_DEVIATION: Final = 1.25
"""Standard deviation of normal samples, as a multiple of their mean deviation (RFC 6298's RTTVAR)."""


class LinkSample(msgspec.Struct, frozen=True, gc=False):
    """What a bearer has measured on one link since its last sample."""

    goodput_bps: float | None = None
    """Acknowledged bits over the time in which some waited for that; None: nothing was acknowledged."""
    is_full: bool = True
    """False: there was not always something to send, so the link may well carry more than that."""
    rtt_s: float | None = None
    """Smoothed round trip (SRTT)."""
    rtt_deviation_s: float = 0.0
    """Its mean deviation (RTTVAR)."""
    packets: int = 0
    """Sent, and by now covered by the receiver's count;"""
    lost: int = 0
    """so many of them did not arrive, the receiver says."""
    loss_in: float | None = None
    """Share of the neighbour's packets that did not reach us: for people, it scores the other direction."""
    declared_bps: int | None = None
    """What the modem says that the link carries from now on: measuring begins anew there;"""
    declared_owd_s: float | None = None
    """and its delay, until one is measured;"""
    confidence: float | None = None
    """and how sure it is of the link, above 0 to 1."""


class LinkMetric(msgspec.Struct, frozen=True):
    """What is known of one link."""

    rate_bps: float
    owd_s: float
    loss: float = 0.0
    loss_in: float = 0.0
    rate_variance: float = 0.0
    """Of the samples of R, from one to the next: a lasting change counts once."""
    last_sample_bps: float | None = None
    owd_sigma_s: float = 0.0
    loss_packets: int = 0
    """Packets counted, up to LOSS_PACKETS."""
    availability_then: float = 1.0
    """At `state_since`;"""
    state_since: float | None = None
    """when it came up or went down; None: it never was up, and nothing is held against it."""
    is_up: bool = False
    outages: int = 0
    mean_outage_s: float = 0.0
    confidence: float = 1.0
    """By the signal, as the modem says."""
    is_owd_measured: bool = False

    def availability(self, now: float) -> float:
        """Share of the time that it was up, of which ten minutes ago counts half as much as now."""
        if self.state_since is None:
            return self.availability_then
        kept = math.exp2(-max(now - self.state_since, 0.0) / AVAILABILITY_HALF_LIFE_S)
        return self.availability_then * kept + (1.0 - kept if self.is_up else 0.0)

    def expected_s(self, size_bytes: int, now: float, *, queued_bytes: int = 0, wait_s: float = 0.0) -> float:
        """The score: seconds until so many bytes are there, behind what is queued at their precedence or above."""
        queue_s = queued_bytes * 8 / self.rate_bps
        outage_s = self.mean_outage_s * (1.0 - self.availability(now))
        return wait_s + queue_s + size_bytes * 8 / self.rate_bps / (1.0 - self.loss) + self.owd_s + outage_s

    def sigma_s(self, size_bytes: int) -> float:
        """Standard deviation of the score: what it moves by chance while the link stays as it is."""
        air_s = size_bytes * 8 / self.rate_bps / (1.0 - self.loss)
        rate_share = math.sqrt(self.rate_variance * _SMOOTHED) / self.rate_bps
        loss_share = math.sqrt(self.loss * (1.0 - self.loss) / max(self.loss_packets, 1)) / (1.0 - self.loss)
        return math.hypot(air_s * rate_share, air_s * loss_share, self.owd_sigma_s)


def seeded(rate_bps: float, owd_s: float) -> LinkMetric:
    """Before anything is measured: as configured, or as the modem says."""
    return LinkMetric(max(float(rate_bps), RATE_MIN_BPS), owd_s)


def seeded_by(bearer: BearerSettings, cl: ConvergenceLayer) -> LinkMetric:
    """The same from the settings of a bearer; only radio bearers have a configured delay."""
    return seeded(bearer.rate_bps, bearer.radio.delay_ms / 1000 if cl is ConvergenceLayer.FOUNTAIN else 0.0)


def measured(metric: LinkMetric, sample: LinkSample) -> LinkMetric:
    """The metric after a sample."""
    changes: dict[str, float | int | None] = {}
    if sample.goodput_bps is not None:
        changes |= _take_rate(metric, sample.goodput_bps, is_full=sample.is_full)
    if sample.rtt_s is not None:
        sigma_s = _DEVIATION * sample.rtt_deviation_s * math.sqrt(_SMOOTHED)
        changes |= {"owd_s": sample.rtt_s / 2, "owd_sigma_s": sigma_s / 2, "is_owd_measured": True}
    if sample.packets > 0:
        share = min(max(sample.lost / sample.packets, 0.0), LOSS_MAX)
        known = min(metric.loss_packets + sample.packets, LOSS_PACKETS)
        loss = metric.loss + (share - metric.loss) * min(sample.packets / known, 1.0)
        changes |= {"loss": loss, "loss_packets": known}
    if sample.loss_in is not None:
        changes["loss_in"] = sample.loss_in
    if sample.declared_bps is not None:
        rate_bps = max(float(sample.declared_bps), RATE_MIN_BPS)
        changes |= {"rate_bps": rate_bps, "rate_variance": 0.0, "last_sample_bps": None}
    if sample.declared_owd_s is not None and not metric.is_owd_measured:
        changes["owd_s"] = sample.declared_owd_s
    if sample.confidence is not None:
        changes["confidence"] = sample.confidence
    return msgspec.structs.replace(metric, **changes) if changes else metric


def _take_rate(metric: LinkMetric, sample_bps: float, *, is_full: bool) -> dict[str, float | int | None]:
    """What little traffic got through says how much the link carries only if it is more than was known."""
    sample_bps = max(sample_bps, RATE_MIN_BPS)
    if not is_full and sample_bps <= metric.rate_bps:
        return {}
    before = metric.rate_bps if metric.last_sample_bps is None else metric.last_sample_bps
    step = (sample_bps - before) ** 2 / 2
    return {
        "rate_bps": metric.rate_bps + (sample_bps - metric.rate_bps) * RATE_WEIGHT,
        "rate_variance": metric.rate_variance + (step - metric.rate_variance) * RATE_WEIGHT / 2,
        "last_sample_bps": sample_bps,
    }


def came_up(metric: LinkMetric, now: float) -> LinkMetric:
    """It can carry data."""
    if metric.is_up:
        return metric
    availability = metric.availability(now)
    if metric.state_since is None:
        return msgspec.structs.replace(metric, is_up=True, state_since=now)
    outage_s = now - metric.state_since
    weight = OUTAGE_WEIGHT if metric.outages > 1 else 1.0
    return msgspec.structs.replace(
        metric,
        is_up=True,
        state_since=now,
        availability_then=availability,
        mean_outage_s=metric.mean_outage_s + (outage_s - metric.mean_outage_s) * weight,
    )


def went_down(metric: LinkMetric, now: float) -> LinkMetric:
    """It is dead; one that never was up has nothing to lose."""
    if not metric.is_up:
        return metric
    return msgspec.structs.replace(
        metric,
        is_up=False,
        state_since=now,
        availability_then=metric.availability(now),
        outages=metric.outages + 1,
    )


class LossCount:
    """What a neighbour reports as lost, held to what its acknowledgements prove.

    A neighbour may say that it lost what it took, to be spared the traffic. What it acknowledged it had, though, so
    that no more can be lost than was sent beyond that.
    """

    def __init__(self) -> None:
        self._packets = self._lost = self._proven = 0
        self._packets_told = self._lost_told = 0

    @property
    def waiting(self) -> int:
        """Packets that `take` has not told of."""
        return self._packets - self._packets_told

    def note_report(self, packets: int, lost: int) -> None:
        """The receiver's count covers so many more of ours, of which so many did not arrive."""
        self._packets += packets
        self._lost = max(self._lost + lost, 0)

    def note_proven(self, packets: int) -> None:
        """An acknowledgement proves that so many more have arrived."""
        self._proven += packets

    def take(self) -> tuple[int, int]:
        """(packets, lost of them) since the last call."""
        bounded = max(min(self._lost, self._packets - self._proven), 0)
        packets, lost = self.waiting, max(bounded - self._lost_told, 0)
        self._packets_told, self._lost_told = self._packets, max(self._lost_told, bounded)
        return packets, min(lost, packets)
