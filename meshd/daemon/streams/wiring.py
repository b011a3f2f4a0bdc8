# SPDX-License-Identifier: Apache-2.0
"""Puts the streams of a node together."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.daemon.receivers import ReadPiece
from meshd.daemon.route_desk import RouteDesk
from meshd.daemon.stream_desk import StreamDesk, holders_of
from meshd.daemon.streams.library import Library
from meshd.daemon.streams.post import Arrival, StreamPost
from meshd.daemon.streams.publication import Means
from meshd.daemon.streams.streams import Streams
from meshd.daemon.streams.watching import Watching
from meshd.link.settings import Posture
from meshd.node.events import Event
from meshd.settings.configuration import Configuration

FOLDER: Final = "streams"
OUTPUTS_FILE: Final = "stream.outputs"


def make_stream_desk(
    orders: Callable[[], tuple[Configuration, Mapping[str, Posture]]],
    routes: RouteDesk,
    dispatch: Callable[[Event], None],
    read_piece: ReadPiece,
    is_here: Callable[[BundleId], bool],
    report: Callable[[str, Mapping[str, Any]], None],
) -> StreamDesk:
    """Of a node; `orders` gives the configuration and the postures in force."""
    begin, _ = orders()
    own_node = begin.node.id

    def take(arrival: Arrival) -> None:
        desk.take(arrival)

    def may_send() -> bool:
        configuration, postures = orders()
        return any(postures.get(bearer.name, Posture.OPEN) is Posture.OPEN for bearer in configuration.bearers)

    def groups() -> dict[Eid, frozenset[Eid]]:
        return {group.endpoint: group.members for group in orders()[0].node.groups}

    post = StreamPost(dispatch, read_piece, is_here, own_node, take)
    folder = Path(begin.streams.folder or begin.node.state_dir / FOLDER)
    library = Library(folder, lambda: orders()[0].streams.quota_bytes, report)
    means = Means(library, post, may_send)
    holders = holders_of(own_node, groups, routes.seconds_to)
    streams = Streams(means, own_node, holders, report, lambda: orders()[0].streams.window_ms)
    watching = Watching(Path(begin.node.state_dir) / OUTPUTS_FILE, streams, report)
    desk = StreamDesk(means, streams, watching, own_node, groups, report)
    return desk
