# SPDX-License-Identifier: Apache-2.0
"""The seam between the control server, which knows sessions, and the daemon's logic, which knows what methods mean."""

from typing import Any, Protocol

from meshd.daemon.control_peer import Peer


class SessionHandle(Protocol):
    """One control session as the daemon's logic sees it. Usable as a key; the same object for the session's life."""

    @property
    def peer(self) -> Peer:
        """Who opened the session."""

    @property
    def id(self) -> int:
        """A number that no other session of this daemon's run has."""

    def notify(self, method: str, params: dict[str, Any]) -> bool:
        """Queue a notification without waiting; False: no room or no session any more, and it is lost."""


class ControlHandler(Protocol):
    """The daemon's logic behind the control socket."""

    async def call(self, session: SessionHandle, method: str, params: dict[str, Any]) -> Any:
        """Serve one request whose parameters fit the table of methods and whose user may call it.

        Calls of a session run beside each other, except those that `MethodSpec.ordered_by` keeps in order.
        A call is cancelled when its session ends.

        Raises:
          ControlError: the answer is this error. Anything else ends the daemon.
        """

    def session_closed(self, session: SessionHandle) -> None:
        """Drop what the session held: receivers, submissions, subscriptions. Called once, after its last call."""
