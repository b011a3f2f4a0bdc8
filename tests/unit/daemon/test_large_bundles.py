# SPDX-License-Identifier: Apache-2.0
"""Bundles too large for memory: cut some fragments at a time, joined in the store piece by piece."""

from collections.abc import Sequence

import pytest

from meshd.base.errors import StoreError
from meshd.bundle.codec import build
from meshd.bundle.eid import parse_eid
from meshd.bundle.errors import BundleError
from meshd.bundle.fragment import fragment, reassemble
from meshd.bundle.record import BundleId, PayloadRef
from meshd.bundle.scan import scan_untrusted
from meshd.daemon import large_bundles
from meshd.daemon.large_bundles import AHEAD_PIECES, LargeJoiner, cut_large
from meshd.node import commands as cmd
from meshd.node import events as ev

SOURCE = parse_eid("dtn://dpop2/inbox")
PAYLOAD = bytes(range(251)) * 100
WHOLE = build(SOURCE, parse_eid("dtn://home/inbox"), SOURCE.node, 0, 1_000_000, 1, 3_600_000, PAYLOAD, age_ms=None)
BUNDLE = scan_untrusted(WHOLE).id


class Store:
    """Bundles by their number; writes when the test says so."""

    def __init__(self, *bundles: bytes) -> None:
        self.bundles = bundles
        self.commands: list[cmd.StreamCommand] = []
        self.largest_bytes = 0
        self.damaged = -1

    def ref(self, number: int) -> PayloadRef:
        return PayloadRef(number, 0, len(self.bundles[number]))

    def read_piece(self, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        """StreamPort."""
        if ref.segment == self.damaged:
            raise StoreError("damaged")
        self.largest_bytes = max(self.largest_bytes, size_bytes)
        return self.bundles[ref.segment][offset : offset + size_bytes]

    def stream(self, command: cmd.StreamCommand) -> None:
        """StreamPort."""
        self.commands.append(command)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is a thousandth of its size."""
    monkeypatch.setattr(large_bundles, "CUT_BYTES", 4096)
    monkeypatch.setattr(large_bundles, "PIECE_SIZE_BYTES", 1024)
    monkeypatch.setattr(large_bundles, "FRONT_SIZE_MAX_BYTES", 256)


def cut_all(store: Store, size_max_bytes: int, first_max_bytes: int) -> list[Sequence[bytes]]:
    """All lots of fragments."""
    lots: list[Sequence[bytes]] = []
    position, first = 0, first_max_bytes
    while not lots or position:
        cut = cut_large(store, cmd.FragmentBundle(BUNDLE, store.ref(0), size_max_bytes, first, position))
        lots.append(cut.fragments)
        position, first = cut.next_position, size_max_bytes
    return lots


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("size_max_bytes", "first_max_bytes"), [(1000, 1000), (10**6, 500), (10**6, 10**6), (4096, 300)]
)
def test_lots_are_small_and_make_up_the_bundle(size_max_bytes: int, first_max_bytes: int) -> None:
    store = Store(WHOLE)
    lots = cut_all(store, size_max_bytes, first_max_bytes)
    pieces = [piece for lot in lots for piece in lot]
    assert reassemble(pieces) == WHOLE
    assert len(pieces[0]) <= first_max_bytes
    assert all(len(piece) <= size_max_bytes for piece in pieces)
    assert len(lots) >= len(WHOLE) // 4096
    assert all(sum(map(len, lot)) <= 4096 for lot in lots)
    assert store.largest_bytes <= 4096


@pytest.mark.usefixtures("small")
def test_lots_are_what_would_be_cut_at_once() -> None:
    pieces = [piece for lot in cut_all(Store(WHOLE), 1000, 600) for piece in lot]
    assert pieces == fragment(WHOLE, scan_untrusted(WHOLE), 1000, 600)


def test_too_many_fragments_are_refused_before_the_first() -> None:
    with pytest.raises(BundleError, match="can't be cut into 4096"):
        cut_large(Store(WHOLE), cmd.FragmentBundle(BUNDLE, Store(WHOLE).ref(0), 120, 120))


class Joining:
    """Fragments in a store, being joined."""

    def __init__(self, *pieces: bytes) -> None:
        self.store = Store(*pieces)
        self.events: list[ev.Event] = []
        self.joiner = LargeJoiner(self.store, self.events.append)
        self.ids = [scan_untrusted(piece).id for piece in pieces]

    def join(self, bundle: BundleId = BUNDLE) -> None:
        self.joiner.join(bundle, self.ids, [self.store.ref(number) for number in range(len(self.ids))])

    def write(self) -> bytes:
        """The store writes all that it is given, one after the other."""
        written, most = b"", 0
        while True:
            pieces = [each for each in self.store.commands if isinstance(each, cmd.WritePiece)]
            if not pieces:
                assert most <= AHEAD_PIECES
                return written
            most = max(most, len(pieces))
            self.store.commands = [each for each in self.store.commands if each is not pieces[0]]
            written += pieces[0].data
            self.joiner.written(pieces[0].stream, None)


@pytest.mark.usefixtures("small")
def test_joined_it_is_the_bundle_byte_by_byte() -> None:
    joining = Joining(*fragment(WHOLE, scan_untrusted(WHOLE), 3000))
    joining.join()
    assert joining.write() == WHOLE
    (event,) = joining.events
    assert isinstance(event, ev.BundleJoined)
    assert (event.id, event.stream, event.size_bytes) == (BUNDLE, -1, len(WHOLE))
    assert joining.store.largest_bytes <= 1024


@pytest.mark.usefixtures("small")
def test_fragments_may_overlap() -> None:
    thirds, halves = (fragment(WHOLE, scan_untrusted(WHOLE), size) for size in (9000, 14000))
    joining = Joining(thirds[0], halves[0], *thirds[1:])
    joining.join()
    assert joining.write() == WHOLE


@pytest.mark.usefixtures("small")
def test_one_is_joined_after_the_other() -> None:
    joining = Joining(*fragment(WHOLE, scan_untrusted(WHOLE), 3000))
    joining.join()
    joining.join()
    assert sum(isinstance(each, cmd.BeginStream) for each in joining.store.commands) == 1
    assert joining.write() == WHOLE * 2
    assert [event.stream for event in joining.events if isinstance(event, ev.BundleJoined)] == [-1, -2]


@pytest.mark.usefixtures("small")
def test_a_damaged_fragment_is_named_and_nothing_is_kept() -> None:
    joining = Joining(*fragment(WHOLE, scan_untrusted(WHOLE), 9000))
    joining.store.damaged = 1
    joining.join()
    joining.write()
    assert joining.events == [
        ev.DataUnreadable([joining.ids[1]], "damaged"),
        ev.JoiningFailed(BUNDLE, "damaged"),
    ]
    assert joining.store.commands[-1] == cmd.AbortStream(-1)


@pytest.mark.usefixtures("small")
def test_a_store_that_is_full_ends_it() -> None:
    joining = Joining(*fragment(WHOLE, scan_untrusted(WHOLE), 9000))
    joining.join()
    joining.joiner.written(-1, StoreError("full"))
    assert joining.events == [ev.JoiningFailed(BUNDLE, "full")]
    joining.joiner.written(-1, None)
    assert len(joining.events) == 1
