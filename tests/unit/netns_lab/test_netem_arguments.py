# SPDX-License-Identifier: Apache-2.0
"""Link profiles in tc's words."""

import pytest

from netns_lab.errors import LabError
from netns_lab.link_profile import GilbertElliott, LinkProfile, RandomLoss, TimedBursts
from netns_lab.netem_arguments import netem_arguments


def test_satcom() -> None:
    profile = LinkProfile("geo", delay_s=0.3, loss=RandomLoss(0.01), rate_bps=2_000_000, limit=250)
    assert " ".join(netem_arguments(profile)) == "limit 250 delay 300000us loss random 1% rate 2000000bit"


def test_los() -> None:
    loss = GilbertElliott(0.01, 0.25, 0.78, 0.0)
    profile = LinkProfile("los", delay_s=0.015, jitter_s=0.005, loss=loss, rate_bps=500_000, limit=60)
    assert " ".join(netem_arguments(profile)) == (
        "limit 60 delay 15000us 5000us loss gemodel 1% 25% 78% 0% rate 500000bit"
    )


def test_everything_else() -> None:
    profile = LinkProfile("all", delay_s=0.01, duplicate=0.005, corrupt=0.0025, reorder=0.02, gap=5)
    assert " ".join(netem_arguments(profile)) == (
        "limit 1000 delay 10000us duplicate 0.5% corrupt 0.25% reorder 2% gap 5"
    )


def test_jitter_without_a_rate_gets_one_that_keeps_the_order() -> None:
    profile = LinkProfile("jitter", delay_s=0.01, jitter_s=0.005)
    assert " ".join(netem_arguments(profile)) == "limit 1000 delay 10000us 5000us rate 10000000000bit"


def test_a_cut_link_loses_everything() -> None:
    profile = LinkProfile("geo", delay_s=0.3, loss=GilbertElliott(0.01, 0.25))
    assert " ".join(netem_arguments(profile, is_cut=True)) == "limit 1000 delay 300000us loss random 100%"


def test_loss_after_the_rate_is_refused() -> None:
    profile = LinkProfile("radio", loss=RandomLoss(0.01), loss_after_rate=True)
    with pytest.raises(LabError, match=r"'radio': netem loses frames before its rate; use back end relay"):
        netem_arguments(profile)


def test_netem_has_no_bursts_by_time() -> None:
    with pytest.raises(LabError, match="no bursts by time"):
        netem_arguments(LinkProfile("fading", loss=TimedBursts(0.2, 0.1)))
