# SPDX-License-Identifier: Apache-2.0
"""Ends TCPCLv4 sessions that carry nothing (RFC 9174 section 6.1), as far as the settings of their bearer say.

A further session of a neighbour goes when another one is there. The last one goes only where the neighbour can be
dialled again: its link is dormant then (`tcp_link.py`), which saves the keepalives of a link that is not used.
"""

from collections.abc import Callable
from typing import Final

import trio

from meshd.bearer.tcp_connection import TcpConnection
from meshd.bearer.tcp_link import TcpLink
from meshd.cl.tcpclv4.messages import TermReason
from meshd.link.settings import BearerSettings

LOOKS_PER_LIMIT: Final = 4
"""A session is ended at most a quarter of its limit late."""


class IdleWatch:
    """Looks after the sessions of one bearer."""

    def __init__(self, settings: BearerSettings, link_of: Callable[[TcpConnection], TcpLink | None]) -> None:
        """`link_of` tells where a session belongs; None: nowhere yet."""
        self._session_idle_s = settings.session_idle_s
        self._link_idle_s = settings.link_idle_s
        self._link_of = link_of

    async def run(self, connection: TcpConnection) -> None:
        """Look after one session until it is told to end."""
        limits_s = [limit for limit in (self._link_idle_s, self._further_limit_s(connection)) if limit]
        if not limits_s:
            return
        carried, since = -1, trio.current_time()
        while True:
            now = trio.current_time()
            if connection.is_busy or connection.transfers != carried:
                carried, since = connection.transfers, now
            elif self._end(connection, now - since):
                return
            await trio.sleep(min(limits_s) / LOOKS_PER_LIMIT)

    def _further_limit_s(self, connection: TcpConnection) -> int:
        return self._session_idle_s if connection.is_extra else 0

    def _end(self, connection: TcpConnection, idle_s: float) -> bool:
        """End the session if it was idle for too long; True when it was told to."""
        link = self._link_of(connection)
        if link is None:
            return False
        if any(each is not connection and each.session.can_send for each in link.sessions):
            limit_s, why = self._further_limit_s(connection), "another session is there"
        else:
            limit_s, why = self._link_idle_s if link.may_rest else 0, "the neighbour can be dialled again"
        if not limit_s or idle_s < limit_s:
            return False
        connection.terminate(f"it carried nothing for {limit_s} s, and {why}", TermReason.IDLE_TIMEOUT)
        return True
