# SPDX-License-Identifier: Apache-2.0
"""Answers to requests for what others miss: ordinary bundles of the lowest precedence, a few of them at a time.

What has not left this node yet is not sent again, and no more is handed to the node before it has: so an answer takes
the room that links have, survives in the archive rather than in queues, and repeated requests cost nothing.
"""

from collections import deque
from typing import Final

from meshd.bundle.eid import Eid
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleId
from meshd.daemon.streams.library import Library
from meshd.daemon.streams.post import Letter, StreamPost
from meshd.daemon.streams.publication import FILL_LIFETIME_MS
from meshd.stream.gap_fill import FillRequest, select_answer
from meshd.stream.manifest import encode_manifest

UNDER_WAY_MAX: Final = 64
"""Bundles of answers to one node that it has not got yet, as far as this node knows."""
REQUESTERS_MAX: Final = 64
WAITING_MAX: Final = 256
"""Bundles that wait for the node to take them: no more are handed to it before it has."""
ITEMS_MAX: Final = 4096
MANIFESTS_MAX: Final = 1024
"""For one request."""
_MANIFEST: Final = -1

Item = tuple[bytes, int, int]
"""Stream, and sequence and tier of a piece, or number of a span and -1."""


class _Requester:
    def __init__(self) -> None:
        self.waiting: deque[Item] = deque()
        self.known: set[Item] = set()
        """Waiting or under way."""
        self.under_way: dict[Item, BundleId | None] = {}
        """None: the node has not taken it yet."""


class Answers:
    """To everybody."""

    def __init__(self, library: Library, post: StreamPost) -> None:
        self._library = library
        self._post = post
        self._requesters: dict[Eid, _Requester] = {}
        self.sent_bundles = 0

    def take(self, request: FillRequest, requester: Eid) -> None:
        """Somebody asks."""
        archive = self._library.archives.get(request.stream)
        if archive is None:
            return
        row = self._requesters.get(requester)
        if row is None:
            if len(self._requesters) >= REQUESTERS_MAX:
                return
            row = self._requesters[requester] = _Requester()
        spans = [span for wanted in request.spans for span in range(wanted.span, wanted.span + wanted.count)]
        items = [(request.stream, span, _MANIFEST) for span in spans if span in archive.manifests][:MANIFESTS_MAX]
        items += [(request.stream, sequence, tier) for sequence, tier in select_answer(request, archive.index)]
        for item in items:
            if item not in row.known and len(row.waiting) < ITEMS_MAX:
                row.known.add(item)
                row.waiting.append(item)

    def pump(self) -> None:
        """Hand on what there is room for."""
        for requester, row in list(self._requesters.items()):
            for item, bundle in list(row.under_way.items()):
                if bundle is not None and not self._post.is_here(bundle):
                    del row.under_way[item]
                    row.known.discard(item)
            while row.waiting and len(row.under_way) < UNDER_WAY_MAX and self._post.waiting < WAITING_MAX:
                self._send(requester, row, row.waiting.popleft())
            if not row.known:
                del self._requesters[requester]

    def _send(self, requester: Eid, row: _Requester, item: Item) -> None:
        data = self._read(item)
        if data is None:
            row.known.discard(item)
            return

        def sent(bundle: BundleId | None) -> None:
            if bundle is None:
                row.under_way.pop(item, None)
                row.known.discard(item)
            else:
                row.under_way[item] = bundle

        row.under_way[item] = None
        self.sent_bundles += 1
        self._post.send(Letter(requester, data, Precedence.DEFERRED, FILL_LIFETIME_MS), sent)

    def _read(self, item: Item) -> bytes | None:
        stream, number, tier = item
        archive = self._library.archives.get(stream)
        if archive is None:
            return None
        if tier != _MANIFEST:
            return archive.read_encoded(number, tier)
        manifest = archive.read_manifest(number)
        return None if manifest is None else encode_manifest(manifest)
