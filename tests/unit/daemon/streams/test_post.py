# SPDX-License-Identifier: Apache-2.0
"""Bundles of streams in and out of a node."""

from typing import Any

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, PayloadRef
from meshd.bundle.supersession import Supersession
from meshd.daemon.streams.post import FIRST_NUMBER, Arrival, Letter, StreamPost
from meshd.node import events as ev

NODE = Eid("dtn://alpha/")
GROUP = Eid("dtn://convoy/~stream")
LIVE = Supersession(b"stream-10", 7, 2)


class Bench:
    """A post, and what it does."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.taken: list[Arrival] = []
        self.post = StreamPost(self.events.append, self._read, lambda bundle: False, NODE, self.taken.append)

    def _read(self, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        raise AssertionError("all is in memory")

    def attached(self) -> dict[str, int]:
        """Endpoints and the numbers of their receivers."""
        rows: dict[str, int] = {}
        for event in self.events:
            if isinstance(event, ev.ReceiverAttached):
                rows[event.endpoint.uri] = event.receiver
            elif isinstance(event, ev.ReceiverDetached):
                rows = {uri: number for uri, number in rows.items() if number != event.receiver}
        return rows


def test_it_receives_for_the_node_and_for_its_groups() -> None:
    bench = Bench()
    bench.post.attach([GROUP])
    assert set(bench.attached()) == {"dtn://alpha/stream", "dtn://alpha/stream-fill", GROUP.uri}
    assert min(bench.attached().values()) > FIRST_NUMBER
    before = bench.attached()
    bench.post.attach([])
    assert set(bench.attached()) == {"dtn://alpha/stream", "dtn://alpha/stream-fill"}
    bench.post.attach([GROUP])
    assert bench.attached()[GROUP.uri] != before[GROUP.uri]
    assert bench.attached()["dtn://alpha/stream"] == before["dtn://alpha/stream"]


def test_the_pieces_of_a_cut_are_handed_over_together() -> None:
    bench = Bench()
    letters = [Letter(Eid("dtn://bravo/stream"), b"%d" % tier, 3, 1250, LIVE) for tier in range(3)]
    bench.post.send_all(letters)
    (event,) = bench.events
    assert [each.data for each in event.messages] == [b"0", b"1", b"2"]
    assert bench.post.waiting == 3
    bench.post.send_all([])
    assert len(bench.events) == 1


def test_a_live_bundle_may_be_superseded_and_a_lasting_one_not() -> None:
    bench = Bench()
    told: list[BundleId | None] = []
    bench.post.send(Letter(Eid("dtn://bravo/stream"), b"live", 3, 1250, LIVE), told.append)
    bench.post.send(Letter(Eid("dtn://bravo/stream"), b"manifest", 3, 86_400_000))
    live, lasting = bench.events
    assert (live.supersession, live.source.uri, live.lifetime_ms) == (LIVE, "dtn://alpha/stream", 1250)
    assert (lasting.supersession, lasting.is_last, lasting.report_delivery) == (None, True, False)
    assert not live.is_followed
    assert not lasting.is_followed
    assert bench.post.waiting == 2
    bundle = BundleId(NODE, 1, 0)
    bench.post.accepted(live.submission, bundle)
    bench.post.accepted(live.submission, bundle)
    assert told == [bundle]
    assert bench.post.waiting == 1
    bench.post.refused(lasting.submission)
    assert bench.post.waiting == 0
