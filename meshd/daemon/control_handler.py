# SPDX-License-Identifier: Apache-2.0
"""The seam between the control server, which knows sessions, and the daemon's logic, which knows what methods mean."""

import math
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

import trio

from meshd.control.errors import ControlError
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


class Pending(Awaitable[dict[str, Any]]):
    """A result that is not there yet. Whoever awaits it wakes later; `on_settled` is called at once."""

    def __init__(self, timeout_s: float | None, too_late: str) -> None:
        """Awaiting it raises ControlError `timeout` with this text when the time is over."""
        self.on_settled: Callable[[dict[str, Any]], None] | None = None
        self._timeout_s = math.inf if timeout_s is None else timeout_s
        self._too_late = too_late
        self._settled = trio.Event()
        self._result: dict[str, Any] | None = None
        self._error: ControlError | None = None

    @property
    def is_over(self) -> bool:
        """Settled, failed, or nobody waits any more."""
        return self._settled.is_set()

    def settle(self, result: dict[str, Any]) -> None:
        """The result is there."""
        self._result = result
        self._settled.set()
        if self.on_settled is not None:
            self.on_settled(result)

    def fail(self, error: ControlError) -> None:
        """There will be none."""
        self._error = error
        self._settled.set()

    def __await__(self) -> Generator[Any, Any, dict[str, Any]]:
        return self._wait().__await__()

    async def _wait(self) -> dict[str, Any]:
        try:
            with trio.move_on_after(self._timeout_s):
                await self._settled.wait()
        finally:
            self._settled.set()
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise ControlError("timeout", self._too_late)
        return self._result


class ControlHandler(Protocol):
    """The daemon's logic behind the control socket."""

    def call(
        self, session: SessionHandle, method: str, params: dict[str, Any]
    ) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        """Serve one request whose parameters fit the table of methods and whose user may call it.

        The result, or, when something has to be waited for, what to await for it.

        Calls of a session run beside each other, except those that `MethodSpec.ordered_by` keeps in order.
        A call is cancelled when its session ends.

        Raises:
          ControlError: the answer is this error. Anything else ends the daemon.
        """

    def session_closed(self, session: SessionHandle) -> None:
        """Drop what the session held: receivers, submissions, subscriptions. Called once, after its last call."""
