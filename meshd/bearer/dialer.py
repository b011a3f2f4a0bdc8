# SPDX-License-Identifier: Apache-2.0
"""Keeps a session with one neighbour by dialling it, again and again, ever more patiently (RFC 9174 section 4.1)."""

import random
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from meshd.bearer.backoff import BACKOFF_MAX_S, Backoff
from meshd.bearer.problems import Problems
from meshd.bearer.sockets import BearerError, dial
from meshd.link.settings import BearerSettings

LINE_BACKOFF_MAX_S: Final = 2.0
"""Between attempts over a terrestrial line, which has to be found again soon after it has returned."""


class Dialer:
    """Dials one address while a session is wanted."""

    def __init__(
        self,
        settings: BearerSettings,
        address: str,
        rng: random.Random,
        problems: Problems,
        wait_until_wanted: Callable[[], Awaitable[None]],
        carry: Callable[[socket.socket, str], Awaitable[bool]],
        missed: Callable[[str], None],
    ) -> None:
        """`carry` runs the connected session and tells whether it was ever established.

        `missed` hears why nobody could be reached.
        """
        self._settings = settings
        self._address = address
        self._backoff = Backoff(rng, LINE_BACKOFF_MAX_S if settings.is_line else BACKOFF_MAX_S)
        self._problems = problems
        self._wait_until_wanted = wait_until_wanted
        self._carry = carry
        self._missed = missed
        self._connecting: trio.CancelScope | None = None
        self._waiting: trio.CancelScope | None = None
        self._pausing = trio.CancelScope()
        self._is_hurried = False
        self._is_stopped = False

    async def run(self) -> None:
        """Dial until stopped."""
        while await self._wait(self._wait_until_wanted):
            if await self._attempt():
                self._backoff.reset()
            pause_s = 0 if self._is_hurried else self._backoff.next_s()
            self._is_hurried = False
            with trio.move_on_after(pause_s) as self._pausing:
                await self._wait(trio.sleep_forever)
            self._waiting = None

    def hurry(self) -> None:
        """The device may be back: do not wait for the next attempt, nor for one that began before."""
        self._backoff.reset()
        self._pausing.cancel()
        self._is_hurried = self._connecting is not None
        self.interrupt()

    def stop(self) -> None:
        """Dial no more; a connection that stands is not touched."""
        self._is_stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
        self.interrupt()

    def interrupt(self) -> None:
        """Give up the attempt to connect that is under way; a connection that stands is not touched."""
        if self._connecting is not None:
            self._connecting.cancel()

    async def _wait(self, condition: Callable[[], Awaitable[None]]) -> bool:
        """False when stopped meanwhile, or before."""
        if not self._is_stopped:
            with trio.CancelScope() as self._waiting:
                await condition()
            self._waiting = None
        return not self._is_stopped

    async def _attempt(self) -> bool:
        sock = await self._connect()
        if sock is None:
            return False
        self._problems.clear(self._address)
        return await self._carry(sock, self._address)

    async def _connect(self) -> socket.socket | None:
        sock = None
        with trio.CancelScope() as self._connecting:
            try:
                sock = await dial(self._settings, self._address)
            except BearerError as error:
                self._problems.report(self._address, str(error))
                self._missed(str(error))
        self._connecting = None
        return sock
