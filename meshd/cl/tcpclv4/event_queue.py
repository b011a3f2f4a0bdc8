# SPDX-License-Identifier: Apache-2.0
"""What a TCPCLv4 session has to tell its owner, in order."""

from collections import deque

from meshd.cl.tcpclv4.events import Event, TransferRefused, TransfersAcknowledged, TransfersReceived
from meshd.cl.tcpclv4.incoming import Incoming
from meshd.cl.tcpclv4.outgoing import Outgoing


class EventQueue(deque[Event]):
    """Its events."""

    def gather(self, incoming: Incoming, outgoing: Outgoing) -> None:
        """Turn what the two directions of transfers have noted into events."""
        if outgoing.acknowledged:
            self.append(TransfersAcknowledged(outgoing.acknowledged))
            outgoing.acknowledged = []
        if outgoing.refused:
            self.extend(TransferRefused(*each) for each in outgoing.refused)
            outgoing.refused = []
        if incoming.rows:
            self.append(TransfersReceived(incoming.rows))
            incoming.rows = []
        if incoming.pieces:
            self.extend(incoming.pieces)
            incoming.pieces = []
