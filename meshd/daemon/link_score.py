# SPDX-License-Identifier: Apache-2.0
"""The score of a link as `meshctl links` shows it: what is known of it, and what a small and a large bundle take."""

from typing import Final

from meshd.link.metric import LinkMetric

SMALL_BYTES: Final = 1024
LARGE_BYTES: Final = 1024 * 1024


def describe_score(metric: LinkMetric, queued_bytes: int, now: float) -> dict[str, float]:
    """Figures for people; the expected seconds are behind what is queued."""
    return {
        "rate_bps": round(metric.rate_bps),
        "loss_out": round(metric.loss, 4),
        "loss_in": round(metric.loss_in, 4),
        "owd_s": round(metric.owd_s, 6),
        "availability": round(metric.availability(now), 4),
        "mean_outage_s": round(metric.mean_outage_s, 3),
        "confidence": round(metric.confidence, 3),
        "expected_1kib_s": round(metric.expected_s(SMALL_BYTES, now, queued_bytes=queued_bytes), 6),
        "expected_1mib_s": round(metric.expected_s(LARGE_BYTES, now, queued_bytes=queued_bytes), 6),
    }
