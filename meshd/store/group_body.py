# SPDX-License-Identifier: Apache-2.0
"""A group's body: the changes of one WriteStore command, column by column, in msgpack.

    body   = array [texts, puts, deletes, releases, notes]
    texts  = the EIDs of this group, each once; columns refer to them by index, -1 is none
    puts, deletes, releases = nil, or an array of columns as the structs below name them
    column = array with an item for each row, or with one item that holds for all rows

Columns because they are built, encoded, read and turned into records by C loops: a start with a million bundles reads
a million rows, and the writer thread shares the interpreter with everything else. What is equal in all rows of a group
(nearly all but sequence number and times) costs a byte or two, and one object in memory after a start.

What the rows mean is left to batch and recovery.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate, repeat
from typing import Final, NamedTuple

import msgspec

from meshd.base.errors import StoreError
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.errors import EidError
from meshd.bundle.record import BundleId, BundleRecord, Part, PayloadRef
from meshd.bundle.supersession import Supersession
from meshd.store.columns import BAD_COLUMN, packed, shared, spread
from meshd.store.record_format import CRC_BYTES, UNREADABLE, GroupHead, has_right_crc

_BY_AGE, _HELD = 1, 2
_NO_TEXT: Final = -1


class Marks(NamedTuple):
    """Deletions or releases: what happened to bundles that were put in `put_segments` or before (-1: never here)."""

    ids: Sequence[BundleId]
    put_segments: Sequence[int]
    remember_until_ms: Sequence[int]
    """DTN time until which each ID is remembered, 0: not at all; releases have zeros."""


NO_MARKS: Final = Marks((), (), ())


class _PutColumns(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Bundles' metadata; `sequences` has an item for each row always, and so says how many rows there are."""

    sequences: Sequence[int]
    sources: Sequence[int]
    times_ms: Sequence[int]
    fragment_offsets: Sequence[int]
    fragment_bytes: Sequence[int]
    digests: Sequence[bytes]
    destinations: Sequence[int]
    precedences: Sequence[int]
    expiries_ms: Sequence[int]
    received_ms: Sequence[int]
    sizes_bytes: Sequence[int]
    flags: Sequence[int]
    states: Sequence[int]
    """Bit 0 for by_age, bit 1 for held."""
    previous_nodes: Sequence[int]
    parts: Sequence[Part | None]
    report_tos: Sequence[int]
    adu_bytes: Sequence[int]
    files: Sequence[int]
    """Number of the file of its own in which a large bundle lies, 0 for those that follow the body; they count for
    nothing in the group's bundle bytes."""
    file_offsets: Sequence[int]
    """Where it begins there."""
    supersessions: Sequence[Supersession | None] = (None,)
    """Missing where no bundle has any."""


class _MarkColumns(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Deletions or releases; `sequences` has an item for each row always."""

    sequences: Sequence[int]
    sources: Sequence[int]
    times_ms: Sequence[int]
    fragment_offsets: Sequence[int]
    fragment_bytes: Sequence[int]
    digests: Sequence[bytes]
    put_segments: Sequence[int]
    remember_until_ms: Sequence[int]


class _Body(msgspec.Struct, array_like=True, frozen=True, gc=False):
    texts: list[str]
    puts: _PutColumns | None
    deletes: _MarkColumns | None
    releases: _MarkColumns | None
    notes: dict[str, bytes]


class GroupBody:
    """The changes of one group, applied in the order of the properties. Each is decoded when it is asked for.

    Errors:
        StoreError: columns do not fit to each other, or name an impossible endpoint. The CRC is right by then: no disk
            does that, and it must not be taken for damage.
    """

    __slots__ = ("_body", "_head", "_segment")

    def __init__(self, body: _Body, head: GroupHead, segment: int) -> None:
        self._body = body
        self._head = head
        self._segment = segment

    @property
    def puts(self) -> list[BundleRecord]:
        """With `payload` saying where each bundle lies."""
        columns = self._body.puts
        return [] if columns is None else _records(columns, self._eids(), self._segment, self._head)

    @property
    def put_count(self) -> int:
        """How many records `puts` has."""
        return 0 if self._body.puts is None else len(self._body.puts.sequences)

    @property
    def has_held(self) -> bool:
        """True when some of `puts` are held."""
        return self._body.puts is not None and any(state & _HELD for state in self._body.puts.states)

    @property
    def has_large(self) -> bool:
        """True when some of `puts` lie in files of their own."""
        return self._body.puts is not None and any(self._body.puts.files)

    @property
    def deletes(self) -> Marks:
        """Bundles that are gone."""
        return self._marks(self._body.deletes)

    @property
    def releases(self) -> Marks:
        """Held bundles that are held no longer."""
        return self._marks(self._body.releases)

    @property
    def notes(self) -> dict[str, bytes]:
        """Notes by name."""
        return self._body.notes

    @property
    def places(self) -> list[PayloadRef]:
        """Where the bundles of `puts` lie."""
        columns = self._body.puts
        if columns is None:
            return []
        return _places(columns, spread(columns.sizes_bytes, len(columns.sequences)), self._segment, self._head)

    def _marks(self, columns: _MarkColumns | None) -> Marks:
        if columns is None:
            return NO_MARKS
        count = len(columns.sequences)
        return Marks(
            list(_ids(columns, self._eids(), count)),
            spread(columns.put_segments, count),
            shared(columns.remember_until_ms, count),
        )

    def _eids(self) -> list[Eid]:
        try:
            return [parse_eid(text) for text in self._body.texts]
        except EidError as error:
            raise StoreError(f"the store names an impossible endpoint in segment {self._segment}: {error}") from error


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode
_new_id = partial(tuple.__new__, BundleId)
"""What BundleId._make does, in a third of the time."""


def encode_body(puts: Sequence[BundleRecord], deletes: Marks, releases: Marks, notes: dict[str, bytes]) -> bytes:
    """A group's body; puts without `payload.inline` name a file of their own.

    Errors:
        OverflowError: a number has more than 64 bits.
    """
    texts: dict[str, int] = {}
    columns = (
        _put_columns(puts, texts) if puts else None,
        _mark_columns(deletes, texts) if deletes.ids else None,
        _mark_columns(releases, texts) if releases.ids else None,
    )
    return _encode((list(texts), *columns, notes))


def decode_body(data: bytes, head: GroupHead, segment: int) -> GroupBody | None:
    """The changes of a group, or None when its body is torn or damaged."""
    if len(data) != head.body_bytes or not has_right_crc(data, head.body_crc):
        return None
    try:
        return GroupBody(_decode(data), head, segment)
    except UNREADABLE:
        return None


def _put_columns(puts: Sequence[BundleRecord], texts: dict[str, int]) -> tuple[object, ...]:
    """The fields of _PutColumns; a tuple encodes the same."""
    if len(puts) == 1:
        return _single_put(puts[0], texts)
    sequences, ids = _id_columns([record.id for record in puts], texts)
    own_files = None in [record.payload.inline for record in puts]
    return (
        sequences,
        *ids,
        _text_column([record.destination for record in puts], texts),
        packed([record.precedence for record in puts]),
        packed([record.expiry_ms for record in puts]),
        packed([record.received_ms for record in puts]),
        packed([record.size_bytes for record in puts]),
        packed([record.flags for record in puts]),
        packed([(_BY_AGE if record.by_age else 0) | (_HELD if record.held else 0) for record in puts]),
        _text_column([record.previous_node for record in puts], texts),
        packed([record.part for record in puts]),
        _text_column([record.report_to for record in puts], texts),
        packed([record.total_adu_bytes for record in puts]),
        *(_file_columns(puts) if own_files else ((0,), (0,))),
        *_supersession_column(puts),
    )


def _single_put(record: BundleRecord, texts: dict[str, int]) -> tuple[object, ...]:
    """The same for one bundle, in a quarter of the time: somebody waits for it."""
    sequence, ids = _single_id(record.id, texts)
    payload = record.payload
    is_inline = payload.inline is not None
    return (
        sequence,
        *ids,
        (_text_index(record.destination, texts),),
        (record.precedence,),
        (record.expiry_ms,),
        (record.received_ms,),
        (record.size_bytes,),
        (record.flags,),
        ((_BY_AGE if record.by_age else 0) | (_HELD if record.held else 0),),
        (_text_index(record.previous_node, texts),),
        (record.part,),
        (_text_index(record.report_to, texts),),
        (record.total_adu_bytes,),
        (0 if is_inline else payload.segment,),
        (0 if is_inline else payload.offset,),
        *_supersession_column((record,)),
    )


def _supersession_column(puts: Sequence[BundleRecord]) -> tuple[Sequence[Supersession | None], ...]:
    column = packed([record.supersession for record in puts])
    return () if column[0] is None and len(column) == 1 else (column,)


def _single_id(bundle: BundleId, texts: dict[str, int]) -> tuple[tuple[int], tuple[object, ...]]:
    source, time_ms, sequence, offset, length, digest = bundle
    return (sequence,), ((_text_index(source, texts),), (time_ms,), (offset,), (length,), (digest,))


def _text_index(eid: Eid | None, texts: dict[str, int]) -> int:
    return _NO_TEXT if eid is None else texts.setdefault(eid.uri, len(texts))


def _file_columns(puts: Sequence[BundleRecord]) -> tuple[Sequence[int], Sequence[int]]:
    refs = [record.payload if record.payload.inline is None else None for record in puts]
    files = [0 if ref is None else ref.segment for ref in refs]
    return packed(files), packed([0 if ref is None else ref.offset for ref in refs])


def _mark_columns(marks: Marks, texts: dict[str, int]) -> tuple[object, ...]:
    """The fields of _MarkColumns."""
    if len(marks.ids) == 1:
        sequence, own = _single_id(marks.ids[0], texts)
        return (sequence, *own, marks.put_segments, marks.remember_until_ms)
    sequences, ids = _id_columns(marks.ids, texts)
    return (sequences, *ids, packed(marks.put_segments), packed(marks.remember_until_ms))


def _id_columns(ids: Sequence[BundleId], texts: dict[str, int]) -> tuple[Sequence[int], tuple[object, ...]]:
    sources, times_ms, sequences, offsets, lengths, digests = zip(*ids, strict=True)
    columns = (_text_column(sources, texts), *map(packed, (times_ms, offsets, lengths, digests)))
    return sequences, columns


def _text_column(eids: Sequence[Eid | None], texts: dict[str, int]) -> Sequence[int]:
    return [_NO_TEXT if eid is None else texts.setdefault(eid.uri, len(texts)) for eid in packed(eids)]


def _records(columns: _PutColumns, eids: Sequence[Eid], segment: int, head: GroupHead) -> list[BundleRecord]:
    """The records, in the order of the rows."""
    count = len(columns.sequences)
    sizes = shared(columns.sizes_bytes, count)
    refs = _places(columns, sizes, segment, head)
    states = columns.states
    is_plain = not any(states)
    by_age = (False,) if is_plain else [bool(state & _BY_AGE) for state in states]
    held = (False,) if is_plain else [bool(state & _HELD) for state in states]
    return list(
        map(
            BundleRecord,
            _ids(columns, eids, count),
            _eid_column(columns.destinations, eids, count),
            spread(columns.precedences, count),
            shared(columns.expiries_ms, count),
            shared(columns.received_ms, count),
            sizes,
            spread(columns.flags, count),
            spread(by_age, count),
            _optional_eids(columns.previous_nodes, eids, count),
            spread(columns.parts, count),
            spread(held, count),
            refs,
            _optional_eids(columns.report_tos, eids, count),
            spread(columns.adu_bytes, count),
            spread(columns.supersessions, count),
        )
    )


def _places(columns: _PutColumns, sizes: Sequence[int], segment: int, head: GroupHead) -> list[PayloadRef]:
    """Where the bundles lie: one behind the other, each followed by its CRC, or in files of their own."""
    count = len(columns.sequences)
    if count and min(columns.sizes_bytes) < 0:
        raise StoreError(BAD_COLUMN)
    if not any(columns.files):
        *offsets, end = accumulate([size + CRC_BYTES for size in sizes], initial=head.bundles_offset)
        if end != head.end:
            raise StoreError(BAD_COLUMN)
        return list(map(PayloadRef, repeat(segment), offsets, sizes))
    refs = []
    offset = head.bundles_offset
    rows = zip(sizes, spread(columns.files, count), spread(columns.file_offsets, count), strict=True)
    for size_bytes, file, file_offset in rows:
        refs.append(PayloadRef(file, file_offset, size_bytes) if file else PayloadRef(segment, offset, size_bytes))
        offset += 0 if file else size_bytes + CRC_BYTES
    if offset != head.end:
        raise StoreError(BAD_COLUMN)
    return refs


def _ids(columns: _PutColumns | _MarkColumns, eids: Sequence[Eid], count: int) -> Iterable[BundleId]:
    return map(
        _new_id,
        zip(
            _eid_column(columns.sources, eids, count),
            shared(columns.times_ms, count),
            columns.sequences,
            spread(columns.fragment_offsets, count),
            spread(columns.fragment_bytes, count),
            spread(columns.digests, count),
            strict=True,
        ),
    )


def _eid_column(column: Sequence[int], eids: Sequence[Eid], count: int) -> Sequence[Eid]:
    if not column or min(column) < 0:
        raise StoreError(BAD_COLUMN)
    try:
        return spread([eids[index] for index in column], count)
    except IndexError:
        raise StoreError(BAD_COLUMN) from None


def _optional_eids(column: Sequence[int], eids: Sequence[Eid], count: int) -> Sequence[Eid | None]:
    if list(column) == [_NO_TEXT]:
        return [None] * count
    if not column or min(column) < _NO_TEXT:
        raise StoreError(BAD_COLUMN)
    known = (*eids, None)
    try:
        return spread([known[index] for index in column], count)
    except IndexError:
        raise StoreError(BAD_COLUMN) from None
