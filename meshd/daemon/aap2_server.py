# SPDX-License-Identifier: Apache-2.0
"""The AAP 2.0 socket: µD3TN's applications talk to meshd there, with the permissions of the control socket.

Connections are bounded in number; one too many is closed without a word, since the protocol has none for it. Each is
an Aap2Connection; what it asks goes to the ControlHandler.
"""

import os
import socket
from itertools import count
from typing import Final

import trio

from meshd.bundle.eid import Eid
from meshd.control.settings import Aap2Settings
from meshd.daemon.aap2_connection import Aap2Connection, Report
from meshd.daemon.aap2_endpoints import Aap2Endpoints
from meshd.daemon.control_handler import ControlHandler
from meshd.daemon.control_peer import CREDENTIALS_SIZE_BYTES, find_peer, may_mutate
from meshd.daemon.unix_socket import UnixSocket

CONNECTIONS_MAX: Final = 128
"""An application that sends and receives has two."""


class Aap2Server:
    """Listens on the AAP 2.0 socket and serves its connections."""

    def __init__(self, settings: Aap2Settings, own_node: Eid, handler: ControlHandler, report: Report) -> None:
        """Do nothing yet; `serve` opens the socket."""
        self._socket = UnixSocket("aap2", settings.socket, settings.group)
        self._own_node = own_node
        self._handler = handler
        self._report = report
        self._endpoints = Aap2Endpoints()
        self._session_ids = count(-1, -1)
        """Below those of the control socket's sessions: no number is used twice."""
        self._connections = 0

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when clients can connect. The socket file goes when this ends.

        Raises:
          UnixSocketError: the path is taken, too long or not writable, or there is no such group.
        """
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
            credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS_SIZE_BYTES)
            peer = await trio.to_thread.run_sync(find_peer, credentials)
            may_use = may_mutate(peer, self._socket.gid, os.geteuid())
            connection = Aap2Connection(
                stream,
                next(self._session_ids),
                peer,
                may_use,
                self._own_node,
                self._handler,
                self._endpoints,
                self._report,
            )
            await connection.serve()
        finally:
            self._connections -= 1
