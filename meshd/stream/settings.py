# SPDX-License-Identifier: Apache-2.0
"""Settings of streams."""

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """The `[streams]` table."""

    folder: PurePath | None
    """Of the archives; None: one below the node's directory."""
    quota_bytes: int
    """Of all archives together; above it nothing more is archived."""
    window_ms: int
    """So much of each stream that others publish is kept."""
