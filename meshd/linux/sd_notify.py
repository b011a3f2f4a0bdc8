# SPDX-License-Identifier: Apache-2.0
"""Tells systemd how we are (sd_notify(3)) and how often it wants to hear it (sd_watchdog_enabled(3)).

Nothing is needed but a datagram socket: `$NOTIFY_SOCKET` names a path, or with a leading `@` an abstract socket.
Without the variable every call does nothing.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

STATUS_SIZE_MAX_BYTES: Final = 1024
"""A longer status line is cut."""


class SdNotify:
    """One service manager, or none."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ)
        """The manager restarts us when it hears nothing for this long; None: it does not watch."""

    @property
    def is_wanted(self) -> bool:
        """True when somebody listens."""
        return self._address is not None

    def ready(self, status: str = "") -> None:
        """Start-up is complete, or a reload is."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(*_status(text))

    def watchdog(self) -> None:
        """We are alive. To be called at least twice in `watchdog_s`."""
        self._send("WATCHDOG=1")

    def reloading(self, monotonic_us: int) -> None:
        """A reload begins; `ready` ends it. `monotonic_us`: CLOCK_MONOTONIC, which Type=notify-reload asks for."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}")

    def stopping(self) -> None:
        """We are on our way out."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if self._address is None or not lines:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError, PermissionError):
            # The manager is being restarted or is busy: a service does not fail over that, the next call tells it.
            return


def _address(named: str) -> str | None:
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else None


def _status(text: str) -> list[str]:
    line = " ".join(text.split()).encode()[:STATUS_SIZE_MAX_BYTES].decode(errors="ignore")
    return [f"STATUS={line}"] if line else []


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    interval = environ.get("WATCHDOG_USEC", "")
    if not interval.isdecimal() or int(interval) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(interval) / 1_000_000
