# SPDX-License-Identifier: Apache-2.0
"""One stream that another node publishes: what arrives is archived, what is missing by the manifests is asked for.

A span of which all pieces are here is read back and compared with its digest; a piece that is not what was published
is forgotten and asked for. The nearest node that may have the stream is asked first, another one when nothing came of
it; nobody in silence, and nobody as long as the last request has not left this node.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import trio

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.daemon.streams.about import About
from meshd.daemon.streams.archive import piece_key
from meshd.daemon.streams.post import Letter
from meshd.daemon.streams.publication import FILL_LIFETIME_MS, Means, manifest_record
from meshd.daemon.streams.rate_meter import RateMeter
from meshd.daemon.streams.segment import Kind, Record
from meshd.stream.announcement import Announcement, later
from meshd.stream.endpoints import fill_endpoint
from meshd.stream.gap_fill import GapFill, encode_request
from meshd.stream.manifest import Manifest
from meshd.stream.piece import Piece, Tier

GRACE_MIN_S: Final = 1.0
"""After a manifest, beyond the latency: what is under way may still come."""
RETRY_S: Final = 10.0

Holders = Callable[[Announcement], Sequence[Eid]]
"""Nodes that may have a stream and can be reached, the nearest first."""


class Reception:
    """From its first announcement on."""

    def __init__(self, about: About, means: Means, holders: Holders, precedence: int) -> None:
        """Args: `precedence`: of requests."""
        announcement = about.announcement
        self.announcement = announcement
        self._means = means
        self._holders = holders
        self._precedence = precedence
        self.archive = means.library.open(announcement.stream)
        grace_s = GRACE_MIN_S + announcement.latency_ms / 1000
        self.fill = GapFill(announcement.stream, self.archive.index, grace_s, RETRY_S)
        self.tier_meters = [RateMeter() for _ in Tier]
        self.filled_pieces = 0
        self.wrong_pieces = 0
        self.lost_spans = 0
        """Nobody has them any more."""
        self.on_piece: Callable[[Piece], None] = lambda piece: None
        self._writing: set[int] = set()
        """Keys of pieces that are on their way to the disk."""
        self._open_spans: list[tuple[int, int]] = []
        """First sequence and number of each span that is not settled, in order."""
        self._touched: set[int] = set()
        """Spans of which something came."""
        self._asking: BundleId | None = None
        self._tries = 0
        self._filled_before = 0

    @property
    def stream(self) -> bytes:
        """Its ID."""
        return self.announcement.stream

    @property
    def is_complete(self) -> bool:
        """It has ended and is here, bit for bit."""
        return self.announcement.has_ended and self.fill.is_complete

    @property
    def missing_pieces(self) -> int:
        """By the manifests that are here; of the first spans that are not whole, if there are many."""
        return sum(len(self.fill.missing(manifest)) for manifest in self.fill.open_manifests[:64])

    @property
    def whole_spans(self) -> int:
        """Compared with their digests, one after the other from the begin on and beyond."""
        return self.fill.whole_count

    def recover(self, now: float) -> None:
        """Go on where the archive ended."""
        self.fill.settled_before(self.archive.settled)
        self.lost_spans += self.fill.pass_over(self.announcement.first_span)
        self._follow_announcement()
        for span in sorted(self.archive.manifests):
            manifest = None if self.fill.is_whole(span) else self.archive.read_manifest(span)
            if manifest is not None:
                self._take_manifest(manifest, now)

    def take_announcement(self, announcement: Announcement) -> None:
        """The publisher says how far it is."""
        before = self.announcement
        self.announcement = later(before, announcement)
        if (before.has_ended, before.first_span) != (self.announcement.has_ended, self.announcement.first_span):
            self._means.library.save(About(self.announcement, None))
        self._follow_announcement()
        self.lost_spans += self.fill.pass_over(self.announcement.first_span)
        self._open_spans = [row for row in self._open_spans if not self.fill.is_whole(row[1])]

    def window_moved(self, first_span: int) -> None:
        """The archive no longer has the spans before this one, and wants them no more."""
        first_span = min(first_span, self.announcement.spans)
        self.take_announcement(msgspec.structs.replace(self.announcement, first_span=first_span))

    def take_piece(self, piece: Piece, encoded: bytes, now: float, *, is_live: bool) -> None:
        """A piece came."""
        self.tier_meters[piece.tier].add(len(encoded), now)
        if is_live:
            self.on_piece(piece)
        key = piece_key(piece.sequence, piece.tier)
        if key in self._writing or self.archive.has(piece.sequence, piece.tier):
            return
        if not is_live:
            self.filled_pieces += 1
        self._writing.add(key)

        def archived(is_written: bool) -> None:
            self._writing.discard(key)
            if is_written:
                self._touch(piece.sequence)

        self._means.library.append(self.archive, [Record(Kind.PIECE, key, encoded, piece.ingest_ms)], archived)

    def take_manifest(self, manifest: Manifest, now: float) -> None:
        """A manifest came from the publisher, or from a node that was asked."""
        if manifest.span not in self.archive.manifests and self._take_manifest(manifest, now):
            self._means.library.append(self.archive, [manifest_record(manifest)])

    async def settle(self) -> None:
        """Compare the spans that have become whole."""
        touched, self._touched = self._touched, set()
        for manifest in [each for each in self.fill.open_manifests if each.span in touched] if touched else []:
            if not self.fill.is_whole(manifest.span) and not self.fill.missing(manifest):
                await self._compare(manifest)

    async def _compare(self, manifest: Manifest) -> None:
        _, wrong = await trio.to_thread.run_sync(self.archive.read_span, manifest)
        for sequence, tier in wrong:
            self.archive.forget(sequence, tier)
        self.wrong_pieces += len(wrong)
        if not wrong and not self.fill.is_whole(manifest.span):
            self._settled(manifest)

    def ask(self, now: float) -> None:
        """Ask for what is missing, if somebody may be asked."""
        if self._means.library.problem is not None or not self._means.may_send():
            return
        if self._asking is not None and self._means.post.is_here(self._asking):
            return
        timer = self.fill.get_timer()
        if timer is None or timer > now:
            return
        holders = self._holders(self.announcement)
        if not holders:
            return
        request = self.fill.request(now)
        if request is None:
            return
        if self.filled_pieces == self._filled_before:
            self._tries += 1
        else:
            self._tries = 1
        self._filled_before = self.filled_pieces
        holder = holders[(self._tries - 1) % len(holders)]
        letter = Letter(fill_endpoint(holder), encode_request(request), self._precedence, FILL_LIFETIME_MS)
        self._means.post.send(letter, self._asked)

    def _asked(self, bundle: BundleId | None) -> None:
        self._asking = bundle

    def _follow_announcement(self) -> None:
        if self.announcement.has_ended:
            self.fill.end(self.announcement.spans)
        else:
            self.fill.expect_spans(self.announcement.spans)

    def _take_manifest(self, manifest: Manifest, now: float) -> bool:
        if not self.fill.take(manifest, now):
            return False
        insort(self._open_spans, (manifest.sequence, manifest.span))
        self._touched.add(manifest.span)
        return True

    def _touch(self, sequence: int) -> None:
        place = bisect_right(self._open_spans, (sequence, 1 << 62)) - 1
        if place >= 0:
            self._touched.add(self._open_spans[place][1])

    def _settled(self, manifest: Manifest) -> None:
        """It is whole: that counts when it is on the disk."""
        records = [Record(Kind.SETTLED, manifest.span, b"", 0)]
        if manifest.span not in self.archive.manifests:
            records.insert(0, manifest_record(manifest))

        def archived(is_written: bool) -> None:
            if self.fill.is_whole(manifest.span):
                return
            if is_written:
                self.fill.settle(manifest.span)
                self._open_spans.remove((manifest.sequence, manifest.span))
            else:
                self._touched.add(manifest.span)

        self._means.library.append(self.archive, records, archived)
