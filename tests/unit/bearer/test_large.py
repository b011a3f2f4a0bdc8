# SPDX-License-Identifier: Apache-2.0
"""Bundles too large for memory between two TCP bearers on the loopback device. Needs root for SO_MARK."""

import pytest
import trio

from meshd.base.errors import StoreError
from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bearer.connection import accept, refuse, release
from meshd.bearer.tcp import TcpBearer
from meshd.bundle.stored_chunk import StoredChunk
from meshd.node.events import (
    DataUnreadable,
    Event,
    LinkDown,
    LinkUp,
    TransferBegun,
    TransferEnded,
    TransferPiece,
    TransfersAcknowledged,
    TransfersFailed,
)
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO, Recorder, make_bearer, make_id, make_link, make_settings

pytestmark = pytest.mark.root

SIZE_BYTES = INLINE_SIZE_MAX_BYTES + 4_000_000


class Receiver(Recorder):
    """Writes every piece at once; does with the whole what the test says."""

    def __init__(self, *, refuses: bool = False) -> None:
        super().__init__()
        self.size_bytes = 0
        self.refuses = refuses

    def dispatch(self, event: Event) -> None:
        super().dispatch(event)
        if isinstance(event, TransferPiece):
            self.size_bytes += len(event.data)
            if self.refuses:
                refuse(event.transfer, retriable=False, completed=False)
            release(event.transfer, len(event.data))
        elif isinstance(event, TransferEnded) and event.is_whole:
            accept([event.transfer])


async def linked(nursery: trio.Nursery, alpha: Recorder, bravo: Recorder) -> TcpBearer:
    """Alpha's bearer with a link to bravo."""
    passive = make_bearer(bravo, BRAVO, {ALPHA: None})
    await nursery.start(passive.run)
    active = make_bearer(alpha, ALPHA, {BRAVO: passive.bound_address}, make_settings(None))
    await nursery.start(active.run)
    (up,) = await alpha.wait_for(LinkUp)
    assert up.transfer_mtu_bytes > 4 << 30
    return active


async def test_one_is_passed_on_in_pieces_and_acknowledged(nursery: trio.Nursery) -> None:
    alpha, bravo = Recorder(), Receiver()
    active = await linked(nursery, alpha, bravo)
    bulk = StoredChunk(lambda offset, size: bytes(size), 0, SIZE_BYTES)
    active.send_bundles(make_link(BRAVO), [(make_id(1), [b"front", bulk])])
    (acknowledged,) = await alpha.wait_for(TransfersAcknowledged)
    assert acknowledged.ids == [make_id(1)]
    assert [event.size_bytes for event in bravo.all(TransferBegun)] == [SIZE_BYTES + 5]
    assert bravo.size_bytes == SIZE_BYTES + 5
    nursery.cancel_scope.cancel()


async def test_one_is_refused_in_the_middle(nursery: trio.Nursery) -> None:
    alpha, bravo = Recorder(), Receiver(refuses=True)
    active = await linked(nursery, alpha, bravo)
    bulk = StoredChunk(lambda offset, size: bytes(size), 0, 100 * SIZE_BYTES)
    active.send_bundles(make_link(BRAVO), [(make_id(1), [bulk])])
    (failed,) = await alpha.wait_for(TransfersFailed)
    assert (failed.ids, failed.reason.retriable) == ([make_id(1)], False)
    assert bravo.size_bytes < SIZE_BYTES
    nursery.cancel_scope.cancel()


async def test_an_unreadable_one_ends_the_session_and_is_named(nursery: trio.Nursery) -> None:
    alpha, bravo = Recorder(), Receiver()
    active = await linked(nursery, alpha, bravo)

    def read(offset: int, size: int) -> bytes:
        if offset > 5_000_000:
            raise StoreError("a block is damaged")
        return bytes(size)

    active.send_bundles(make_link(BRAVO), [(make_id(1), [StoredChunk(read, 0, SIZE_BYTES)])])
    (unreadable,) = await alpha.wait_for(DataUnreadable)
    assert (unreadable.ids, unreadable.reason) == ([make_id(1)], "a block is damaged")
    await alpha.wait_for(LinkDown)
    (ended,) = await bravo.wait_for(TransferEnded)
    assert not ended.is_whole
    nursery.cancel_scope.cancel()
