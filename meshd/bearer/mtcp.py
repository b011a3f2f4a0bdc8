# SPDX-License-Identifier: Apache-2.0
"""MTCP on one bearer: dials the neighbours that speak it, and takes bundles from them (draft-ietf-dtn-mtcpcl-01).

The shell around `meshd.cl.mtcp`; the life that it shares with other layers is `layer.py`. Idle, without a socket, as
long as no neighbour of the bearer is configured to speak MTCP. The protocol tells nothing of who sends: what arrives is
put down to the one such neighbour that has the sender's IP address, and nobody else gets in. A bundle that we can't
take is lost to its sender, since MTCP has no way to refuse it.
"""

import ipaddress
import random
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Final

import trio

from meshd.bearer.layer import Layer
from meshd.bearer.mtcp_connection import MtcpConnection
from meshd.bearer.mtcp_link import MtcpLink
from meshd.bearer.mtcp_sessions import MtcpSessions
from meshd.bearer.problems import Report
from meshd.cl.mtcp.receiver import ReceivingSession
from meshd.cl.mtcp.sender import SendingSession
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings
from meshd.node.events import Event

INCOMING_PER_LINK_MAX: Final = 4
"""Of one neighbour: a further one takes the place of the oldest, which may be the remains of a peer that crashed."""
STEADY_S: Final = 10.0
"""A connection that held so long, or carried something, is tried again soon when it ends."""


class MtcpAdapter(Layer[MtcpLink, MtcpConnection]):
    """The MTCP part of one bearer."""

    CL: ClassVar[ConvergenceLayer] = ConvergenceLayer.MTCP
    LISTEN_KEY: ClassVar[str] = "mtcp_listen"

    def __init__(
        self,
        settings: BearerSettings,
        neighbours: Sequence[NeighbourSettings],
        dispatch: Callable[[Event], None],
        report: Report,
        rng: random.Random,
    ) -> None:
        """`dispatch` runs the node, which may call any method here."""
        super().__init__(settings, settings.mtcp_listen, report, rng)
        self._sessions = MtcpSessions(dispatch, report, self._change)
        self.configure(neighbours)

    @property
    def _voice(self) -> MtcpSessions:
        return self._sessions

    def _make_link(self, neighbour: NeighbourSettings) -> MtcpLink:
        return MtcpLink(self._settings, neighbour, trio.current_time())

    def _readdress(self, link: MtcpLink) -> None:
        """The address is all that tells who the peer is."""
        for connection in link.connections:
            connection.terminate("its configuration changed")

    def _must_listen(self) -> bool:
        return any(link.is_wanted for link in self._links.values())

    def _is_carrying(self) -> bool:
        return any(connection.sent for connection in self._connections)

    async def _serve(self, sock: socket.socket, address: str) -> None:
        """Take bundles from whoever connected, if it can be told who that is."""
        link = self._find_sender(address)
        if link is None:
            sock.close()
            reason = "no neighbour with cl = 'mtcp' has this IP address"
            self._report("session.refused", {"bearer": self._settings.name, "address": address, "reason": reason})
            return
        if len(link.incoming) >= INCOMING_PER_LINK_MAX:
            link.incoming[0].terminate("a newer connection took its place")
        connection = MtcpConnection(sock, ReceivingSession(trio.current_time()), address)
        link.incoming.append(connection)
        self._sessions.report_established(link, connection, "receiver")
        try:
            await self._carry(link, connection)
        finally:
            link.remove(connection)

    def _find_sender(self, address: str) -> MtcpLink | None:
        """The one neighbour with this IP address."""
        host = _host(address)
        found = [
            link
            for link in self._links.values()
            if link.is_wanted and link.settings.address is not None and _host(link.settings.address) == host
        ]
        return found[0] if len(found) == 1 else None

    async def _dialled(self, link: MtcpLink, sock: socket.socket, address: str) -> bool:
        """See Layer. Of use: it carried something, or held for a while."""
        began_at = trio.current_time()
        carried = link.sent_bundles
        connection = MtcpConnection(sock, SendingSession(began_at), address)
        self._sessions.take_connected(link, connection)
        try:
            await self._carry(link, connection)
        finally:
            if link.outgoing is connection:  # cancelled: nobody is told any more
                link.disconnect("stopped", trio.current_time())
        return link.sent_bundles > carried or trio.current_time() - began_at >= STEADY_S

    def _missed(self, link: MtcpLink, text: str) -> None:
        """See Layer: the link is down already."""

    async def _carry(self, link: MtcpLink, connection: MtcpConnection) -> None:
        """Carry a connection until it is closed."""
        self._enter(connection)
        try:
            await connection.run(
                partial(self._sessions.take_events, link, connection), partial(self._sessions.announce, link)
            )
        finally:
            self._leave(connection)


def _host(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IP address of `10.1.0.2:4224` or `[fd00::1]:4224`; one mapped into IPv6 is the IPv4 one."""
    text = address.rpartition(":")[0].strip("[]").partition("%")[0]
    host = ipaddress.ip_address(text)
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return mapped or host
