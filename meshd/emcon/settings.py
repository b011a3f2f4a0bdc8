# SPDX-License-Identifier: Apache-2.0
"""Settings of emission control: profiles and what holds at first boot."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshd.link.settings import Posture


@dataclass(frozen=True, slots=True)
class EmconProfile:
    """A named set of postures, one for each bearer; a bearer that it does not name gets `others`."""

    name: str
    postures: Mapping[str, Posture]
    others: Posture


@dataclass(frozen=True, slots=True)
class EmconSettings:
    """The `[emcon]` table."""

    profiles: Mapping[str, EmconProfile]
    """By name; `unrestricted` (all OPEN) and `silent` (all RX_ONLY) are always there."""
    boot_posture: Posture
    """Of radiating bearers when there is no valid state file."""
    lease_s: float
    """A radiating bearer's gate shuts by itself this long after the daemon's last renewal."""
    gate: bool = True
    """False: no gate in the kernel, meshd alone keeps silent. For machines that may not load one, such as a lab's."""
