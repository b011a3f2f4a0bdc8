# SPDX-License-Identifier: Apache-2.0
"""What a profile means for the bearers that this node has, as pure functions.

The profiles themselves come from the configuration (`settings`); `policy` decides which one holds.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from meshd.base.errors import MeshdError
from meshd.emcon.settings import EmconProfile, EmconSettings
from meshd.link.settings import BearerSettings, Posture

Postures = Mapping[str, Posture]
"""By bearer; every bearer of the node is there."""

STRICTNESS: Final = (Posture.OPEN, Posture.RESTRICTED, Posture.RX_ONLY, Posture.OFF)
"""From the most permissive to the most silent."""


class UnknownProfileError(MeshdError):
    """No profile has that name; the message names the nearest."""


def find_profile(settings: EmconSettings, name: str) -> EmconProfile:
    """The profile with this name.

    Errors: UnknownProfileError.
    """
    found = settings.profiles.get(name)
    if found is not None:
        return found
    known = sorted(settings.profiles)
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
    raise UnknownProfileError(f"there is no EMCON profile {name!r}: {hint}")


def profile_postures(profile: EmconProfile, bearers: Sequence[BearerSettings]) -> dict[str, Posture]:
    """What the profile gives each bearer."""
    return {bearer.name: profile.postures.get(bearer.name, profile.others) for bearer in bearers}


def boot_postures(settings: EmconSettings, bearers: Sequence[BearerSettings]) -> dict[str, Posture]:
    """What holds where nobody has given a valid order: radiating bearers as configured, the others OPEN."""
    return {bearer.name: settings.boot_posture if bearer.radiating else Posture.OPEN for bearer in bearers}


def strictest(postures: Iterable[Posture]) -> Posture:
    """The most silent of these; OPEN of none."""
    return max(postures, key=STRICTNESS.index, default=Posture.OPEN)


def stricter_of(one: Postures, other: Postures) -> dict[str, Posture]:
    """For each bearer the more silent of two."""
    return {name: strictest((posture, other.get(name, posture))) for name, posture in one.items()}


def device_postures(postures: Postures, bearers: Sequence[BearerSettings]) -> dict[str, Posture]:
    """By device: one that several bearers share takes the strictest posture of them."""
    devices: dict[str, Posture] = {}
    for bearer in bearers:
        devices[bearer.device] = strictest((postures[bearer.name], devices.get(bearer.device, Posture.OPEN)))
    return devices


def leased_devices(bearers: Sequence[BearerSettings]) -> frozenset[str]:
    """Devices of radiating bearers: their gate opens only on a lease."""
    return frozenset(bearer.device for bearer in bearers if bearer.radiating)
