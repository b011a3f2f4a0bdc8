# SPDX-License-Identifier: Apache-2.0
"""A small DLEP modem (RFC 8175) that does what a test tells it: the other side of `meshd/link/dlep/session.py`.

Run as a program it listens at an address and takes orders as lines of JSON on its standard input, one message each:

    {"up": "02:00:00:00:00:01", "address": "10.0.0.2", "transmit_bps": 64000}
    {"update": "02:00:00:00:00:01", "transmit_bps": 8000}
    {"down": "02:00:00:00:00:01"}
    {"session": {"transmit_bps": 8000}}

It prints `listening`, `in session`, and `ended` as they happen. Messages are written by meshd's own codec, whose bytes
the tests of the codec compare with the RFC.
"""

import contextlib
import ipaddress
import json
import socket
import sys
from typing import Any, Final

import msgspec
import trio

from meshd.link.dlep.items import AddressChange, Metrics, Status
from meshd.link.dlep.messages import MESSAGE_HEAD, Message, MessageType, pack_message, parse_message_untrusted

HOPS: Final = 255
HEARTBEAT_MS: Final = 1000
DEFAULTS: Final = Metrics(10_000_000, 10_000_000, 1_000_000, 1_000_000, 50_000, quality_transmit_pct=100)


class ModemSession:
    """One connection of a router; every message that it sent is kept."""

    def __init__(self, stream: trio.SocketStream, metrics: Metrics = DEFAULTS) -> None:
        self._stream = stream
        self._metrics = metrics
        self.heard: list[Message] = []
        self.opened = trio.Event()
        self.ended = trio.Event()

    async def run(self) -> None:
        """Answer until the router is gone, with a heartbeat each second."""
        async with self._stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            buffer = bytearray()
            with contextlib.suppress(trio.BrokenResourceError):
                async for data in self._stream:
                    buffer += data
                    await self._take_all(buffer)
            self.ended.set()
            nursery.cancel_scope.cancel()

    async def say(self, message: Message) -> None:
        """Send one message."""
        await self._stream.send_all(pack_message(message))

    async def _take_all(self, buffer: bytearray) -> None:
        while len(buffer) >= MESSAGE_HEAD.size:
            number, size = MESSAGE_HEAD.unpack_from(buffer)
            end = MESSAGE_HEAD.size + size
            if len(buffer) < end:
                return
            message = parse_message_untrusted(number, bytes(buffer[MESSAGE_HEAD.size : end]))
            del buffer[:end]
            self.heard.append(message)
            await self._answer(message)

    async def _answer(self, message: Message) -> None:
        match message.type:
            case MessageType.SESSION_INIT:
                await self.say(
                    Message(
                        MessageType.SESSION_INIT_RESPONSE,
                        status=Status.SUCCESS,
                        peer_type="simulated modem",
                        heartbeat_ms=HEARTBEAT_MS,
                        metrics=self._metrics,
                    )
                )
                self.opened.set()
            case MessageType.SESSION_TERMINATION:
                await self.say(Message(MessageType.SESSION_TERMINATION_RESPONSE))
            case _:
                pass

    async def _beat(self) -> None:
        await self.opened.wait()
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await trio.sleep(HEARTBEAT_MS / 1000)
                await self.say(Message(MessageType.HEARTBEAT))


async def listen(address: str, port: int = 0) -> trio.SocketListener:
    """A listening socket that sends with the TTL that DLEP demands."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOPS)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOPS)
    await sock.bind((address, port))
    sock.listen()
    return trio.SocketListener(sock)


def order(request: dict[str, Any]) -> Message:
    """The message that an order asks for."""
    figures = Metrics(**{name: value for name, value in request.items() if name in Metrics.__struct_fields__})
    if "session" in request:
        return Message(MessageType.SESSION_UPDATE, metrics=Metrics(**request["session"]))
    if "down" in request:
        return Message(MessageType.DESTINATION_DOWN, mac=_mac(request["down"]))
    if "update" in request:
        return Message(MessageType.DESTINATION_UPDATE, mac=_mac(request["update"]), metrics=figures)
    message = Message(MessageType.DESTINATION_UP, mac=_mac(request["up"]), metrics=figures)
    if "address" not in request:
        return message
    return msgspec.structs.replace(message, changes=(AddressChange(ipaddress.ip_address(request["address"])),))


def _tell(state: str) -> None:
    sys.stdout.write(f"{state}\n")
    sys.stdout.flush()


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


async def _serve(address: str, port: int) -> None:
    async with await listen(address, port) as listener:
        _tell("listening")
        stream = await listener.accept()
        session = ModemSession(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            await session.opened.wait()
            _tell("in session")
            nursery.start_soon(_obey, session)
            await session.ended.wait()
            _tell("ended")
            nursery.cancel_scope.cancel()


async def _obey(session: ModemSession) -> None:
    orders = trio.wrap_file(sys.stdin)
    async for line in orders:
        await session.say(order(json.loads(line)))


if __name__ == "__main__":
    trio.run(_serve, sys.argv[1], int(sys.argv[2]))
