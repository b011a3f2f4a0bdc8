# SPDX-License-Identifier: Apache-2.0
"""The deadlines of a TCPCLv4 session: keepalive, idle time-out, end (RFC 9174 sections 4.1, 5.1.1, 6.1).

All are absolute and tested as `deadline <= now`. Under EMCON silence they stand still: a node that may not send must
not end its sessions because of that.
"""

from typing import Final

from meshd.base.errors import LocalProtocolError

IDLE_MIN_S: Final = 3
SLEPT_S: Final = 0.5
"""Who notices so late that the peer was not heard was not listening: what it sent may wait to be read."""


class Deadlines:
    """When something is due."""

    def __init__(self, end_at: float) -> None:
        self.end_at: float | None = end_at
        """The handshake, or the ending, has to be finished."""
        self._keepalive_s = 0
        self._keepalive_at: float | None = None
        self._idle_at: float | None = None
        self._frozen_at: float | None = None

    @property
    def is_frozen(self) -> bool:
        """True under EMCON silence."""
        return self._frozen_at is not None

    @property
    def idle_s(self) -> int:
        """A peer that is not heard for this long is gone: twice the keepalive interval (section 5.1.1), or three
        keepalives of a second.
        """
        return max(2 * self._keepalive_s, IDLE_MIN_S)

    def establish(self, keepalive_s: int, now: float) -> None:
        """The handshake is done; 0 disables keepalives."""
        self.end_at = None
        self._keepalive_s = keepalive_s
        self.sent(now)
        self.heard(now)

    def sent(self, now: float) -> None:
        """Something was sent."""
        if self._keepalive_s:
            self._keepalive_at = now + self._keepalive_s

    def heard(self, now: float) -> None:
        """Something was received."""
        if self._keepalive_s:
            self._idle_at = now + self.idle_s

    def stop(self) -> None:
        """The session has ended."""
        self._keepalive_s = 0
        self.end_at = self._keepalive_at = self._idle_at = None

    def next(self) -> float | None:
        """The earliest deadline; None: there is none."""
        if self.is_frozen:
            return None
        pending = [at for at in (self._keepalive_at, self._idle_at, self.end_at) if at is not None]
        return min(pending, default=None)

    def is_end_due(self, now: float) -> bool:
        """The handshake or the ending took too long."""
        return not self.is_frozen and self.end_at is not None and self.end_at <= now

    def is_idle_due(self, now: float) -> bool:
        """The peer was not heard for too long."""
        return not self.is_frozen and self._idle_at is not None and self._idle_at <= now

    def has_slept(self, now: float) -> bool:
        """It is not the peer who was silent, but us who were stopped."""
        return self._idle_at is not None and now - self._idle_at > SLEPT_S

    def is_keepalive_due(self, now: float) -> bool:
        """Nothing was sent for the keepalive interval."""
        return not self.is_frozen and self._keepalive_at is not None and self._keepalive_at <= now

    def freeze(self, now: float) -> None:
        """Time stands still from now on."""
        if self._frozen_at is not None:
            raise LocalProtocolError("frozen already")
        self._frozen_at = now

    def thaw(self, now: float) -> None:
        """Time goes on: a keepalive is due at once, the peer gets a whole idle time-out to be heard."""
        if self._frozen_at is None:
            raise LocalProtocolError("not frozen")
        if self.end_at is not None:
            self.end_at += now - self._frozen_at
        self._frozen_at = None
        self.heard(now)
        if self._keepalive_s:
            self._keepalive_at = now
