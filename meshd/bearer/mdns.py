# SPDX-License-Identifier: Apache-2.0
"""Multicast DNS on one terrestrial bearer's device: says where this node listens, and hears where others do.

IPv4 only. Announced twice, and in answer to queries, no more often than once a second (RFC 6762 section 6); asked for
at intervals that double up to BROWSE_LAST_S (section 5.2). While silent nothing is sent, and goodbyes never are: who
has a hint that is not good any more fails to connect.
"""

import contextlib
import random
import socket
import struct
from collections.abc import Callable
from typing import Final

import trio

from meshd.bearer.mdns_records import (
    PACKET_MAX_BYTES,
    Hint,
    MdnsError,
    MdnsMissingError,
    load_zeroconf,
    make_answer,
    make_query,
    read_packet_untrusted,
)
from meshd.bearer.problems import Problems, Report
from meshd.bearer.sockets import BearerError, explain, find_ipv4_address, open_on_device
from meshd.bundle.eid import Eid
from meshd.link.settings import BearerSettings

GROUP: Final = "224.0.0.251"
PORT: Final = 5353
TTL: Final = 255
BROWSE_FIRST_S: Final = 1.0
BROWSE_LAST_S: Final = 600.0
ANSWER_MIN_S: Final = 1.0
OPEN_AGAIN_S: Final = 5.0
PACKETS_PER_S_MAX: Final = 100
"""More are not read before the second is over: the kernel drops what does not fit its buffer."""

_MREQN: Final = struct.Struct("=4s4si")


class Mdns:
    """Of one bearer."""

    def __init__(self, settings: BearerSettings, node: Eid, report: Report, rng: random.Random) -> None:
        self._settings = settings
        self._node = node
        self._rng = rng
        self._problems = Problems(settings.name, report)
        self._asked = trio.Event()
        self._scope = trio.CancelScope()
        self.is_silent = False

    def stop(self) -> None:
        """End it, without a word."""
        self._scope.cancel()

    async def run(self, take_hint: Callable[[Hint], None]) -> None:
        """Until stopped; `take_hint` hears what is learned, true or not."""
        try:
            load_zeroconf()
        except MdnsMissingError as error:
            self._problems.report("mdns", str(error))
            return
        with self._scope:
            while True:
                try:
                    with contextlib.closing(self._open()) as sock:
                        self._problems.clear("mdns")
                        await self._serve(sock, take_hint)
                except BearerError as error:
                    self._problems.report("mdns", str(error))
                    await trio.sleep(OPEN_AGAIN_S)

    async def _serve(self, sock: socket.socket, take_hint: Callable[[Hint], None]) -> None:
        """As long as the device is the same."""
        index = self._find_device()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, sock, take_hint)
            nursery.start_soon(self._browse, sock)
            nursery.start_soon(self._announce, sock)
            while True:
                await trio.sleep(OPEN_AGAIN_S)
                if self._find_device() != index:
                    nursery.cancel_scope.cancel()

    def _open(self) -> socket.socket:
        """Errors: BearerError."""
        sock = open_on_device(socket.AF_INET, socket.SOCK_DGRAM, self._settings)
        try:
            interface = _MREQN.pack(socket.inet_aton(GROUP), bytes(4), socket.if_nametoindex(self._settings.device))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, interface)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            sock.bind((GROUP, PORT))
        except OSError as error:
            sock.close()
            text = f"bearer {self._settings.name} can't speak mDNS on {self._settings.device}: {explain(error)}"
            raise BearerError(text) from error
        return sock

    def _find_device(self) -> int:
        try:
            return socket.if_nametoindex(self._settings.device)
        except OSError:
            return 0

    async def _listen(self, sock: socket.socket, take_hint: Callable[[Hint], None]) -> None:
        while True:
            begun = trio.current_time()
            for _ in range(PACKETS_PER_S_MAX):
                await trio.lowlevel.wait_readable(sock)
                with contextlib.suppress(BlockingIOError, MdnsError):
                    self._take(sock.recv(PACKET_MAX_BYTES + 1), take_hint)
            await trio.sleep_until(begun + 1.0)

    def _take(self, data: bytes, take_hint: Callable[[Hint], None]) -> None:
        """Errors: MdnsError."""
        heard = read_packet_untrusted(data)
        if heard.is_asking:
            self._asked.set()
        for hint in heard.hints:
            if hint.node != self._node:
                take_hint(hint)

    async def _browse(self, sock: socket.socket) -> None:
        pause_s = BROWSE_FIRST_S
        while True:
            await trio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
            self._send(sock, make_query())
            pause_s = min(2 * pause_s, BROWSE_LAST_S)

    async def _announce(self, sock: socket.socket) -> None:
        self._asked.set()
        for turn in range(1 << 62):
            await self._asked.wait()
            host, port = find_ipv4_address(self._settings.device), self._listening_port()
            if host is not None and port:
                self._send(sock, make_answer(self._node, port, host))
            if turn:
                self._asked = trio.Event()
            await trio.sleep(ANSWER_MIN_S)

    def _listening_port(self) -> int:
        """As configured; 0: nowhere, or where the kernel chooses."""
        return int((self._settings.listen or ":0").rpartition(":")[2])

    def _send(self, sock: socket.socket, data: bytes) -> None:
        if self.is_silent:
            return
        try:
            sock.sendto(data, (GROUP, PORT))
        except OSError as error:
            self._problems.report("mdns send", f"a packet of mDNS was lost here: {explain(error)}")
