# SPDX-License-Identifier: Apache-2.0
"""All streams of a node: those that it publishes, those that it receives, and who watches them.

A stream is called by its name; of several with one name the one that began last is meant, and who watches a name goes
over to the next stream of that name by itself. What is addressed to this node is archived. After a restart a stream of
this node is ended where its archive ends, and, when its input is an address, the next one of that name is begun.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import trio

from meshd.bundle.eid import Eid
from meshd.bundle.precedence import Precedence
from meshd.daemon.dtn_clock import monotonic_s
from meshd.daemon.streams.about import About
from meshd.daemon.streams.answers import Answers
from meshd.daemon.streams.library import Library
from meshd.daemon.streams.player import Player
from meshd.daemon.streams.post import Arrival
from meshd.daemon.streams.publication import Means, Publication, close_interrupted, send_end
from meshd.daemon.streams.reception import Holders, Reception
from meshd.stream.announcement import Announcement
from meshd.stream.gap_fill import FillRequest
from meshd.stream.manifest import Manifest
from meshd.stream.payload import PayloadError, decode_payload_untrusted
from meshd.stream.piece import Piece

STREAMS_MAX: Final = 256
"""Published and received ones in the archive."""
TICK_S: Final = 0.05
"""Of a publisher: a cut is closed so late at most, when nothing comes in that would close it."""
LOOK_S: Final = 0.2
"""Between two looks at what is missing and what is asked for."""

Report = Callable[[str, Mapping[str, Any]], None]


class Streams:
    """Owns them."""

    def __init__(
        self,
        means: Means,
        own_node: Eid,
        holders: Holders,
        report: Report,
        window_ms: Callable[[], int],
        clock: Callable[[], float] = monotonic_s,
    ) -> None:
        """Args: `window_ms`: how much of a received stream is kept."""
        self._means = means
        self._own_node = own_node
        self._holders = holders
        self._report = report
        self._window_ms = window_ms
        self._clock = clock
        self.published: dict[bytes, Publication] = {}
        self.ended: dict[bytes, About] = {}
        """Own streams that are only archived."""
        self.received: dict[bytes, Reception] = {}
        self.answers = Answers(means.library, means.post)
        self.refused_bundles = 0
        self.on_begun: Callable[[bytes, str], None] = lambda stream, name: None
        """Told of each stream that is known now, by ID and name."""
        self.on_ended: Callable[[bytes], None] = lambda stream: None
        """Told of the end of a stream."""
        self._wanted: list[About] = []

    @property
    def library(self) -> Library:
        """Their archives."""
        return self._means.library

    def recover(self, found: Sequence[tuple[bytes, About]]) -> None:
        """What the library found. Blocks where a stream was interrupted."""
        for stream, about in found:
            if about.terms is None:
                self._receive(about, self._clock())
                continue
            self.library.windows_ms[stream] = about.terms.window_ms
            if not about.announcement.has_ended:
                about = self._end_interrupted(about)
            if about.terms is not None and about.terms.is_wanted:
                self._wanted.append(about)
                about = About(about.announcement, msgspec.structs.replace(about.terms, is_wanted=False))
                self.library.save(about)
            self.ended[stream] = about

    def _end_interrupted(self, about: About) -> About:
        archive = self.library.archives[about.announcement.stream]
        ended, records = close_interrupted(about, archive)
        self.library.append(archive, records, lambda _: send_end(ended, records, self._means))
        self.library.save(ended)
        fields = {"name": ended.announcement.name, "stream": ended.announcement.stream.hex()}
        self._report("stream.ended", fields | {"reason": "this node was restarted"})
        return ended

    def take_wanted(self) -> list[About]:
        """Own streams that were running when the node ended, and whose next ones are to be begun."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def announcement(self, stream: bytes) -> Announcement | None:
        """What is known of a stream."""
        if stream in self.published:
            return self.published[stream].about.announcement
        if stream in self.ended:
            return self.ended[stream].announcement
        return self.received[stream].announcement if stream in self.received else None

    def all_ids(self) -> list[bytes]:
        """The newest last."""
        ids = [*self.published, *self.ended, *self.received]
        return sorted(ids, key=lambda stream: getattr(self.announcement(stream), "began_ms", 0))

    def find(self, name: str) -> bytes | None:
        """The newest stream of this name, or the one whose ID it is."""
        for stream in reversed(self.all_ids()):
            announcement = self.announcement(stream)
            if announcement is not None and name in (announcement.name, stream.hex()):
                return stream
        return None

    def publish(self, about: About, receivers: Sequence[Eid]) -> Publication:
        """Begin a stream."""
        assert about.terms is not None
        publication = Publication(about, receivers, self._means, self._clock())
        self.published[publication.stream] = publication
        self.library.windows_ms[publication.stream] = about.terms.window_ms
        self._report("stream.begun", {"name": about.announcement.name, "stream": publication.stream.hex()})
        self.on_begun(publication.stream, about.announcement.name)
        return publication

    def finish(self, publication: Publication, reason: str) -> None:
        """End it, for good."""
        publication.unwanted()
        publication.finish(self._clock())
        self.on_ended(publication.stream)
        name = publication.about.announcement.name
        self._report("stream.ended", {"name": name, "stream": publication.stream.hex(), "reason": reason})

    def attach(self, stream: bytes, player: Player) -> None:
        """From now on the player gets what comes live of a stream."""
        source: Publication | Reception | None = self.published.get(stream) or self.received.get(stream)
        if source is not None:
            source.on_piece = player.take

    def detach(self, stream: bytes) -> None:
        """Nobody watches it any more."""
        source: Publication | Reception | None = self.published.get(stream) or self.received.get(stream)
        if source is not None:
            source.on_piece = _ignore

    async def remove(self, stream: bytes) -> None:
        """Forget a stream that this node does not publish at present, and its archive. Errors: OSError."""
        self.published.pop(stream, None)
        self.ended.pop(stream, None)
        self.received.pop(stream, None)
        if stream in self.library.archives:
            await self.library.remove(stream)

    def take(self, arrival: Arrival) -> None:
        """A bundle of a stream arrived."""
        if arrival.source.node == self._own_node:
            return  # by way of a group that this node is in
        try:
            payload = decode_payload_untrusted(arrival.data)
        except PayloadError as error:
            self._refuse(arrival, str(error))
            return
        now = self._clock()
        if isinstance(payload, FillRequest):
            self.answers.take(payload, arrival.source)
        elif isinstance(payload, Announcement):
            self._take_announcement(payload, arrival, now)
        else:
            self._take_content(payload, arrival, now)

    async def run(self) -> None:
        """Keep time for all of them, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.library.run)
            nursery.start_soon(self._settle)
            looked_at = 0.0
            while True:
                await trio.sleep(TICK_S if self.published else LOOK_S)
                now = self._clock()
                for publication in list(self.published.values()):
                    publication.tick(now)
                if now - looked_at >= LOOK_S:
                    looked_at = now
                    self._tick_slowly(now)

    async def close(self) -> None:
        """The node ends: so do its streams; those with an input of their own begin anew with it."""
        for publication in self.published.values():
            publication.finish(self._clock())
        await self.library.close()

    def _tick_slowly(self, now: float) -> None:
        self.answers.pump()
        for reception in self.received.values():
            reception.ask(now)
        for stream, publication in list(self.published.items()):
            if publication.is_over and publication.about.announcement.has_ended:
                self.ended[stream] = publication.about
                del self.published[stream]
        for stream in self.library.take_moved():
            first_span = min(self.library.archives[stream].manifests, default=0)
            owner: Publication | Reception | None = self.published.get(stream) or self.received.get(stream)
            if owner is not None:
                owner.window_moved(first_span)

    async def _settle(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            for reception in list(self.received.values()):
                was_complete = reception.is_complete
                await reception.settle()
                if reception.is_complete and not was_complete:
                    name = reception.announcement.name
                    self._report("stream.complete", {"name": name, "stream": reception.stream.hex()})

    def _take_announcement(self, announcement: Announcement, arrival: Arrival, now: float) -> None:
        if announcement.source != arrival.source.node.uri:
            self._refuse(arrival, f"stream {announcement.name!r} is announced by another node than its publisher")
            return
        known = self.received.get(announcement.stream)
        if known is not None:
            had_ended = known.announcement.has_ended
            known.take_announcement(announcement)
            if announcement.has_ended and not had_ended:
                self.on_ended(announcement.stream)
                self._report("stream.ended", {"name": announcement.name, "stream": announcement.stream.hex()})
        elif len(self.received) >= STREAMS_MAX:
            self._refuse(arrival, f"{STREAMS_MAX} streams are archived already: remove some")
        else:
            about = About(announcement, None)
            self._receive(about, now)
            self.library.save(about)
            fields = {"name": announcement.name, "source": announcement.source, "stream": announcement.stream.hex()}
            self._report("stream.found", fields)
            self.on_begun(announcement.stream, announcement.name)

    def _receive(self, about: About, now: float) -> None:
        reception = Reception(about, self._means, self._holders, int(Precedence.PRIORITY))
        self.received[reception.stream] = reception
        self.library.windows_ms[reception.stream] = self._window_ms()
        reception.recover(now)

    def _take_content(self, content: Piece | Manifest, arrival: Arrival, now: float) -> None:
        reception = self.received.get(content.stream)
        if reception is None:
            return  # not announced yet; its manifests will be asked for
        if arrival.is_live and arrival.source.node.uri != reception.announcement.source:
            self._refuse(arrival, f"{arrival.source} is not the publisher of stream {reception.announcement.name!r}")
        elif isinstance(content, Manifest):
            reception.take_manifest(content, now)
        else:
            reception.take_piece(content, arrival.data, now, is_live=arrival.is_live)

    def _refuse(self, arrival: Arrival, reason: str) -> None:
        self.refused_bundles += 1
        if self.refused_bundles.bit_count() == 1:
            # Powers of two: a flood of them is no flood of events.
            fields = {"source": arrival.source.uri, "reason": reason, "refused": self.refused_bundles}
            self._report("stream.refused", fields)


def _ignore(piece: Piece) -> None:
    """Nobody watches."""
