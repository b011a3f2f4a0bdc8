# SPDX-License-Identifier: Apache-2.0
"""A link profile in the words of `tc ... netem` (tc-netem(8)). Arguments only; `netem_backend` runs them."""

from typing import Final, assert_never

from netns_lab.errors import LabError
from netns_lab.link_profile import GilbertElliott, LinkProfile, RandomLoss, TimedBursts

ORDER_KEEPING_RATE_BPS: Final = 10_000_000_000
"""netem reorders by jitter unless it has a rate: this one costs 1.2 us for a full-size frame."""


def netem_arguments(profile: LinkProfile, is_cut: bool = False) -> list[str]:
    """What follows `netem` on the command line; a cut link is one that loses everything.

    LabError for what netem can't do.
    """
    if profile.loss is not None and profile.loss_after_rate:
        raise LabError(f"profile {profile.name!r}: netem loses frames before its rate; use back end relay")
    if isinstance(profile.loss, TimedBursts):
        raise LabError(f"profile {profile.name!r}: netem has no bursts by time; use back end relay, or model gemodel")
    arguments = ["limit", str(profile.limit)]
    if profile.delay_s:
        arguments += ["delay", _time(profile.delay_s)]
        if profile.jitter_s:
            arguments.append(_time(profile.jitter_s))
    arguments += _loss_arguments(RandomLoss(1.0) if is_cut else profile.loss)
    if profile.duplicate:
        arguments += ["duplicate", _share(profile.duplicate)]
    if profile.corrupt:
        arguments += ["corrupt", _share(profile.corrupt)]
    if profile.reorder:
        arguments += ["reorder", _share(profile.reorder), "gap", str(profile.gap)]
    rate_bps = profile.rate_bps or (ORDER_KEEPING_RATE_BPS if profile.jitter_s else None)
    if rate_bps:
        arguments += ["rate", f"{rate_bps}bit"]
    return arguments


def _loss_arguments(loss: RandomLoss | GilbertElliott | None) -> list[str]:
    match loss:
        case None:
            return []
        case RandomLoss(probability):
            return ["loss", "random", _share(probability)]
        case GilbertElliott(p, r, bad, good):
            return ["loss", "gemodel", _share(p), _share(r), _share(bad), _share(good)]
        case _:
            assert_never(loss)


def _time(seconds: float) -> str:
    return f"{round(seconds * 1e6)}us"


def _share(share: float) -> str:
    return f"{share * 100:.6g}%"
