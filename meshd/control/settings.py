# SPDX-License-Identifier: Apache-2.0
"""Settings of the control socket and of the AAP 2.0 socket beside it."""

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """The `[control]` table."""

    socket: PurePath
    """UNIX socket, made with mode 0660."""
    group: str | None
    """Unix group that owns the socket; None: the daemon's own."""


@dataclass(frozen=True, slots=True)
class Aap2Settings:
    """The `[aap2]` table, when it names a socket."""

    socket: PurePath
    """UNIX socket, made with mode 0660."""
    group: str | None
    """Unix group that owns the socket; None: the daemon's own."""
