# SPDX-License-Identifier: Apache-2.0
"""Telling neighbours of a silence before the gate shuts: only where it is ordered, and never for long."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import trio

from meshd.cl.fountain.frames import U32_MAX

LOOK_S: Final = 0.01
LOOKS_MAX: Final = 200
"""An order of silence waits no longer than so many looks for the frames that announce it."""
DRAIN_S: Final = 0.05
"""What was handed to the kernel leaves the queue of the device meanwhile."""


class Announcer(Protocol):
    """A bearer that can say it, as `bearer.Bearer` does."""

    def announce_silence(self, for_s: int) -> None:
        """Tell all neighbours with the next datagram; 0: not for how long."""

    @property
    def is_announcing(self) -> bool:
        """There is still somebody to tell."""


async def announce_silence(bearers: Mapping[str, Announcer], names: Sequence[str], for_s: float | None) -> None:
    """Announce it on these bearers, and wait until that has left or it is time to be silent without."""
    speaking = [bearers[name] for name in names if name in bearers]
    for bearer in speaking:
        bearer.announce_silence(0 if for_s is None else min(math.ceil(for_s), U32_MAX))
    for _ in range(LOOKS_MAX):
        if not any(bearer.is_announcing for bearer in speaking):
            break
        await trio.sleep(LOOK_S)
    await trio.sleep(DRAIN_S if speaking else 0)
