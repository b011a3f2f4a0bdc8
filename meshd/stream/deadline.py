# SPDX-License-Identifier: Apache-2.0
"""The deadline of a live piece, and what it supersedes.

The deadline travels as the lifetime of the bundle, so that every node on the way knows it without knowing streams: a
piece that can't arrive before it is not sent, the fill path brings it. Supersession (private block 201) drops what is
late anyway from the queues at once, and tells the tiers apart (`meshd/node/live_bundles.py`).
"""

from meshd.bundle.supersession import CLOCK_MARGIN_MS, Supersession
from meshd.stream.piece import Piece


def live_lifetime_ms(piece: Piece, latency_ms: int) -> int:
    """Lifetime of a live bundle: within it, but for the margin, the piece can be shown.

    The bundle is made when the cut has ended, and the latency counts from its begin.
    """
    return max(latency_ms - piece.duration_ms, 0) + CLOCK_MARGIN_MS


def period_ms(latency_ms: int) -> int:
    """No live bundle lives longer after its piece was begun to be ingested."""
    return latency_ms + CLOCK_MARGIN_MS


def supersession(piece: Piece, latency_ms: int) -> Supersession:
    """Block 201 of a live bundle.

    Time is cut into periods of the longest lifetime, by turns of two keys: a piece drops those of the last period but
    one, which have expired for sure, and never one that may still be in time.
    """
    period = piece.ingest_ms // period_ms(latency_ms)
    return Supersession(piece.stream + bytes((period & 1,)), period >> 1, piece.tier)
