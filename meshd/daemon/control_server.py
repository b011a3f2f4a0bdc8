# SPDX-License-Identifier: Apache-2.0
"""The control socket's server.

Sessions are bounded in number; one too many is told so and closed. Each session is a ControlConnection; what methods
mean is left to the ControlHandler, how the socket is opened to `unix_socket.py`.
"""

import os
from dataclasses import dataclass
from itertools import count
from typing import Final

import trio

from meshd.control.errors import ControlError
from meshd.control.frames import Response, encode_frame
from meshd.control.server_session import OUTPUT_QUEUE_MAX_BYTES, HelloInfo, ServerSession
from meshd.control.settings import ControlSettings
from meshd.daemon.control_connection import LAST_WORDS_S, STALLED_S, CallLog, ControlConnection
from meshd.daemon.control_handler import ControlHandler
from meshd.daemon.control_peer import RoleGids, find_peer, rights_of
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
        audit: CallLog,
        limits: ServerLimits | None = None,
    ) -> None:
        """Do nothing yet; `serve` opens the socket."""
        self._settings = settings
        self._audit = audit
        self._gids = RoleGids(operator=os.getegid())
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
            self._gids = self._find_gids()
            task_status.started()
            await trio.serve_listeners(self._serve_connection, [trio.SocketListener(listener)])

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        if self._sessions >= self._limits.sessions_max:
            await self._turn_away(stream)
            return
        self._sessions += 1
        try:
            peer = await trio.to_thread.run_sync(find_peer, stream.socket)
            machine = ServerSession(self._hello, trio.current_time(), self._limits.output_queue_max_bytes)
            rights = rights_of(peer, self._gids, os.geteuid())
            session = ControlConnection(stream, machine, next(self._session_ids), peer, rights, self._audit)
            await session.serve(self._handler, self._limits.stalled_s)
        finally:
            self._sessions -= 1

    def _find_gids(self) -> RoleGids:
        """Errors: UnixSocketError: there is no such group."""
        settings, find = self._settings, self._socket.find_group
        operator = find("[control] operator_group", settings.operator_group)
        return RoleGids(
            operator=self._socket.gid if operator is None else operator,
            viewer=find("[control] viewer_group", settings.viewer_group),
            security=find("[control] security_group", settings.security_group),
            admin=find("[control] admin_group", settings.admin_group),
            breaks=find("[control] break_group", settings.break_group),
        )

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
