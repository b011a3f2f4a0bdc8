# SPDX-License-Identifier: Apache-2.0
"""Nodes with streams and archives on the disk, a post between them that loses what the test says, and their clock.

Disks are real and threads are used: `World.write` waits for them, nothing sleeps.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from meshd.bundle.eid import Eid
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleId
from meshd.daemon.streams.about import About, Terms
from meshd.daemon.streams.library import Library
from meshd.daemon.streams.post import Arrival, Letter, StreamPost
from meshd.daemon.streams.publication import Means, Publication
from meshd.daemon.streams.reception import Reception
from meshd.daemon.streams.streams import Streams
from meshd.stream.announcement import Announcement
from meshd.stream.endpoints import live_endpoint
from meshd.stream.piece import VERSION, Tier, stream_id
from tests.unit.stream.ts_muxer import Muxer

EPOCH_MS = 1_700_000_000_000
QUOTA_BYTES = 1 << 30
PACKETS_PER_S = 300
"""At which streams are fed: a second of `clip` takes about one."""


def clip(seconds: int) -> bytes:
    """A transport stream."""
    mux = Muxer()
    return b"".join(mux.second(frames=15, frame_bytes=1800, key_bytes=9000) for _ in range(seconds))


class Post(StreamPost):
    """Keeps what is sent until the test lets it arrive."""

    def __init__(self, node: Eid, take: Callable[[Arrival], None]) -> None:
        super().__init__(lambda event: None, lambda ref, offset, size: b"", self._is_under_way, node, take)
        self.node = node
        self.letters: list[tuple[Letter, BundleId]] = []
        self._count = 0

    def _is_under_way(self, bundle: BundleId) -> bool:
        return any(each == bundle for _, each in self.letters)

    def send_all(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            self.send(letter)

    def send(self, letter: Letter, sent: Callable[[BundleId | None], None] | None = None) -> None:
        """Taken at once."""
        self._count += 1
        bundle = BundleId(self.node, self._count, 0)
        self.letters.append((letter, bundle))
        if sent is not None:
            sent(bundle)


class Node:
    """One of them."""

    def __init__(self, world: "World", name: str, folder: Path) -> None:
        self.world = world
        self.id = Eid(f"dtn://{name}/")
        self.folder = folder / name
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.may_send = True
        self.quota_bytes = QUOTA_BYTES
        self.holders: list[Eid] = []
        self.start()

    def start(self) -> None:
        """Also again: what is in memory is gone, what is on the disk is not."""
        self.post = Post(self.id, lambda arrival: self.streams.take(arrival))
        self.library = Library(self.folder, lambda: self.quota_bytes, self._report)
        means = Means(self.library, self.post, lambda: self.may_send)
        world = self.world
        self.streams = Streams(
            means, self.id, lambda _: self.holders, self._report, lambda: 3_600_000, clock=lambda: world.now
        )
        self.streams.recover(self.library.recover())

    def _report(self, kind: str, fields: Any) -> None:
        self.events.append((kind, dict(fields)))

    def kinds(self) -> list[str]:
        """Of the events until now."""
        return [kind for kind, _ in self.events]

    def publish(self, *receivers: "Node", name: str = "uav1", tiers_max: int = Tier.REST) -> Publication:
        """Begin a stream that a client feeds."""
        stream = stream_id(self.id.uri, name, EPOCH_MS)
        endpoints = [live_endpoint(each.id) for each in receivers]
        announcement = Announcement(
            VERSION, stream, name, self.id.uri, EPOCH_MS, 1000, "", [each.uri for each in endpoints], 0, 0, False
        )
        terms = Terms("", Precedence.PRIORITY, tiers_max, 3_600_000, is_wanted=False)
        return self.streams.publish(About(announcement, terms), endpoints)

    def reception(self) -> Reception:
        """Of the only stream that it receives."""
        (found,) = self.streams.received.values()
        return found

    def recording(self) -> bytes:
        """All of the archive, span by span."""
        archive, spans = self.reception().archive, self.reception().announcement.spans
        parts = []
        for span in range(spans):
            manifest = archive.read_manifest(span)
            assert manifest is not None
            data, wrong = archive.read_span(manifest)
            assert not wrong
            parts.append(data)
        return b"".join(parts)


class World:
    """All nodes, and the way between them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.now = 1000.0
        self.loses: Callable[[Letter], bool] = lambda letter: False
        self.changes: Callable[[bytes], bytes] = lambda data: data
        self.nodes = {Eid(f"dtn://{name}/"): Node(self, name, folder) for name in names}

    def deliver(self) -> int:
        """Whatever is under way arrives or is lost, also what that leads to: how much."""
        count = 0
        while pending := [node for node in self.nodes.values() if node.may_send and node.post.letters]:
            for node in pending:
                letters, node.post.letters = node.post.letters, []
                for letter, _ in letters:
                    count += 1
                    receiver = self.nodes[letter.destination.node]
                    if not self.loses(letter):
                        is_live = letter.destination == receiver.post.live_endpoint
                        source = node.post.live_endpoint if is_live else node.post.fill_endpoint
                        receiver.streams.take(Arrival(source, self.changes(letter.data), is_live))
        return count

    async def write(self) -> None:
        """Everything that is to be archived is on the disk."""
        for node in self.nodes.values():
            await node.library.close()

    async def feed(self, publication: Publication, data: bytes, *, portion_packets: int = 7) -> None:
        """Ingest at the pace of the stream, everything delivered as it comes."""
        step = portion_packets * 188
        for number, pos in enumerate(range(0, len(data), step)):
            self.now += portion_packets / PACKETS_PER_S
            publication.tick(self.now)
            publication.feed(data[pos : pos + step], self.now)
            self.deliver()
            if number % 40 == 0:
                await self.write()
        await self.write()
        self.deliver()

    async def finish(self, publication: Publication) -> None:
        """End a stream."""
        publication.finish(self.now)
        await self.write()
        self.deliver()
        await self.write()

    async def fill(self, node: Node, rounds: int = 12) -> None:
        """Time passes until its archive is whole, or so many rounds are over."""
        for _ in range(rounds):
            await node.reception().settle()
            await self.write()
            if node.reception().is_complete:
                break
            node.reception().ask(self.now)
            self.deliver()
            for other in self.nodes.values():
                other.streams.answers.pump()
            self.deliver()
            await self.write()
            self.now += 5.0
