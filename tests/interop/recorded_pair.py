# SPDX-License-Identifier: Apache-2.0
"""Two TCPCLv4 sessions fed to each other, everything that they say on record."""

from pathlib import Path

from meshd.cl.tcpclv4.events import TransfersReceived
from meshd.cl.tcpclv4.messages import RefuseReason
from tests.interop.tcp_capture import TcpCapture
from tests.unit.cl.tcpclv4_pair import ALPHA, BRAVO, Pair, drain, feed, make_settings, written


class RecordedPair:
    """An active session (the client of the TCP connection) and a passive one; segments of 1000 bytes."""

    def __init__(self) -> None:
        self._capture = TcpCapture()
        settings = make_settings(ALPHA, BRAVO, segment_bytes=1000), make_settings(BRAVO, ALPHA, segment_bytes=1000)
        pair = Pair(*settings)
        self.active, self.passive = pair.active, pair.passive
        self.received: list[bytes] = []
        self.refusing: RefuseReason | None = None
        """Set: the passive side refuses what arrives."""
        self.exchange()

    def exchange(self) -> None:
        """Carry bytes in both directions until nobody has any; whatever arrives is acknowledged or refused."""
        moved = True
        while moved:
            from_active = written(self.active)
            self._capture.client(from_active)
            feed(self.passive, from_active)
            self._answer()
            from_passive = written(self.passive)
            self._capture.server(from_passive)
            feed(self.active, from_passive)
            self._answer()
            moved = bool(from_active or from_passive)

    def _answer(self) -> None:
        for session in (self.active, self.passive):
            for event in drain(session):
                if not isinstance(event, TransfersReceived):
                    continue
                self.received += [row.data for row in event.rows]
                for row in event.rows:
                    if self.refusing is not None and session is self.passive:
                        session.refuse(row.transfer_id, self.refusing)
                    else:
                        session.acknowledge([row.transfer_id])

    def send(self, data: bytes, *, by_active: bool = True) -> None:
        """Carry one bundle, and its acknowledgement back."""
        (self.active if by_active else self.passive).send_transfer([data], len(data))
        self.exchange()

    def save(self, path: Path) -> Path:
        """Write the capture."""
        self._capture.write(path)
        return path
