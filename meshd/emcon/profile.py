# SPDX-License-Identifier: Apache-2.0
"""What a profile means for the bearers that this node has, as pure functions.

The profiles themselves come from the configuration (`settings`); `policy` decides which one holds.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from meshd.base.errors import MeshdError
from meshd.emcon.settings import EmconProfile, EmconSettings, Restriction
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
    others = profile.others
    radiating = others if profile.radiating is None else profile.radiating
    return {
        bearer.name: profile.postures.get(bearer.name, radiating if bearer.radiating else others) for bearer in bearers
    }


def profile_restrictions(profile: EmconProfile, bearers: Sequence[BearerSettings]) -> dict[str, Restriction]:
    """What it lets out of each bearer that it restricts."""
    postures = profile_postures(profile, bearers)
    restricted = [bearer for bearer in bearers if postures[bearer.name] is Posture.RESTRICTED]
    return {bearer.name: profile.restrictions[_stands_for(profile, bearer)] for bearer in restricted}


def _stands_for(profile: EmconProfile, bearer: BearerSettings) -> str:
    """The key of a profile that a bearer goes by."""
    if bearer.name in profile.postures:
        return bearer.name
    return "radiating" if bearer.radiating and profile.radiating is not None else "others"


def tightest(restrictions: Sequence[Restriction]) -> Restriction:
    """What all of these let out; at least one is needed."""
    quotas = [each.quota_bytes_per_h for each in restrictions if each.quota_bytes_per_h is not None]
    duties = [each.duty_pct for each in restrictions if each.duty_pct is not None]
    floor = max(each.precedence_min for each in restrictions)
    return Restriction(min(quotas, default=None), min(duties, default=None), floor)


def tighter_of(one: Mapping[str, Restriction], other: Mapping[str, Restriction]) -> dict[str, Restriction]:
    """For each bearer that one of the two restricts, what both let out."""
    return {
        name: tightest([each[name] for each in (one, other) if name in each]) for name in dict.fromkeys((*one, *other))
    }


def boot_postures(settings: EmconSettings, bearers: Sequence[BearerSettings]) -> dict[str, Posture]:
    """What holds where nobody has given a valid order: radiating bearers as configured, the others OPEN."""
    return {bearer.name: settings.boot_posture if bearer.radiating else Posture.OPEN for bearer in bearers}


def strictest(postures: Iterable[Posture]) -> Posture:
    """The most silent of these; OPEN of none."""
    return max(postures, key=STRICTNESS.index, default=Posture.OPEN)


def stricter_of(one: Postures, other: Postures) -> dict[str, Posture]:
    """For each bearer the more silent of two."""
    return {name: strictest((posture, other.get(name, posture))) for name, posture in one.items()}


def restricted(postures: Postures) -> list[str]:
    """The bearers that are RESTRICTED."""
    return [name for name, posture in postures.items() if posture is Posture.RESTRICTED]


def device_postures(postures: Postures, bearers: Sequence[BearerSettings]) -> dict[str, Posture]:
    """By device: one that several bearers share takes the strictest posture of them."""
    devices: dict[str, Posture] = {}
    for bearer in bearers:
        devices[bearer.device] = strictest((postures[bearer.name], devices.get(bearer.device, Posture.OPEN)))
    return devices


def leased_devices(bearers: Sequence[BearerSettings]) -> frozenset[str]:
    """Devices of radiating bearers: their gate opens only on a lease."""
    return frozenset(bearer.device for bearer in bearers if bearer.radiating)
