# SPDX-License-Identifier: Apache-2.0
"""The figures of a stream, for `streams.list`."""

from typing import Any

from meshd.daemon.streams.player import Player
from meshd.daemon.streams.publication import Publication
from meshd.daemon.streams.reception import Reception
from meshd.daemon.streams.streams import Streams
from meshd.daemon.streams.watching import Watch
from meshd.stream.announcement import Announcement
from meshd.stream.piece import Tier

TIER_NAMES = {Tier.METADATA: "metadata", Tier.KEY_FRAMES: "key-frames", Tier.REST: "rest"}


def describe(streams: Streams, stream: bytes, watch: Watch | None, now: float) -> dict[str, Any]:
    """All that is known of a stream."""
    announcement = streams.announcement(stream)
    assert announcement is not None, "it is known"
    publication, reception = streams.published.get(stream), streams.received.get(stream)
    archive = streams.library.archives[stream]
    row = _common(announcement) | {
        "role": "received" if reception is not None else "published",
        "archived_bytes": archive.size_bytes,
        "archived_pieces": archive.index.pieces,
        "archive_problem": streams.library.problem,
        "whole_spans": len(archive.manifests),
        "missing_pieces": 0,
        "is_complete": announcement.has_ended,
        "lost_spans": 0,
        "tiers_bps": {},
        "playout": None,
        "outputs": [],
    }
    if publication is not None:
        row |= _of_publication(publication, now)
    if reception is not None:
        row |= _of_reception(reception, now)
    if watch is not None and watch.stream == stream and watch.player is not None:
        row |= {"playout": _of_player(watch.player), "outputs": [*watch.outputs, *("client" for _ in watch.readers)]}
    return row


def _common(announcement: Announcement) -> dict[str, Any]:
    return {
        "name": announcement.name,
        "stream": announcement.stream.hex(),
        "source": announcement.source,
        "state": "ended" if announcement.has_ended else "live",
        "began_ms": announcement.began_ms,
        "latency_ms": announcement.latency_ms,
        "label": announcement.label,
        "receivers": announcement.receivers,
        "spans": announcement.spans,
    }


def _of_publication(publication: Publication, now: float) -> dict[str, Any]:
    terms, cutter = publication.about.terms, publication.cutter
    return {
        "input": "" if terms is None else terms.input,
        "rate_bps": publication.meter.rate_bps(now),
        "ingested_bytes": publication.meter.total_bytes,
        "unsent_pieces": publication.unsent_pieces,
        "garbage_bytes": cutter.sync.garbage_bytes,
        "damaged_packets": cutter.sync.damaged_packets,
        "tiers_bps": {TIER_NAMES[tier]: publication.tier_meters[tier].rate_bps(now) for tier in Tier},
    }


def _of_reception(reception: Reception, now: float) -> dict[str, Any]:
    return {
        "rate_bps": sum(meter.rate_bps(now) for meter in reception.tier_meters),
        "tiers_bps": {TIER_NAMES[tier]: reception.tier_meters[tier].rate_bps(now) for tier in Tier},
        "whole_spans": reception.whole_spans,
        "missing_pieces": reception.missing_pieces,
        "filled_pieces": reception.filled_pieces,
        "wrong_pieces": reception.wrong_pieces,
        "lost_spans": reception.lost_spans,
        "is_complete": reception.is_complete,
    }


def _of_player(player: Player) -> dict[str, Any]:
    counts = player.playout.counts
    cuts = counts.whole_cuts + counts.partial_cuts + counts.missing_cuts
    return {
        "on_time_pct": round(100 * counts.whole_cuts / cuts, 3) if cuts else None,
        "whole_cuts": counts.whole_cuts,
        "partial_cuts": counts.partial_cuts,
        "missing_cuts": counts.missing_cuts,
        "late_pieces": counts.late_pieces,
        "refused_pieces": counts.refused_pieces,
        "bytes_out": counts.bytes_out,
        "is_thinned": player.playout.render.is_thinned,
        "held_bytes": player.playout.held_bytes,
        "latency_ms": player.latency_ms,
        "latency_of": "klv" if player.is_latency_of_klv else "ingest",
        "lost_datagrams": sum(output.lost_datagrams for output in player.outputs),
        "lost_bytes": sum(reader.lost_bytes for reader in player.readers),
    }
