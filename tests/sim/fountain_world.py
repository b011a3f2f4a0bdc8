# SPDX-License-Identifier: Apache-2.0
"""Fountain machines on a simulated bearer in virtual time: a modem with a rate and a buffer, then loss, then delay.

Loss comes behind the rate limiter, so that what is lost has cost its air time. Sealing is played by a fake of the same
size, which finds damage and repetition as the real one does.
"""

import random
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from meshd.bundle.eid import Eid, parse_eid
from meshd.cl.fountain.datagram import SEAL_BYTES, DatagramError, Fault, Opened, Sifted
from meshd.cl.fountain.events import (
    Datagram,
    Event,
    MarksToSave,
    OutgoingRow,
    PeerDown,
    PeerUp,
    TransfersAcknowledged,
    TransfersFailed,
    TransfersReceived,
    WorkRequested,
)
from meshd.cl.fountain.fountain_code import RaptorQ
from meshd.cl.fountain.machine import Machine
from meshd.cl.fountain.ports import Open, Seal, Tags
from meshd.cl.fountain.settings import FountainSettings, PeerSettings
from meshd.security.pairwise import Verdict
from meshd.security.replay_window import Mark
from tests.sim.virtual_time import VirtualTime

COMMIT_S: Final = 0.002
WORK_S: Final = 0.008

Loss = Callable[[float], bool]
"""True for a datagram that is lost at this time."""


def no_loss(_now: float) -> bool:
    """Nothing is lost."""
    return False


def independent(rng: random.Random, share: float) -> Loss:
    """Each datagram alone."""
    return lambda _now: rng.random() < share


class Bursts:
    """Gilbert-Elliott: all is lost in the bad state; both last exponential times."""

    def __init__(self, rng: random.Random, bad_s: float, share: float) -> None:
        self._rng = rng
        self._means = (bad_s * (1 - share) / share, bad_s)
        self._is_bad = False
        self._until = 0.0

    def __call__(self, now: float) -> bool:
        """True while it is bad."""
        if not self._until:
            self._until = now
        while self._until <= now:
            self._is_bad = not self._is_bad
            self._until += self._rng.expovariate(1 / self._means[self._is_bad])
        return self._is_bad


class FakeSeal:
    """Header, plain text, check sum: as long as the real thing."""

    def __init__(self, node: Eid, index: int, boot: int = 1) -> None:
        self.node, self.index, self.boot, self.epoch, self.next_counter = node, index, boot, 1, 1

    def seal(self, plaintext: bytes) -> bytes:
        """Not secret."""
        head = self.index.to_bytes(2) + self.boot.to_bytes(4) + self.next_counter.to_bytes(6)
        self.next_counter += 1
        body = head + plaintext
        return body + zlib.crc32(body).to_bytes(16)

    def is_ahead(self, boot: int, counter: int) -> bool:
        """As the real one."""
        return boot > self.boot or (boot == self.boot and counter >= self.next_counter)


class FakeOpener:
    """Finds damage and repetition."""

    def __init__(self, nodes: Mapping[int, Eid]) -> None:
        self._nodes = nodes
        self._seen: set[bytes] = set()

    @property
    def is_saving_wanted(self) -> bool:
        """Never."""
        return False

    @property
    def waiting_sender(self) -> Eid:
        """Nobody's datagram waits."""
        raise AssertionError

    def sift_untrusted(self, datagrams: Sequence[bytes]) -> Sifted:
        """As the real one, which may leave everything to be opened."""
        return Sifted(datagrams)

    def open_untrusted(self, datagram: bytes) -> Opened:
        """As the real one."""
        body = datagram[:-16]
        if len(datagram) <= SEAL_BYTES or zlib.crc32(body).to_bytes(16) != datagram[-16:]:
            raise DatagramError(Fault.FORGED)
        if body[:12] in self._seen:
            raise DatagramError(Fault.REPLAYED)
        self._seen.add(body[:12])
        index, boot, counter = int.from_bytes(body[:2]), int.from_bytes(body[2:6]), int.from_bytes(body[6:12])
        if index not in self._nodes:
            raise DatagramError(Fault.UNKNOWN)
        return Opened(self._nodes[index], index, boot, counter, 1, False, body[12:])

    def marks_to_save(self) -> dict[Eid, Mark]:
        """None are kept."""
        return {}

    def saved(self, marks: Mapping[Eid, Mark]) -> list[Opened]:
        """None wait."""
        del marks
        return []


class FakeTags:
    """Tags without a secret, but as particular as the real ones."""

    def __init__(self, own: Eid) -> None:
        self._own = own

    def make_tag(self, peer: Eid, epoch: int, verdict: Verdict, object_id: bytes, digest: bytes) -> bytes:
        """From us."""
        return _tag(self._own, peer, verdict, object_id, digest)

    def is_tag_good(self, tag: bytes, peer: Eid, epoch: int, verdict: Verdict, object_id: bytes, digest: bytes) -> bool:
        """From this peer, for us."""
        return tag == _tag(peer, self._own, verdict, object_id, digest)


def _tag(sayer: Eid, hearer: Eid, verdict: Verdict, object_id: bytes, digest: bytes) -> bytes:
    text = sayer.uri.encode() + hearer.uri.encode() + bytes((verdict,)) + object_id + digest
    return zlib.crc32(text).to_bytes(8)


class Node:
    """One machine and its owner: accepts what arrives once it is durable, sends again what failed by a dead link."""

    def __init__(
        self, world: "World", index: int, settings: FountainSettings, peers: Sequence[PeerSettings], boot: int = 1
    ) -> None:
        self.world = world
        self.index = index
        self.settings = settings
        self.peers = peers
        self.machine = Machine(
            settings,
            peers,
            *world.make_security(settings, peers, boot),
            RaptorQ(),
            random.Random(world.rng.random()),
            world.time.now,
        )
        self.up: set[Eid] = set()
        self.received: dict[bytes, float] = {}
        """Bundles and when they were durable."""
        self.copies = 0
        self.acknowledged: list[tuple[Eid, Hashable]] = []
        self.failed: list[tuple[Eid, Hashable]] = []
        self.events: list[Event] = []
        self._rows: dict[Hashable, OutgoingRow] = {}
        self._again: dict[Eid, list[Hashable]] = {}
        self._timer_at = float("inf")
        self.sent_frame_bytes = 0
        self.sent_datagrams = 0
        self.busy_until = 0.0
        self.backlog_most_bytes = 0.0
        self.modem_drops = 0
        self.refuses = False
        self.is_deaf_to_commits = False
        """Its disk never finishes."""
        self.is_dead = False

    def send(self, to: Eid, name: Hashable, data: bytes, precedence: int = 1, lifetime_s: float = 1e6) -> None:
        """Give the machine one bundle."""
        self.machine.send_bundles(to, [self.row(name, data, precedence, lifetime_s)], self.world.time.now)
        self.pump()

    def row(
        self, name: Hashable, data: bytes, precedence: int = 1, lifetime_s: float = 1e6, tier: int | None = None
    ) -> OutgoingRow:
        """The row of one bundle, which is kept for sending it again."""
        row = self._rows[name] = OutgoingRow(name, (data,), precedence, self.world.time.now + lifetime_s, tier)
        return row

    def pump(self) -> None:
        """Do all that is to be done now."""
        if self.is_dead:
            return
        now = self.world.time.now
        while (event := self.machine.next_event()) is not None:
            self._handle(event)
        for datagram in self.machine.datagrams_to_send(now):
            self.world.transmit(self, datagram)
        while (event := self.machine.next_event()) is not None:
            self._handle(event)
        at = self.machine.get_timer()
        if at < float("inf") and (at < self._timer_at or self._timer_at <= now):
            self._timer_at = at
            self.world.time.call_at(at, self._tick)

    def _tick(self) -> None:
        now = self.world.time.now
        if self._timer_at > now or self.is_dead:
            return
        self._timer_at = float("inf")
        at = self.machine.get_timer()
        if at <= now:
            self.machine.handle_timer(now)
        self.pump()

    def _handle(self, event: Event) -> None:
        time = self.world.time
        self.events.append(event)
        match event:
            case PeerUp(node):
                self.up.add(node)
                for name in self._again.pop(node, ()):
                    self.machine.send_bundles(node, [self._rows[name]], time.now)
            case PeerDown(node):
                self.up.discard(node)
            case TransfersReceived(node, rows):
                for row in rows:
                    time.call_later(COMMIT_S, partial(self._commit, node, row.transfer, row.data))
            case TransfersAcknowledged(node, bundles):
                self.acknowledged += [(node, bundle) for bundle in bundles]
            case TransfersFailed(node, bundles):
                self.failed += [(node, bundle) for bundle in bundles]
                self._again.setdefault(node, []).extend(bundles)
            case MarksToSave(marks):
                time.call_later(COMMIT_S, partial(self._marks_saved, marks))
            case WorkRequested(job, work):
                result = work()
                time.call_later(WORK_S, partial(self._work_done, job, result))
            case _:
                pass

    def _marks_saved(self, marks: Mapping[Eid, Mark]) -> None:
        self.machine.marks_saved(marks, self.world.time.now)
        self.pump()

    def _work_done(self, job: int, result: object) -> None:
        self.machine.handle_work_done(job, result, self.world.time.now)
        self.pump()

    def _commit(self, node: Eid, transfer: int, data: bytes) -> None:
        now = self.world.time.now
        if self.is_dead or self.is_deaf_to_commits:
            return
        if self.refuses:
            self.machine.refuse(node, transfer, now, is_retriable=False)
        else:
            self.copies += 1
            self.received.setdefault(data, now)
            self.machine.accept(node, [transfer], now)
        self.pump()


class World:
    """Nodes on one bearer. `losses[a][b]` is what befalls datagrams from a to b."""

    def __init__(self, seed: int, count: int = 2, **settings: Any) -> None:
        self.rng = random.Random(seed)
        self.time = VirtualTime()
        self.names = [parse_eid(f"dtn://n{index}/") for index in range(count)]
        self.losses: dict[tuple[int, int], Loss] = {}
        self.is_cut = False
        self.duplicate = self.corrupt = self.reorder = 0.0
        self.delay_s = 0.3
        self.rates_bps: dict[int, int] = {}
        self.modems_bps: dict[int, int] = {}
        """What a node's modem carries, where the node does not know."""
        self.overrides: dict[int, dict[str, Any]] = {}
        self.blind: set[tuple[int, int]] = set()
        self.strangers: set[tuple[int, int]] = set()
        """(a, b): a is not configured with b, but knows its keys."""
        self._settings = settings
        self.nodes: list[Node] = []

    def make_security(
        self, settings: FountainSettings, peers: Sequence[PeerSettings], boot: int
    ) -> tuple[Seal, Open, Tags]:
        """What seals, opens and tags at one node."""
        members = range(len(self.names)) if settings.found_max else ()
        nodes = {index: self.names[index] for index in members} | {each.index: each.node for each in peers}
        return FakeSeal(settings.node, settings.index, boot), FakeOpener(nodes), FakeTags(settings.node)

    def build(self) -> None:
        """Make the nodes, from the settings as they are now."""
        count = len(self.names)
        for index, name in enumerate(self.names):
            settings = FountainSettings(name, index, self.rates_bps.get(index, 10_000_000), self.delay_s)
            settings = replace(settings, **self._settings, **self.overrides.get(index, {}))
            peers = [
                PeerSettings(self.names[other], other, is_blind=(index, other) in self.blind)
                for other in range(count)
                if other != index and (index, other) not in self.strangers
            ]
            self.nodes.append(Node(self, index, settings, peers))
        for node in self.nodes:
            node.pump()

    def restart(self, index: int) -> None:
        """A node dies and starts anew at once, with nothing in memory."""
        old = self.nodes[index]
        old.is_dead = True
        self.nodes[index] = Node(self, index, old.settings, old.peers, boot=2)
        self.nodes[index].pump()

    def transmit(self, node: Node, datagram: Datagram) -> None:
        """A datagram goes through the modem, then through the air."""
        now, settings = self.time.now, node.settings
        size_bytes = len(datagram.data) + settings.header_bytes - SEAL_BYTES
        rate_bps = self.modems_bps.get(node.index, settings.rate_bps)
        backlog_bytes = max(node.busy_until - now, 0.0) * rate_bps / 8
        node.backlog_most_bytes = max(node.backlog_most_bytes, backlog_bytes + size_bytes)
        if backlog_bytes + size_bytes > settings.modem_buffer_bytes + 1514:
            node.modem_drops += 1
            return
        node.busy_until = max(node.busy_until, now) + size_bytes * 8 / rate_bps
        node.sent_frame_bytes += size_bytes
        node.sent_datagrams += 1
        left_at = node.busy_until
        for other in self.nodes:
            if other is node or (datagram.node is not None and datagram.node != other.settings.node):
                continue
            loss = self.losses.get((node.index, other.index), no_loss)
            if loss(left_at) or self.is_cut:
                continue
            self._deliver(other, datagram.data, left_at + self.delay_s)

    def _deliver(self, node: Node, data: bytes, at: float) -> None:
        if self.rng.random() < self.corrupt:
            spot = self.rng.randrange(len(data))
            data = data[:spot] + bytes((data[spot] ^ 1 << self.rng.randrange(8),)) + data[spot + 1 :]
        if self.rng.random() < self.reorder:
            at += self.rng.uniform(0, 0.05)
        for _ in range(1 + (self.rng.random() < self.duplicate)):
            self.time.call_at(at, partial(self._arrive, node, data))

    def _arrive(self, node: Node, data: bytes) -> None:
        if self.is_cut or node.is_dead:
            return
        node.machine.receive_datagrams([data], self.time.now)
        node.pump()
