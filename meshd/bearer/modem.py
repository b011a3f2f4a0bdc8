# SPDX-License-Identifier: Apache-2.0
"""Listens to the modem of one bearer by the Dynamic Link Exchange Protocol (RFC 8175), for as long as the bearer lives.

The modem's control port is not on the air: the connection is bound to no device. Both sides demand packets that no
router has passed on (TTL 255, section 12.1; RFC 5082). No TLS: a modem stands beside the node, on a wire of their own
("dedicated deployment", section 4).
"""

import random
import socket
from collections.abc import Callable
from typing import Final

import trio

from meshd.bearer.backoff import Backoff
from meshd.bearer.problems import Problems
from meshd.bearer.sockets import Address, BearerError, explain, parse_address
from meshd.link.dlep.session import DlepEvent, RouterSession, SessionUp

CONNECT_TIMEOUT_S: Final = 5.0
RECONNECT_MAX_S: Final = 10.0
"""Between attempts: a modem stands beside us, so that asking again disturbs nobody."""
GOODBYE_S: Final = 0.5
"""A modem that is told of our end may answer for so long."""
_READ_BYTES: Final = 65536
_HOPS: Final = 255
_IP_MINTTL: Final = 21
_IPV6_MINHOPCOUNT: Final = 73
_HOP_OPTIONS: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL, _IP_MINTTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _IPV6_MINHOPCOUNT),
}


class Modem:
    """The modem at one address."""

    def __init__(
        self,
        address: str,
        heartbeat_s: float,
        rng: random.Random,
        problems: Problems,
        hear: Callable[[DlepEvent], None],
    ) -> None:
        """`hear` gets every event of every session, in order."""
        self._address = address
        self._heartbeat_s = heartbeat_s
        self._backoff = Backoff(rng, RECONNECT_MAX_S)
        self._problems = problems
        self._hear = hear

    async def run(self) -> None:
        """Listen until cancelled; the modem is told of the end."""
        while True:
            try:
                sock = await self._connect()
            except BearerError as error:
                self._problems.report("modem", str(error))
            else:
                with sock:
                    await self._serve(sock)
            await trio.sleep(self._backoff.next_s())

    async def _connect(self) -> trio.socket.SocketType:
        family, address = parse_address(self._address)
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            await self._reach(sock, family, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _reach(self, sock: trio.socket.SocketType, family: socket.AddressFamily, address: Address) -> None:
        reason = f"no answer within {CONNECT_TIMEOUT_S:.0f} s"
        try:
            level, hops, least = _HOP_OPTIONS[family]
            sock.setsockopt(level, hops, _HOPS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with trio.move_on_after(CONNECT_TIMEOUT_S):
                await sock.connect(address)
                # Not before: the refusal of a host where nobody listens has that host's usual TTL, and has to be heard.
                sock.setsockopt(level, least, _HOPS)
                return
        except OSError as error:
            reason = explain(error)
        raise BearerError(
            f"the modem at {self._address} can't be reached: {reason}; check `dlep`, and that the modem's control port "
            "is on a network without routers in between"
        )

    async def _serve(self, sock: trio.socket.SocketType) -> None:
        session = RouterSession(self._heartbeat_s, trio.current_time())
        try:
            while not session.is_closed:
                await self._send(sock, session)
                self._tell(session)
                data: bytes | None = None
                with trio.move_on_at(_or_never(session.get_timer())):
                    data = await _read(sock)
                if data is None:
                    session.handle_timer(trio.current_time())
                else:
                    session.receive_data(data, trio.current_time())
            await self._send(sock, session)
        finally:
            if not session.is_closed:
                await self._say_goodbye(sock, session)
            self._tell(session)

    async def _say_goodbye(self, sock: trio.socket.SocketType, session: RouterSession) -> None:
        session.close(trio.current_time())
        with trio.move_on_after(GOODBYE_S, shield=True):
            await self._send(sock, session)
            while not session.is_closed:
                session.receive_data(await _read(sock), trio.current_time())

    async def _send(self, sock: trio.socket.SocketType, session: RouterSession) -> None:
        """A modem that takes nothing for two heartbeats of ours is no modem."""
        data = session.data_to_send()
        with trio.move_on_after(2 * self._heartbeat_s) as waiting:
            try:
                while data:
                    data = data[await sock.send(data) :]
            except OSError as error:
                explain(error)
                session.receive_data(b"", trio.current_time())
        if waiting.cancelled_caught:
            session.receive_data(b"", trio.current_time())

    def _tell(self, session: RouterSession) -> None:
        while (event := session.next_event()) is not None:
            if isinstance(event, SessionUp):
                self._backoff.reset()
                self._problems.clear("modem")
            self._hear(event)


async def _read(sock: trio.socket.SocketType) -> bytes:
    try:
        return await sock.recv(_READ_BYTES)
    except OSError as error:
        explain(error)
        return b""


def _or_never(deadline: float | None) -> float:
    return float("inf") if deadline is None else deadline
