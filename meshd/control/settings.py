# SPDX-License-Identifier: Apache-2.0
"""Settings of the control socket and of the AAP 2.0 socket beside it."""

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """The `[control]` table. Nobody opens the socket who is not in its group, whatever other group names them."""

    socket: PurePath
    """UNIX socket, made with mode 0660."""
    group: str | None
    """Unix group that owns the socket; None: the daemon's own."""
    viewer_group: str | None = None
    """Who may look; None: whoever opens the socket."""
    operator_group: str | None = None
    """Who may send, receive and order; None: the socket's group."""
    security_group: str | None = None
    """Who may read the audit log; None: nobody but an admin."""
    admin_group: str | None = None
    """Who may do everything, beside root and the daemon's own user."""
    break_group: str | None = None
    """Operators who may break an ordered silence; None: nobody but an admin."""


@dataclass(frozen=True, slots=True)
class Aap2Settings:
    """The `[aap2]` table, when it names a socket."""

    socket: PurePath
    """UNIX socket, made with mode 0660."""
    group: str | None
    """Unix group that owns the socket and whose members may send and receive; None: the daemon's own."""
    admin_group: str | None = None
    """The control socket's."""
