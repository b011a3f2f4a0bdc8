# SPDX-License-Identifier: Apache-2.0
"""The DLEP client on real sockets against a simulated modem: sessions, what they tell, their end and their return."""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio

from meshd.bearer.link import Figure
from meshd.bearer.modem import Modem
from meshd.bearer.problems import Problems
from meshd.link.dlep.items import Status
from meshd.link.dlep.messages import MessageType
from meshd.link.dlep.session import DestinationChanged, DestinationGone, DlepEvent, SessionEnded, SessionUp
from tests.lab.modem_simulator import ModemSession, listen, order

MAC = "02:00:00:00:00:01"


class Ear:
    """Hears events one after the other, and problems."""

    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[DlepEvent](100)
        self.problems: list[str] = []
        self.has_problem = trio.Event()

    def hear(self, event: DlepEvent) -> None:
        self._sender.send_nowait(event)

    def report(self, _: str, fields: Mapping[str, Figure]) -> None:
        self.problems.append(str(fields["problem"]))
        self.has_problem.set()

    async def next(self) -> DlepEvent:
        with trio.fail_after(30):
            return await self._receiver.receive()


def modem_at(address: str, ear: Ear) -> Modem:
    problems = Problems("rad0", ear.report)
    return Modem(address, 1.0, random.Random(1), problems, ear.hear)


@asynccontextmanager
async def serving(host: str = "127.0.0.1") -> AsyncIterator[tuple[trio.SocketListener, str]]:
    async with await listen(host) as listener:
        port = listener.socket.getsockname()[1]
        yield listener, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_modem_tells_of_its_destinations(host: str, nursery: trio.Nursery) -> None:
    ear = Ear()
    async with serving(host) as (listener, address):
        nursery.start_soon(modem_at(address, ear).run)
        session = ModemSession(await listener.accept())
        nursery.start_soon(session.run)
        hello = await ear.next()
        assert isinstance(hello, SessionUp)
        assert hello.peer_type == "simulated modem"
        await session.say(order({"up": MAC, "address": "10.0.0.2", "transmit_bps": 64000}))
        there = await ear.next()
        assert isinstance(there, DestinationChanged)
        assert there.destination.metrics.transmit_bps == 64000
        assert [str(address) for address in there.destination.addresses] == ["10.0.0.2"]
        await session.say(order({"down": MAC}))
        assert isinstance(await ear.next(), DestinationGone)
        nursery.cancel_scope.cancel()


async def test_the_router_says_goodbye(nursery: trio.Nursery) -> None:
    ear = Ear()
    async with serving() as (listener, address):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(modem_at(address, ear).run)
                session = ModemSession(await listener.accept())
                nursery.start_soon(session.run)
                await ear.next()
                scope.cancel()
        with trio.fail_after(30):
            await session.ended.wait()
        assert session.heard[-1].type is MessageType.SESSION_TERMINATION
        assert session.heard[-1].status == Status.SHUTTING_DOWN
        assert await ear.next() == SessionEnded("the router is shutting down")


async def test_a_lost_modem_is_found_again(nursery: trio.Nursery) -> None:
    ear = Ear()
    async with serving() as (listener, address):
        nursery.start_soon(modem_at(address, ear).run)
        first = await listener.accept()
        await first.aclose()
        assert await ear.next() == SessionEnded("the modem closed the connection")
        session = ModemSession(await listener.accept())
        nursery.start_soon(session.run)
        assert isinstance(await ear.next(), SessionUp)
        nursery.cancel_scope.cancel()


async def test_an_absent_modem_is_a_problem_that_is_told(nursery: trio.Nursery) -> None:
    ear = Ear()
    async with serving() as (_, address):
        pass
    nursery.start_soon(modem_at(address, ear).run)
    with trio.fail_after(30):
        await ear.has_problem.wait()
    assert f"the modem at {address} can't be reached" in ear.problems[0]
    assert "nobody listens there" in ear.problems[0]
    nursery.cancel_scope.cancel()
