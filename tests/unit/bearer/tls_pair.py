# SPDX-License-Identifier: Apache-2.0
"""Two bearers with TLS between them on the loopback device, and what they say."""

import random
from collections.abc import Callable
from datetime import datetime

import trio

from meshd.bearer.tcp import TcpBearer
from meshd.bearer.tls import TlsIdentity
from meshd.bundle.eid import Eid
from meshd.link.settings import NeighbourSettings, TlsPolicy
from meshd.node.events import BundlesReceived, LinkUp
from meshd.security.settings import TlsSettings
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO, Recorder, make_settings


def host_now() -> datetime:
    """OpenSSL goes by the host's clock, so these certificates do too."""
    return datetime.now().astimezone()


def make_identity(files: TlsSettings, node: Eid, clock: Callable[[], datetime] = host_now) -> TlsIdentity:
    return TlsIdentity(files, node, clock, host_now)


class Side:
    """A bearer with its recorder."""

    def __init__(
        self,
        node: Eid,
        neighbour: Eid,
        address: str | None,
        tls: TlsIdentity | None,
        policy: TlsPolicy = TlsPolicy.REQUIRE,
    ) -> None:
        self.recorder = Recorder()
        self.neighbour = neighbour
        settings = make_settings("127.0.0.1:0" if address is None else None, tls=policy)
        rows = [NeighbourSettings(neighbour, settings.name, address)]
        self.bearer = TcpBearer(
            settings, rows, node, self.recorder.dispatch, self.recorder.report, random.Random(1), tls
        )

    async def start(self, nursery: trio.Nursery) -> "Side":
        await nursery.start(self.bearer.run)
        return self

    def received(self) -> list[bytes]:
        return [row.data for event in self.recorder.all(BundlesReceived) for row in event.rows]


async def reason_of(side: Side, *kinds: str) -> str:
    """Of the first session that did not come about."""
    wanted = kinds or ("session.refused",)
    await side.recorder.until(lambda: any(kind in wanted for kind, _ in side.recorder.reports))
    return next(str(fields["reason"]) for kind, fields in side.recorder.reports if kind in wanted)


def assert_nothing_passed(*sides: Side) -> None:
    for side in sides:
        assert side.recorder.all(LinkUp) == []
        assert side.received() == []


async def make_pair(
    nursery: trio.Nursery,
    listening: TlsIdentity | None,
    dialling: TlsIdentity | None,
    policies: tuple[TlsPolicy, TlsPolicy] = (TlsPolicy.REQUIRE, TlsPolicy.REQUIRE),
    names: tuple[Eid, Eid] = (BRAVO, ALPHA),
) -> tuple[Side, Side]:
    bravo = await Side(names[0], ALPHA, None, listening, policies[0]).start(nursery)
    address = bravo.bearer.bound_address
    alpha = await Side(names[1], BRAVO, address, dialling, policies[1]).start(nursery)
    return bravo, alpha
