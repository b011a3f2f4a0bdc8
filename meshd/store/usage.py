# SPDX-License-Identifier: Apache-2.0
"""How full a store is, as the segment log reports it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """How full the store is."""

    bundles: int
    live_bytes: int
    """Encoded bundles that are not deleted."""
    disk_bytes: int
    """All segments, and the files of large bundles."""
    segments: int
    relocations: int
    """Earlier places of bundles that compaction has moved, which are remembered."""
    is_failed: bool
    """The last commit failed for another reason than a full disk; every new one tries again."""
