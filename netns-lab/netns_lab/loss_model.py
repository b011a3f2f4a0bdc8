# SPDX-License-Identifier: Apache-2.0
"""Does this frame get lost? The decisions of netem's `loss random` and `loss gemodel`, and of bursts that last by the
clock, from injected chance.
"""

import random
from typing import Final, Protocol, assert_never

from netns_lab.link_profile import GilbertElliott, Loss, RandomLoss, TimedBursts


class LossModel(Protocol):
    """Asked once per frame, in the order of the frames."""

    def loses(self, at: float) -> bool:
        """True when this frame is lost, which is on the air at this time in seconds."""


class NoLoss:
    """Nothing is lost."""

    def loses(self, at: float) -> bool:
        """Never."""
        return False


class RandomLossModel:
    """Independent losses."""

    def __init__(self, loss: RandomLoss, rng: random.Random) -> None:
        self._probability: Final = loss.probability
        self._rng: Final = rng

    def loses(self, at: float) -> bool:
        """With the configured probability."""
        return self._rng.random() < self._probability


class GilbertElliottModel:
    """A chain of two states. As in netem the loss is decided in the state *before* the step, so a bad spell of
    n steps meets n frames.
    """

    def __init__(self, loss: GilbertElliott, rng: random.Random) -> None:
        self._loss: Final = loss
        self._rng: Final = rng
        self._is_bad = False

    def loses(self, at: float) -> bool:
        """Decide in the present state, then step."""
        was_bad = self._is_bad
        leave = self._loss.r if was_bad else self._loss.p
        if self._rng.random() < leave:
            self._is_bad = not was_bad
        return self._rng.random() < (self._loss.loss_bad if was_bad else self._loss.loss_good)


class TimedBurstsModel:
    """Good and bad spells in turn. A frame that is asked for late (one that overtook) meets the present spell."""

    def __init__(self, loss: TimedBursts, rng: random.Random) -> None:
        self._means_s: Final = (loss.mean_s * (1 - loss.share) / loss.share, loss.mean_s) if loss.share else (1.0, 0.0)
        self._never: Final = not loss.share
        self._rng: Final = rng
        self._is_bad = True
        self._until: float | None = None

    def loses(self, at: float) -> bool:
        """True while it is bad."""
        if self._never:
            return False
        if self._until is None:
            self._until = at
        while self._until <= at:
            self._is_bad = not self._is_bad
            self._until += self._rng.expovariate(1 / self._means_s[self._is_bad])
        return self._is_bad


def make_loss_model(loss: Loss | None, rng: random.Random) -> LossModel:
    """The model for a profile's loss."""
    match loss:
        case None:
            return NoLoss()
        case RandomLoss():
            return RandomLossModel(loss, rng)
        case GilbertElliott():
            return GilbertElliottModel(loss, rng)
        case TimedBursts():
            return TimedBurstsModel(loss, rng)
        case _:
            assert_never(loss)
