# SPDX-License-Identifier: Apache-2.0
"""One stream that this node publishes: what is ingested is cut, archived, sent live, and described by manifests.

A manifest is sent when its pieces are on the disk, or were refused by it. In silence nothing is sent live; manifests
wait with the node until they may go, and others ask for what they missed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from meshd.bundle.eid import Eid, parse_eid
from meshd.daemon.streams.about import About
from meshd.daemon.streams.archive import Archive, piece_key
from meshd.daemon.streams.library import Library
from meshd.daemon.streams.post import Letter, StreamPost
from meshd.daemon.streams.rate_meter import RateMeter
from meshd.daemon.streams.segment import Kind, Record
from meshd.stream.announcement import encode_announcement
from meshd.stream.cutter import Cutter
from meshd.stream.deadline import live_lifetime_ms, supersession
from meshd.stream.manifest import Manifest, ManifestBuilder, encode_manifest
from meshd.stream.piece import Piece, Tier, encode_piece

FILL_LIFETIME_MS: Final = 24 * 3_600_000
"""Of manifests, announcements, requests and answers."""
WAITING_MAX: Final = {Tier.METADATA: 4096, Tier.KEY_FRAMES: 2048, Tier.REST: 1024}
"""Bundles that wait for the node to take them: with more, pieces of this tier are not sent live."""


@dataclass(frozen=True, slots=True)
class Means:
    """What streams work with."""

    library: Library
    post: StreamPost
    may_send: Callable[[], bool]
    """Some bearer may send at present."""


class Publication:
    """From its begin to its end."""

    def __init__(self, about: About, receivers: Sequence[Eid], means: Means, now: float) -> None:
        announcement = about.announcement
        self.about = about
        self.receivers = receivers
        self._means = means
        self.archive: Archive = means.library.open(announcement.stream)
        self.cutter = Cutter(announcement.stream, announcement.began_ms, now)
        self._builder = ManifestBuilder(announcement.stream)
        self.meter = RateMeter()
        self.tier_meters = [RateMeter() for _ in Tier]
        self.unsent_pieces = 0
        """Not sent live: in silence, or because the node did not keep up."""
        self.on_piece: Callable[[Piece], None] = lambda piece: None
        self.is_over = False
        means.library.save(about)
        self._announce()

    @property
    def stream(self) -> bytes:
        """Its ID."""
        return self.about.announcement.stream

    def feed(self, data: bytes, now: float) -> None:
        """This was ingested."""
        self.meter.add(len(data), now)
        self._take(self.cutter.feed(data, now), now)

    def tick(self, now: float) -> None:
        """Close the cut whose time is over."""
        timer = self.cutter.get_timer()
        if timer is not None and timer <= now:
            self._take(self.cutter.handle_timer(now), now)

    def finish(self, now: float) -> None:
        """The stream ends."""
        if self.is_over:
            return
        self._take(self.cutter.finish(now), now)
        self.is_over = True
        last = self._builder.close(is_last=True)
        records = [] if last is None else [manifest_record(last)]
        self._means.library.append(self.archive, records, lambda _: self._end(last))

    def unwanted(self) -> None:
        """It was stopped: no stream of this name is begun by a restart of the node."""
        assert self.about.terms is not None
        terms = msgspec.structs.replace(self.about.terms, is_wanted=False)
        self.about = About(self.about.announcement, terms)

    def window_moved(self, first_span: int) -> None:
        """The archive no longer has the spans before this one."""
        self._change(first_span=first_span)

    def _end(self, last: Manifest | None) -> None:
        if last is not None:
            self._send_manifest(last)
        self._change(has_ended=True)
        self._announce()

    def _take(self, pieces: Sequence[Piece], now: float) -> None:
        records: list[Record] = []
        letters: list[Letter] = []
        for piece in pieces:
            encoded = encode_piece(piece)
            self.tier_meters[piece.tier].add(len(encoded), now)
            key = piece_key(piece.sequence, piece.tier)
            records.append(Record(Kind.PIECE, key, encoded, piece.ingest_ms))
            letters += self._live(piece, encoded, len(letters))
            self.on_piece(piece)
            manifest = self._builder.add(piece)
            if manifest is not None:
                self._archive_span(records, manifest)
                records = []
        if records:
            self._means.library.append(self.archive, records)
        self._means.post.send_all(letters)

    def _archive_span(self, records: list[Record], manifest: Manifest) -> None:
        def archived(_: bool) -> None:
            self._send_manifest(manifest)
            self._announce()

        self._means.library.append(self.archive, [*records, manifest_record(manifest)], archived)

    def _live(self, piece: Piece, encoded: bytes, before: int) -> list[Letter]:
        """To every receiver; `before` are about to be sent already."""
        terms, latency_ms = self.about.terms, self.about.announcement.latency_ms
        assert terms is not None, "this node publishes it"
        is_crowded = self._means.post.waiting + before >= WAITING_MAX[piece.tier]
        if piece.tier > terms.tiers_max:
            return []
        if is_crowded or not self._means.may_send():
            self.unsent_pieces += 1
            return []
        live, lifetime_ms = supersession(piece, latency_ms), live_lifetime_ms(piece, latency_ms)
        return [Letter(receiver, encoded, terms.precedence, lifetime_ms, live) for receiver in self.receivers]

    def _send_manifest(self, manifest: Manifest) -> None:
        self._know(spans=manifest.span + 1)
        self._send_lasting(encode_manifest(manifest))

    def _announce(self) -> None:
        self._send_lasting(encode_announcement(self.about.announcement))

    def _send_lasting(self, data: bytes) -> None:
        assert self.about.terms is not None
        for receiver in self.receivers:
            self._means.post.send(Letter(receiver, data, self.about.terms.precedence, FILL_LIFETIME_MS))

    def _change(self, **fields: int | bool) -> None:
        self._know(**fields)
        self._means.library.save(self.about)

    def _know(self, **fields: int | bool) -> None:
        """What a restart finds out from the archive need not be kept."""
        announcement = msgspec.structs.replace(self.about.announcement, **fields)
        self.about = About(announcement, self.about.terms)


def manifest_record(manifest: Manifest) -> Record:
    """As it is archived."""
    return Record(Kind.MANIFEST, manifest.span, encode_manifest(manifest), 0)


def close_interrupted(about: About, archive: Archive) -> tuple[About, list[Record]]:
    """What an own stream lacks that was not ended when the node ended: its last manifest. Reads pieces; blocks."""
    announcement = about.announcement
    span = max(archive.manifests, default=-1) + 1
    before = archive.read_manifest(span - 1) if span else None
    records: list[Record] = []
    if span == 0 or before is not None:
        builder = ManifestBuilder(announcement.stream, span, *([before.running] if before else []))
        sequence = before.end if before else 0
        while cut := _whole_cut(archive, sequence):
            for piece in cut:
                manifest = builder.add(piece)
                if manifest is not None:
                    records.append(manifest_record(manifest))
            sequence += 1
        last = builder.close(is_last=True)
        records += [] if last is None else [manifest_record(last)]
    spans = span + len(records)
    ended = msgspec.structs.replace(announcement, spans=max(spans, announcement.first_span), has_ended=True)
    return About(ended, about.terms), records


def send_end(about: About, records: Sequence[Record], means: Means) -> None:
    """Tell the receivers of an own stream that a restart ended it."""
    assert about.terms is not None
    for receiver in map(parse_eid, about.announcement.receivers):
        for data in [*(record.content for record in records), encode_announcement(about.announcement)]:
            means.post.send(Letter(receiver, data, about.terms.precedence, FILL_LIFETIME_MS))


def _whole_cut(archive: Archive, sequence: int) -> list[Piece]:
    """All pieces of a cut; empty where one is missing."""
    found = [piece for tier in Tier if (piece := archive.read_piece(sequence, tier)) is not None]
    return found if found and len(found) == found[0].tiers.bit_count() else []
