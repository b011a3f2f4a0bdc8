# SPDX-License-Identifier: Apache-2.0
"""The AAP 2.0 socket: µD3TN's applications talk to meshd there, as operators of the control socket do who only send and
receive: the members of its group may, and admins.

Connections are bounded in number; one too many is closed without a word, since the protocol has none for it. Each is
an Aap2Connection; what it asks goes to the ControlHandler.
"""

import os
from itertools import count
from typing import Final

import trio

from meshd.bundle.eid import Eid
from meshd.control.roles import Role
from meshd.control.settings import Aap2Settings
from meshd.daemon.aap2_connection import Aap2Connection, Report
from meshd.daemon.aap2_endpoints import Aap2Endpoints
from meshd.daemon.control_connection import CallLog
from meshd.daemon.control_handler import ControlHandler
from meshd.daemon.control_peer import RoleGids, find_peer, rights_of
from meshd.daemon.unix_socket import UnixSocket

CONNECTIONS_MAX: Final = 128
"""An application that sends and receives has two."""


class Aap2Server:
    """Listens on the AAP 2.0 socket and serves its connections."""

    def __init__(
        self, settings: Aap2Settings, own_node: Eid, handler: ControlHandler, report: Report, audit: CallLog
    ) -> None:
        """Do nothing yet; `serve` opens the socket."""
        self._socket = UnixSocket("aap2", settings.socket, settings.group)
        self._admin_group = settings.admin_group
        self._admin_gid: int | None = None
        self._own_node = own_node
        self._handler = handler
        self._report = report
        self._audit = audit
        self._endpoints = Aap2Endpoints()
        self._session_ids = count(-1, -1)
        """Below those of the control socket's sessions: no number is used twice."""
        self._connections = 0

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when clients can connect. The socket file goes when this ends.

        Raises:
          UnixSocketError: the path is taken, too long or not writable, or there is no such group.
        """
        self._admin_gid = self._socket.find_group("[control] admin_group", self._admin_group)
        with self._socket.open() as listener:
            task_status.started()
            await trio.serve_listeners(self._serve_connection, [trio.SocketListener(listener)])

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        if self._connections >= CONNECTIONS_MAX:
            stream.socket.close()
            self._report("aap2.refused", {"reason": f"all {CONNECTIONS_MAX} connections are in use"})
            return
        self._connections += 1
        try:
            peer = await trio.to_thread.run_sync(find_peer, stream.socket)
            rights = rights_of(peer, RoleGids(operator=self._socket.gid, admin=self._admin_gid), os.geteuid())
            if not rights.has(Role.OPERATOR):
                self._audit.refused(peer, rights, "aap2", {})
            connection = Aap2Connection(
                stream,
                next(self._session_ids),
                peer,
                rights.has(Role.OPERATOR),
                self._own_node,
                self._handler,
                self._endpoints,
                self._report,
            )
            await connection.serve()
        finally:
            self._connections -= 1
