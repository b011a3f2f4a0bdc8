# SPDX-License-Identifier: Apache-2.0
"""Accepts TCP connections on one bearer's device, and comes back when the device does."""

import errno
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from meshd.bearer.backoff import Backoff
from meshd.bearer.problems import Problems
from meshd.bearer.sockets import Address, BearerError, explain, format_address, open_listener, tune
from meshd.link.settings import BearerSettings

DEVICE_CHECK_S: Final = 2.0
"""SO_BINDTODEVICE binds to a device's index: one that was removed and made again needs a new socket."""
ACCEPT_PAUSE_S: Final = 1.0
"""When the system is out of files or memory."""

_PASSING: Final = frozenset((errno.ECONNABORTED, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH))
"""What accept(2) hands on from a connection that is gone already."""
_SCARCE: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS))

_THING: Final = "listen"


class Listener:
    """Listens on `settings.listen`; each connection is carried by a task of its own."""

    def __init__(
        self,
        settings: BearerSettings,
        listen: str,
        rng: random.Random,
        problems: Problems,
        may_accept: Callable[[], bool],
        serve: Callable[[socket.socket, str], Awaitable[None]],
    ) -> None:
        """`may_accept` is asked for each connection; one that may not be served is closed at once."""
        self._settings = settings
        self._listen = listen
        self._backoff = Backoff(rng)
        self._problems = problems
        self._may_accept = may_accept
        self._serve = serve
        self._pausing = trio.CancelScope()
        self._waiting = trio.CancelScope()
        self.bound_address: str | None = None
        """Where it listens now, with the port that the kernel chose."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen for ever. Started when the first attempt is over, whether it worked or not."""
        is_first = True
        async with trio.open_nursery() as nursery:
            while True:
                sock = self._open()
                if is_first:
                    task_status.started()
                    is_first = False
                if sock is None:
                    with trio.move_on_after(self._backoff.next_s()) as self._pausing:
                        await trio.sleep_forever()
                    continue
                with sock:
                    await self._accept(sock, nursery)
                self.bound_address = None

    def device_changed(self) -> None:
        """Look at once whether the socket is still bound to the device, or can be opened again."""
        self._backoff.reset()
        self._pausing.cancel()
        self._waiting.cancel()

    def _open(self) -> socket.socket | None:
        try:
            sock = open_listener(self._settings, self._listen)
        except BearerError as error:
            self._problems.report(_THING, str(error))
            return None
        self._problems.clear(_THING)
        self._backoff.reset()
        self.bound_address = format_address(sock.getsockname())
        return sock

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Accept until the device is another one."""
        index = self._find_device()
        while self._find_device() == index:
            with trio.move_on_after(DEVICE_CHECK_S) as self._waiting:
                await trio.lowlevel.wait_readable(listener)
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                await self._pause(error)
                continue
            self._start(sock, address, nursery)

    def _find_device(self) -> int:
        try:
            return socket.if_nametoindex(self._settings.device)
        except OSError:
            return 0

    async def _pause(self, error: OSError) -> None:
        if error.errno in _SCARCE:
            self._problems.report("accept", f"bearer {self._settings.name} can't accept: {explain(error)}")
            await trio.sleep(ACCEPT_PAUSE_S)
        elif error.errno not in _PASSING:
            raise error

    def _start(self, sock: socket.socket, address: Address, nursery: trio.Nursery) -> None:
        text = format_address(address)
        if not self._may_accept():
            sock.close()
            host = address[0]
            problem = f"bearer {self._settings.name} has too many sessions: one from {host} was closed"
            self._problems.report("sessions", problem)
            return
        self._problems.clear("sessions")
        tune(sock, self._settings)
        nursery.start_soon(self._serve, sock, text)
