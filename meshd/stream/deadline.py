# SPDX-License-Identifier: Apache-2.0
"""The deadline of a live piece, and what it supersedes.

The deadline travels as the lifetime of the bundle, so that every node on the way knows it without knowing streams: a
piece that can't arrive before it is not sent, the fill path brings it. Supersession (private block 201) drops what is
late anyway from the queues at once, and tells the tiers apart (`meshd/node/live_bundles.py`).
"""

from typing import Final

from meshd.bundle.supersession import Supersession
from meshd.stream.piece import Piece

LIFETIME_MARGIN_MS: Final = 250
"""Of a live bundle beyond the latency: clocks disagree, and the shortest way takes its time too."""


def live_lifetime_ms(latency_ms: int) -> int:
    """Lifetime of a live bundle: within it the piece can be shown."""
    return latency_ms + LIFETIME_MARGIN_MS


def supersession(piece: Piece, latency_ms: int) -> Supersession:
    """Block 201 of a live bundle.

    Time is cut into periods of a live lifetime, by turns of two keys: a piece drops those of the last period but one,
    which have expired for sure, and never one that may still be in time.
    """
    period = piece.ingest_ms // live_lifetime_ms(latency_ms)
    return Supersession(piece.stream + bytes((period & 1,)), period >> 1, piece.tier)
