# SPDX-License-Identifier: Apache-2.0
"""Settings of emission control: profiles, what they restrict, and what holds at first boot."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshd.link.settings import Posture


@dataclass(frozen=True, slots=True)
class Restriction:
    """What may leave a RESTRICTED bearer; None: as much as the bearer carries."""

    quota_bytes_per_h: int | None = None
    """Bytes of frames in one hour, which begins with the restriction and again each hour."""
    duty_pct: int | None = None
    """Share of the bearer's rate: how long it may be heard of all the time."""
    precedence_min: int = 0
    """Bundles below it wait."""


@dataclass(frozen=True, slots=True)
class EmconProfile:
    """A named set of postures, one for each bearer."""

    name: str
    postures: Mapping[str, Posture]
    others: Posture
    """Of a bearer that is not named."""
    radiating: Posture | None = None
    """Of a radiating one that is not named; None: as the others."""
    restrictions: Mapping[str, Restriction] = field(default_factory=dict)
    """Where a posture is RESTRICTED, by the name of the bearer, by `radiating`, by `others`."""


@dataclass(frozen=True, slots=True)
class EmconSettings:
    """The `[emcon]` table."""

    profiles: Mapping[str, EmconProfile]
    """By name, aliases included; `unrestricted` (all OPEN) and `silent` (all RX_ONLY) are always there."""
    boot_posture: Posture
    """Of radiating bearers when there is no valid state file."""
    lease_s: float
    """A radiating bearer's gate shuts by itself this long after the daemon's last renewal."""
    gate: bool = True
    """False: no gate in the kernel, meshd alone keeps silent. For machines that may not load one, such as a lab's."""
