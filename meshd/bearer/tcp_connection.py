# SPDX-License-Identifier: Apache-2.0
"""One TCP connection with its TCPCLv4 session (RFC 9174).

Between contact header and session the writer puts TLS around the socket where both sides want it.
"""

import math
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import ClassVar

import trio

from meshd.bearer.connection import Connection
from meshd.bearer.tls import TlsIdentity, TlsStream, explain_tls
from meshd.bundle.stored_chunk import Chunks
from meshd.cl.tcpclv4.events import Event
from meshd.cl.tcpclv4.messages import RefuseReason, TermReason
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role
from meshd.cl.tcpclv4.states import State
from meshd.security.identity import IdentityError


class TcpConnection(Connection[Event]):
    """A TCPCLv4 session on a connected socket."""

    HAS_LAST_WORDS: ClassVar[bool] = True

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        role: Role,
        address: str,
        tls: TlsIdentity | None = None,
        *,
        is_extra: bool = False,
    ) -> None:
        """`tls` must be there unless the session never wants TLS."""
        super().__init__(sock, session, address)
        self.session = session
        self.role = role
        self.is_extra = is_extra
        """Dialled on purpose beside another session of the same neighbour."""
        self.transfers = 0
        """Bundles handed over or received so far: one that does not grow is idle."""
        self.arriving: set[int] = set()
        """Large transfers of the peer that are not whole yet and not refused."""
        self.was_established = False
        self.transfer_mtu_bytes = 0
        """Largest bundle that the peer takes; known once the session is established."""
        self._tls = tls
        self._handshake: trio.CancelScope | None = None

    @property
    def room(self) -> int:
        """See Connection."""
        return self.session.room

    @property
    def is_busy(self) -> bool:
        """Something is under way, or the session can't carry anything at the moment."""
        session = self.session
        is_quiet = session.can_send and session.is_idle and not self.sent and not self.pending_bytes
        return self._is_frozen or not is_quiet

    @property
    def is_frozen(self) -> bool:
        """Under silence: nothing leaves it."""
        return self._is_frozen

    def _enqueue(self, bundles: Sequence[Chunks], sizes_bytes: Sequence[int]) -> Iterable[int]:
        self.transfers += len(bundles)
        return self.session.send_transfers(bundles, sizes_bytes)

    def accept(self, numbers: Iterable[int]) -> None:
        """Acknowledge these: what they carried is durable."""
        self.session.acknowledge(numbers)
        self.wake()

    def release(self, number: int, size_bytes: int) -> None:
        """So much of this transfer is written: as much more may come."""
        self.session.release(number, size_bytes)
        self.wake()

    def refuse(self, number: int, *, retriable: bool, completed: bool) -> None:
        """Refuse one (section 5.2.4), also while it is arriving."""
        self.arriving.discard(number)
        reason = RefuseReason.NO_RESOURCES if retriable else RefuseReason.NOT_ACCEPTABLE
        self.session.refuse(number, RefuseReason.COMPLETED if completed else reason)
        self.wake()

    def terminate(self, text: str, reason: TermReason = TermReason.UNKNOWN) -> None:
        """End the session with SESS_TERM (section 6.1)."""
        self.session.terminate(reason, text, trio.current_time())
        self.wake()

    def wake(self) -> None:
        """See Connection."""
        super().wake()
        if self._handshake is not None:
            self._handshake.cancel()

    async def _attend(self, *, is_blocked: bool) -> bool:
        """Put TLS around the socket when it is time for that."""
        if self.session.state is not State.SECURING or is_blocked or self._is_frozen:
            return False
        await self._secure()
        return True

    async def _secure(self) -> None:
        """Put TLS around the socket (section 4.4). The session goes on, or ends with the reason why it can't."""
        assert self._tls is not None, "a session without an identity never wants TLS"
        if not isinstance(self._stream, TlsStream):
            self._stream = self._tls.wrap(self._stream.socket, self.role)
        stream = self._stream
        try:
            if not await self._shake_hands(stream):
                return
            self.session.secure(self._tls.check_peer(stream).nodes)
        except IdentityError as error:
            self.session.fail_securing(str(error), is_tellable=True)
        except OSError as error:
            self.session.fail_securing(explain_tls(error), is_tellable=False)
        self.last_heard = trio.current_time()
        self._tell()
        self._readable.set()

    async def _shake_hands(self, stream: TlsStream) -> bool:
        """False: silence was ordered or the session ended meanwhile. Errors: OSError."""
        while self.session.state is State.SECURING and not self._is_frozen:
            try:
                stream.shake_hands()
            except ssl.SSLWantReadError:
                wait = trio.lowlevel.wait_readable
            except ssl.SSLWantWriteError:
                wait = trio.lowlevel.wait_writable
            else:
                return True
            deadline = self.session.get_timer()
            with trio.CancelScope(deadline=math.inf if deadline is None else deadline) as self._handshake:
                await wait(stream.socket)
            self._handshake = None
            self.session.handle_timer(trio.current_time())
        return False
