# SPDX-License-Identifier: Apache-2.0
"""One TCP connection with its MTCP session, of either direction (draft-ietf-dtn-mtcpcl-01).

On a connection that we made, the reader is there to notice the end, and the writer asks the kernel (SIOCOUTQ) how much
the peer's TCP has not acknowledged. On one that the peer made, the writer only keeps time.
"""

import errno
import fcntl
import socket
import struct
import termios
from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

import trio

from meshd.base.errors import LocalProtocolError
from meshd.bearer.connection import Connection
from meshd.bundle.stored_chunk import Chunks, in_memory
from meshd.cl.mtcp.events import Event
from meshd.cl.mtcp.receiver import ReceivingSession
from meshd.cl.mtcp.sender import IN_FLIGHT_MAX, SendingSession

_INT: Final = struct.Struct("i")

Session = SendingSession | ReceivingSession


class MtcpConnection(Connection[Event]):
    """An MTCP session on a connected socket."""

    HAS_LAST_WORDS: ClassVar[bool] = False

    def __init__(self, sock: socket.socket, session: Session, address: str) -> None:
        super().__init__(sock, session, address)
        self.session = session

    @property
    def room(self) -> int:
        """See Connection; a connection that the peer made takes nothing."""
        session = self.session
        is_open = isinstance(session, SendingSession) and session.can_send
        return IN_FLIGHT_MAX - len(self.sent) if is_open else 0

    def _enqueue(self, bundles: Sequence[Chunks], sizes_bytes: Sequence[int]) -> Iterable[int]:
        del sizes_bytes
        session = self.session
        if not isinstance(session, SendingSession):
            raise LocalProtocolError("MTCP sends no bundle to a peer by the connection that the peer made")
        now = trio.current_time()
        return [session.send_bundle(in_memory(each), now) for each in bundles]

    def accept(self, numbers: Iterable[int]) -> None:
        """There is room for more. MTCP has nobody to tell."""
        assert isinstance(self.session, ReceivingSession)
        self.session.release(numbers, trio.current_time())
        self.wake()

    def refuse(self, number: int, *, retriable: bool, completed: bool) -> None:
        """It is dropped; the node reports it. There is nobody to tell."""
        del retriable, completed
        self.accept((number,))

    def terminate(self, text: str) -> None:
        """Close it."""
        self.session.terminate(text)
        self.wake()

    def _take_end_of_stream(self) -> None:
        # Its kernel has acknowledged nothing that its application had not read: that would be a reset.
        self._ask_kernel()
        super()._take_end_of_stream()

    async def _attend(self, *, is_blocked: bool) -> bool:
        """See Connection."""
        del is_blocked
        self._ask_kernel()
        return False

    def _ask_kernel(self) -> None:
        """Tell the session how much the peer's TCP has not acknowledged."""
        session = self.session
        if not isinstance(session, SendingSession) or not session.in_flight or session.is_ended:
            return
        now = trio.current_time()
        try:
            answer = fcntl.ioctl(self._stream.socket, termios.TIOCOUTQ, bytes(_INT.size))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return
        session.unacknowledged(_INT.unpack(answer)[0] + self._output.size_bytes, now)
