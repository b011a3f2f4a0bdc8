# SPDX-License-Identifier: Apache-2.0
"""What the MTCP sessions of one bearer say, turned into events of the node and reports for people."""

from collections.abc import Sequence
from typing import assert_never

import trio

from meshd.bearer.link import Figure
from meshd.bearer.mtcp_connection import MtcpConnection
from meshd.bearer.mtcp_link import MtcpLink
from meshd.bearer.voice import Voice
from meshd.cl.mtcp import events as cl
from meshd.link.settings import ConvergenceLayer
from meshd.node.events import ReceivedRow


class MtcpSessions(Voice):
    """The voice of one bearer's MTCP sessions."""

    def take_connected(self, link: MtcpLink, connection: MtcpConnection) -> None:
        """Our connection to a neighbour stands."""
        link.connect(connection, trio.current_time())
        self.report_established(link, connection, "sender")
        self._tell_up(link)
        self.announce(link)

    def report_established(self, link: MtcpLink, connection: MtcpConnection, role: str) -> None:
        """For people."""
        self._report("session.established", _fields(link, connection.address) | {"role": role})

    def take_events(self, link: MtcpLink, connection: MtcpConnection, events: Sequence[cl.Event]) -> None:
        """What a session says."""
        for event in events:
            match event:
                case cl.BundlesArrived(rows):
                    self._tell_received(link, [ReceivedRow((connection, row.number), row.data) for row in rows])
                case cl.BundlesCarried(numbers):
                    self._tell_sent(link, connection, numbers)
                    self._changed()
                case cl.SessionEnded():
                    self._take_ended(link, connection, event)
                case _:
                    assert_never(event)

    def _take_ended(self, link: MtcpLink, connection: MtcpConnection, event: cl.SessionEnded) -> None:
        reason = f"{event.reason.value}: {event.text}"
        fields = _fields(link, connection.address) | {"reason": reason, "is_peer_fault": event.is_peer_fault}
        self._report("session.ended", fields)
        if connection is link.outgoing:
            link.disconnect(reason, trio.current_time())
            self._tell_ended(link, connection, (), reason)


def _fields(link: MtcpLink, address: str) -> dict[str, Figure]:
    return {"link": str(link.id), "address": address, "cl": ConvergenceLayer.MTCP.value}
