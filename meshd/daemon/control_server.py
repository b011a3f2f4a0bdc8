# SPDX-License-Identifier: Apache-2.0
"""The control socket's server.

Sessions are bounded in number; one too many is told so and closed. Each session is a ControlConnection; what methods
mean is left to the ControlHandler, how the socket is opened to `unix_socket.py`.
"""

import os
import socket
from dataclasses import dataclass
from itertools import count
from typing import Final

import trio

from meshd.control.errors import ControlError
from meshd.control.frames import Response, encode_frame
from meshd.control.server_session import OUTPUT_QUEUE_MAX_BYTES, HelloInfo, ServerSession
from meshd.control.settings import ControlSettings
from meshd.daemon.control_connection import LAST_WORDS_S, STALLED_S, ControlConnection
from meshd.daemon.control_handler import ControlHandler
from meshd.daemon.control_peer import CREDENTIALS_SIZE_BYTES, find_peer, may_mutate
from meshd.daemon.unix_socket import UnixSocket

SESSIONS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one client, and all of them, may take up."""

    sessions_max: int = SESSIONS_MAX
    output_queue_max_bytes: int = OUTPUT_QUEUE_MAX_BYTES
    stalled_s: float = STALLED_S


class ControlServer:
    """Listens on the control socket and serves its sessions."""

    def __init__(
        self,
        settings: ControlSettings,
        handler: ControlHandler,
        hello: HelloInfo,
        limits: ServerLimits | None = None,
    ) -> None:
        """Do nothing yet; `serve` opens the socket."""
        self._socket = UnixSocket("control", settings.socket, settings.group)
        self._handler = handler
        self._hello = hello
        self._limits = limits or ServerLimits()
        self._session_ids = count(1)
        self._sessions = 0

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when clients can connect. The socket file goes when this ends.

        Raises:
          UnixSocketError: the path is taken, too long or not writable, or there is no such group.
        """
        with self._socket.open() as listener:
            task_status.started()
            await trio.serve_listeners(self._serve_connection, [trio.SocketListener(listener)])

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        if self._sessions >= self._limits.sessions_max:
            await self._turn_away(stream)
            return
        self._sessions += 1
        try:
            credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS_SIZE_BYTES)
            peer = await trio.to_thread.run_sync(find_peer, credentials)
            machine = ServerSession(self._hello, trio.current_time(), self._limits.output_queue_max_bytes)
            mutating = may_mutate(peer, self._socket.gid, os.geteuid())
            session = ControlConnection(stream, machine, next(self._session_ids), peer, mutating)
            await session.serve(self._handler, self._limits.stalled_s)
        finally:
            self._sessions -= 1

    async def _turn_away(self, stream: trio.SocketStream) -> None:
        """Tell one client too many why it is closed, waiting only briefly."""
        error = ControlError("failed", f"all {self._limits.sessions_max} control sessions are in use; try later")
        try:
            with trio.move_on_after(LAST_WORDS_S):
                await stream.send_all(encode_frame(Response(None, error.to_wire(), None)))
        except trio.BrokenResourceError:
            pass  # gone already
        finally:
            stream.socket.close()
