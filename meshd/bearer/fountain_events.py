# SPDX-License-Identifier: Apache-2.0
"""What the fountain machine of a bearer says, turned into events of the node.

A node that can never answer has what all passes were sent of: nothing more can be known, and the node is told so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast

import trio

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bearer.fountain_gauge import FountainGauge
from meshd.bearer.fountain_link import SECURITY, FountainLink
from meshd.bearer.link import Figure
from meshd.bearer.problems import Report
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.fountain import events as cl
from meshd.cl.fountain.peer import Peer
from meshd.link.settings import ConvergenceLayer
from meshd.node.events import (
    BundlesReceived,
    Event,
    LinkDown,
    LinkMeasured,
    LinkUp,
    LinkWritable,
    NeighbourSilent,
    NeighbourSpeaks,
    ReceivedRow,
    RefusalReason,
    TransfersAcknowledged,
    TransfersFailed,
)
from meshd.security.node_index import node_index

_LATE: Final = cl.FailureReason.LATE
_FOR_GOOD: Final = frozenset((cl.FailureReason.REFUSED,))

PeerEvent = (
    cl.PeerUp | cl.PeerDown | cl.TransfersReceived | cl.TransfersAcknowledged | cl.TransfersSent | cl.TransfersFailed
)


class FountainVoice:
    """Of one machine. Everything here dispatches: called by the bearer's own tasks only."""

    def __init__(self, links: Mapping[Eid, FountainLink], dispatch: Callable[[Event], None], report: Report) -> None:
        self._links = links
        self._by_index: dict[int, Eid] = {}
        self._dispatch = dispatch
        self._report = report
        self._down: list[tuple[FountainLink, str]] = []
        self._gauges: dict[FountainLink, FountainGauge] = {}

    def take(self, event: PeerEvent) -> None:
        """Tell the node; that a link is down is told by `finish`, after what failed by that."""
        link = self._links[event.node]
        match event:
            case cl.PeerUp(node, is_blind, silent_s):
                was_blind = link.is_blind
                self._take_up(link, is_blind=is_blind)
                if silent_s is not None:
                    self._dispatch(NeighbourSilent(node, silent_s))
                elif was_blind and not is_blind:
                    self._dispatch(NeighbourSpeaks(node))
            case cl.PeerDown(_, reason):
                self._down.append((link, reason.value))
            case cl.TransfersReceived(_, rows):
                link.received_bundles += len(rows)
                link.received_bytes += sum([len(row.data) for row in rows])
                received = [ReceivedRow((link, row.transfer), row.data, self._served(row.nodes)) for row in rows]
                self._dispatch(BundlesReceived(link.id, received))
            case cl.TransfersAcknowledged() | cl.TransfersSent():
                ids = cast("Sequence[BundleId]", event.bundles)
                link.note_acknowledged(ids)
                self._dispatch(TransfersAcknowledged(link.id, ids))
            case cl.TransfersFailed(_, bundles, reason):
                self._fail(link, cast("Sequence[BundleId]", bundles), reason)

    def links_changed(self) -> None:
        """A neighbour was found, or is gone."""
        self._by_index.clear()

    def _served(self, nodes: Iterable[int]) -> tuple[Eid, ...]:
        """Those of our neighbours that are among these."""
        if not self._by_index:
            self._by_index = {node_index(node, link.id.bearer): node for node, link in self._links.items()}
        return tuple([self._by_index[node] for node in nodes if node in self._by_index])

    def finish(self) -> None:
        """Nothing more has come up for now."""
        down, self._down = self._down, []
        for link, reason in down:
            self.tell_down(link, reason)

    def tell_down(self, link: FountainLink, reason: str) -> None:
        """Nothing can be sent to it any more; what was under way goes back to the node."""
        if not link.go_down(reason, trio.current_time()):
            return
        self._dispatch(LinkWritable(link.id, 0))  # what fails now must not come back on this link
        if link.sent:
            ids = list(link.sent)
            link.sent.clear()
            self._dispatch(TransfersFailed(link.id, ids, RefusalReason(False, True, True, reason)))
        self._dispatch(LinkDown(link.id, reason))
        fields: dict[str, Figure] = {"bearer": link.id.bearer, "link": str(link.id), "reason": reason}
        self._report("session.ended", fields)

    def announce(self, link: FountainLink, credit_bytes: int, window_bytes: int) -> None:
        """Tell the node how much the link takes, when that has grown."""
        if link.grant(credit_bytes, window_bytes):
            self._dispatch(LinkWritable(link.id, credit_bytes))

    def measure(self, link: FountainLink, peer: Peer, used_share: float) -> None:
        """Tell the node how well it carries, now and then; `used_share` is that of its credit."""
        gauge = self._gauges.get(link)
        if gauge is None:
            gauge = self._gauges[link] = FountainGauge()
        now = trio.current_time()
        sample = gauge.take(link, peer, used_share, now) if gauge.is_due(now) else None
        if sample is not None:
            self._dispatch(LinkMeasured(link.id, sample))

    def _take_up(self, link: FountainLink, *, is_blind: bool) -> None:
        was_blind = link.is_blind
        is_new = link.come_up(is_blind=is_blind, now=trio.current_time())
        if is_new or was_blind is not is_blind:
            fields: dict[str, Figure] = {"link": str(link.id), "cl": ConvergenceLayer.FOUNTAIN.value, "tls": SECURITY}
            self._report("session.established", fields | {"is_blind": is_blind, "address": link.settings.address})
        if is_new:
            self._dispatch(LinkUp(link.id, INLINE_SIZE_MAX_BYTES))

    def _fail(self, link: FountainLink, bundles: Sequence[BundleId], reason: cl.FailureReason) -> None:
        # Those that the death of the link has brought back already are known to the machine a little longer.
        ids = [bundle for bundle in bundles if link.sent.pop(bundle, None) is not None]
        if ids:
            is_over = reason is cl.FailureReason.LINK_DOWN
            failure = RefusalReason(False, reason not in _FOR_GOOD, is_over, reason.value, reason is _LATE)
            self._dispatch(TransfersFailed(link.id, ids, failure))
