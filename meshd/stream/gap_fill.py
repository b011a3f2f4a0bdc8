# SPDX-License-Identifier: Apache-2.0
"""Gap fill: what an archive lacks by its manifests, asking for it, and answering (docs/STREAM.md).

Only what a manifest names is asked for, or a manifest that has to exist because a later one does. Which node is asked
and when it may be is decided elsewhere: as long as nobody may be asked, nothing here runs out. msgpack:

    [1, stream, [[sequence, count, tiers], ...], [[span, count], ...]]
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

import msgspec

from meshd.base.errors import RemoteProtocolError
from meshd.stream.archive_index import ArchiveIndex
from meshd.stream.manifest import Manifest
from meshd.stream.piece import SEQUENCE_MAX, VERSION, StreamId, Tier, TierMask

RANGES_MAX: Final = 64
"""Of one request, for pieces and for manifests each."""
RANGE_MAX: Final = 256
"""Cuts or spans in one range."""
ANSWER_PIECES_MAX: Final = 1024
"""Sent for one request; the rest is asked for again."""
REQUEST_MAX_BYTES: Final = 4096
RETRIES_DOUBLED_MAX: Final = 4
"""Of a span that nobody seems to have the next request waits twice as long, so many times."""
OPEN_SPANS_MAX: Final = 4096
"""Spans with gaps that are kept: more than two hours."""

_ALL_TIERS: Final = (1 << len(Tier)) - 1
_Number = Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=RANGE_MAX)]


class RequestError(RemoteProtocolError):
    """These bytes are no request for pieces of a stream."""


class PieceRange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """These tiers of so many cuts from this one on."""

    sequence: _Number
    count: _Count
    tiers: TierMask


class SpanRange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The manifests of so many spans from this one on."""

    span: _Number
    count: _Count


class FillRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one node asks another for."""

    version: Literal[1]
    stream: StreamId
    pieces: Annotated[list[PieceRange], msgspec.Meta(max_length=RANGES_MAX)]
    spans: Annotated[list[SpanRange], msgspec.Meta(max_length=RANGES_MAX)]


_DECODER: Final = msgspec.msgpack.Decoder(FillRequest)
_ENCODER: Final = msgspec.msgpack.Encoder()


def encode_request(request: FillRequest) -> bytes:
    """The payload of its bundle."""
    return _ENCODER.encode(request)


def decode_request_untrusted(data: bytes) -> FillRequest:
    """The request in the payload of a bundle. Errors: RequestError."""
    if len(data) > REQUEST_MAX_BYTES:
        raise RequestError(f"a request has {len(data)} bytes: at most {REQUEST_MAX_BYTES} are possible")
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"a request for pieces can't be read: {error}") from error


def select_answer(request: FillRequest, index: ArchiveIndex, room: int = ANSWER_PIECES_MAX) -> list[tuple[int, int]]:
    """Sequence and tier of the pieces that are here, metadata before key frames before the rest, oldest first."""
    found: set[tuple[int, int]] = set()
    for wanted in request.pieces:
        for sequence in range(wanted.sequence, wanted.sequence + wanted.count):
            here = index.tiers(sequence) & wanted.tiers
            found.update((tier, sequence) for tier in Tier if here >> tier & 1)
    return [(sequence, tier) for tier, sequence in sorted(found)[: min(room, ANSWER_PIECES_MAX)]]


def piece_ranges(manifest: Manifest, index: ArchiveIndex) -> list[PieceRange]:
    """What an archive lacks of a span. Of a cut that is missing altogether all tiers are named, so that ranges join."""
    ranges: list[PieceRange] = []
    for sequence, row in enumerate(manifest.cuts, manifest.sequence):
        here = index.tiers(sequence)
        lacks = row.tiers & ~here if here & row.tiers else _ALL_TIERS
        if not lacks:
            continue
        last = ranges[-1] if ranges else None
        if last and last.tiers == lacks and last.sequence + last.count == sequence and last.count < RANGE_MAX:
            ranges[-1] = PieceRange(last.sequence, last.count + 1, lacks)
        else:
            ranges.append(PieceRange(sequence, 1, lacks))
    return ranges


def span_ranges(spans: Iterable[int]) -> list[SpanRange]:
    """These spans, in order, as ranges."""
    ranges: list[SpanRange] = []
    for span in spans:
        last = ranges[-1] if ranges else None
        if last and last.span + last.count == span and last.count < RANGE_MAX:
            ranges[-1] = SpanRange(last.span, last.count + 1)
        else:
            ranges.append(SpanRange(span, 1))
    return ranges


class _OpenSpan(msgspec.Struct):
    manifest: Manifest
    known_at: float
    asked_at: float | None = None
    times_asked: int = 0


class GapFill:
    """Of a receiver: one stream's manifests against its archive."""

    def __init__(self, stream: bytes, index: ArchiveIndex, grace_s: float, retry_s: float) -> None:
        """Args: `grace_s`: so long after its manifest, what is missing may still come live; `retry_s`: ask again."""
        self._stream, self._index = stream, index
        self._grace_s, self._retry_s = grace_s, retry_s
        self._open: dict[int, _OpenSpan] = {}
        self._whole: set[int] = set()
        """Spans that are whole, from `_next` on."""
        self._next = 0
        """All spans before it are whole."""
        self._last: int | None = None
        self._end = 0
        """The span after the highest that is known of."""
        self._spans_asked_at: float | None = None

    @property
    def next_span(self) -> int:
        """The archive is whole up to this span."""
        return self._next

    @property
    def whole_count(self) -> int:
        """Spans that are settled, or were passed over."""
        return self._next + len(self._whole)

    @property
    def is_complete(self) -> bool:
        """The stream has ended and nothing of it is missing."""
        return self._last is not None and self._next > self._last

    @property
    def open_manifests(self) -> Sequence[Manifest]:
        """Those of spans that were not settled yet, oldest first."""
        return [self._open[span].manifest for span in sorted(self._open)]

    def take(self, manifest: Manifest, now: float) -> bool:
        """Note a manifest; False: it is known, of another stream, or there is no room until others are settled."""
        span = manifest.span
        if manifest.stream != self._stream or span < self._next or span in self._whole or span in self._open:
            return False
        if len(self._open) + len(self._whole) >= OPEN_SPANS_MAX or span >= self._next + OPEN_SPANS_MAX:
            return False
        self._open[span] = _OpenSpan(manifest, now)
        self._end = max(self._end, span + 1)
        if manifest.is_last:
            self._last = span
        return True

    def expect_spans(self, end: int) -> None:
        """The stream is said to have this many spans by now; manifests of the last ones may have been lost."""
        self._end = max(self._end, min(end, self._next + OPEN_SPANS_MAX))

    def end(self, spans: int) -> None:
        """The stream has ended with so many spans."""
        self._last = spans - 1
        self.expect_spans(spans)

    def pass_over(self, span: int) -> int:
        """Nobody has the spans before this one any more: how many are missing here for good."""
        lost = 0
        while self._next < span:
            if self._next not in self._whole:
                self._open.pop(self._next, None)
                lost += 1
            self._whole.discard(self._next)
            self._next += 1
        self._skip_whole()
        self._end = max(self._end, self._next)
        return lost

    def settled_before(self, spans: Iterable[int]) -> None:
        """Spans that were settled before a restart."""
        self._whole.update(span for span in spans if span >= self._next)
        self._end = max(self._end, max(self._whole, default=-1) + 1)
        self._skip_whole()

    def is_whole(self, span: int) -> bool:
        """Whether this span is settled, or passed over."""
        return span < self._next or span in self._whole

    def missing(self, manifest: Manifest) -> list[tuple[int, int]]:
        """Sequence and tier of what the archive lacks of a span."""
        return [(sequence, tier) for sequence, tier in manifest.pieces() if not self._index.has(sequence, tier)]

    def settle(self, span: int) -> None:
        """The archive has all pieces of this span, and its bytes have been compared with the digest."""
        del self._open[span]
        self._whole.add(span)
        self._skip_whole()

    def get_timer(self) -> float | None:
        """When there will be something to ask for; it may be in the past."""
        times = [self._due_at(row) for row in self._open.values()]
        if self._missing_spans():
            times.append(0.0 if self._spans_asked_at is None else self._spans_asked_at + self._retry_s)
        return min(times, default=None)

    def request(self, now: float) -> FillRequest | None:
        """What to ask for now, oldest first; it counts as asked. None: nothing, or enough is under way."""
        wanted: list[PieceRange] = []
        room = ANSWER_PIECES_MAX
        for span in sorted(self._open):
            row = self._open[span]
            is_due = self._due_at(row) <= now
            if room <= 0 or (not is_due and row.asked_at is None):
                continue
            room -= len(self.missing(row.manifest))
            if not is_due:
                continue
            ranges = piece_ranges(row.manifest, self._index)
            if wanted and len(wanted) + len(ranges) > RANGES_MAX:
                break
            wanted += ranges
            row.asked_at = now
            row.times_asked += 1
        spans: list[int] = []
        if self._spans_asked_at is None or self._spans_asked_at + self._retry_s <= now:
            spans = self._missing_spans()
            self._spans_asked_at = now if spans else None
        if not wanted and not spans:
            return None
        return FillRequest(VERSION, self._stream, wanted[:RANGES_MAX], span_ranges(spans)[:RANGES_MAX])

    def _due_at(self, row: _OpenSpan) -> float:
        if row.asked_at is None:
            return row.known_at + self._grace_s
        return row.asked_at + self._retry_s * (1 << min(row.times_asked - 1, RETRIES_DOUBLED_MAX))

    def _skip_whole(self) -> None:
        while self._next in self._whole:
            self._whole.remove(self._next)
            self._next += 1

    def _missing_spans(self) -> list[int]:
        if self._next + len(self._open) + len(self._whole) >= self._end:
            return []
        known = self._open.keys() | self._whole
        return [span for span in range(self._next, self._end) if span not in known][: RANGES_MAX * RANGE_MAX]
