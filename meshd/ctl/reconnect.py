# SPDX-License-Identifier: Apache-2.0
"""Waiting that outlives a restart of the daemon: whoever waits goes on when the daemon is back."""

import time
from argparse import Namespace
from typing import Final

from meshd.base.errors import MeshdError
from meshd.client.client import Client
from meshd.client.errors import DaemonUnreachable
from meshd.control.errors import ControlError
from meshd.ctl.output import Output

RECONNECT_PAUSE_S: Final = 0.5


class Deadline:
    """An end in time, or none."""

    def __init__(self, timeout_s: float | None) -> None:
        """Begin now."""
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def remaining_s(self) -> float | None:
        """Seconds left, at least 0; None for no end."""
        return None if self._end_s is None else max(0.0, self._end_s - time.monotonic())

    def over(self) -> bool:
        """Whether nothing is left."""
        return self.remaining_s() == 0.0


def open_client(args: Namespace) -> Client:
    """Connect to the daemon that the arguments name."""
    return Client(args.socket, name=f"meshctl {args.command}")


def daemon_went_away(error: MeshdError) -> bool:
    """Whether the error means that the daemon ends or ended, so that trying again makes sense."""
    return isinstance(error, DaemonUnreachable) or (
        isinstance(error, ControlError) and error.name in {"shutting_down", "overrun"}
    )


class Patience:
    """Says once that the daemon went away, and pauses between attempts until the deadline."""

    def __init__(self, out: Output) -> None:
        """Nothing has happened yet."""
        self._out = out
        self._told = False

    def wait(self, error: MeshdError, deadline: Deadline) -> None:
        """Pause before the next attempt. Raises the error when it is none to wait out, or when time is up."""
        if not daemon_went_away(error) or deadline.over():
            raise error
        if not self._told:
            self._out.chatter("meshctl: meshd went away; waiting for it to come back")
            self._told = True
        remaining_s = deadline.remaining_s()
        time.sleep(RECONNECT_PAUSE_S if remaining_s is None else min(RECONNECT_PAUSE_S, remaining_s))

    def reset(self) -> None:
        """The daemon is back."""
        if self._told:
            self._out.chatter("meshctl: meshd is back")
        self._told = False
