# SPDX-License-Identifier: Apache-2.0
"""The figures of a link's score."""

from meshd.daemon.link_score import describe_score
from meshd.link.metric import LinkMetric


def test_what_a_small_and_a_large_bundle_take() -> None:
    metric = LinkMetric(8192.0, 0.25, loss=0.5, loss_in=0.125, availability_then=0.75, mean_outage_s=4.0)
    assert describe_score(metric, 1024, 0.0) == {
        "rate_bps": 8192,
        "loss_out": 0.5,
        "loss_in": 0.125,
        "owd_s": 0.25,
        "availability": 0.75,
        "mean_outage_s": 4.0,
        "confidence": 1.0,
        "expected_1kib_s": 1 + 2 + 0.25 + 1,
        "expected_1mib_s": 1 + 2048 + 0.25 + 1,
    }
