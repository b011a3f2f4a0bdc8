# SPDX-License-Identifier: Apache-2.0
"""What the deadline of a live piece means for a link: worth sending, worth repairing, in which order, superseded when.

The deadline travels as the lifetime of the bundle, so that every node on the way knows it without knowing streams. A
piece that can't arrive before it is not sent: the fill path brings it. One that can arrive but not be repaired in time
is sent with its repair ahead. Supersession (private block 201) drops what is late anyway from the queues at once.
"""

import enum
from collections.abc import Iterable
from typing import Final

import msgspec

from meshd.stream.piece import Piece, Tier

LIFETIME_MARGIN_MS: Final = 250
"""Of a live bundle beyond the latency: clocks disagree, and the shortest way takes its time too."""
AHEAD_MAX: Final = 0.5
"""Repair that is sent ahead, as a share of the piece, at most."""
AHEAD_TIMES_LOSS: Final = {Tier.METADATA: 4.0, Tier.KEY_FRAMES: 3.0, Tier.REST: 2.0}
"""Repair ahead, as a multiple of what is lost on average."""
ALWAYS_AHEAD: Final = frozenset((Tier.METADATA, Tier.KEY_FRAMES))
"""Tiers that have repair ahead even when there is time to repair them on request."""


class Worth(enum.Enum):
    """What to do with a live piece on a link."""

    SEND = enum.auto()
    """There is time for a repair on request."""
    SEND_ONCE = enum.auto()
    """There is not: only repair ahead helps."""
    DROP = enum.auto()
    """It would come too late; the archive gets it by the fill path."""


class LinkTimes(msgspec.Struct, frozen=True, gc=False):
    """What a link is like."""

    owd_s: float
    """One way."""
    repair_s: float
    """From a loss to the repair's arrival, beyond `owd_s`: a report's way back and a repair's way there."""
    rate_bps: float
    loss: float
    """0 to 1."""


class Supersession(msgspec.Struct, frozen=True, gc=False):
    """The content of private block 201: within a key a higher sequence drops a lower one."""

    key: bytes
    sequence: int
    tier: int


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A live piece in a queue; `ref` is the caller's."""

    ref: int
    sequence: int
    tier: int
    size_bytes: int
    expires: float


def live_lifetime_ms(latency_ms: int, shortest_way_ms: int = 0) -> int:
    """Lifetime of a live bundle: within it the piece can be shown. Args: `shortest_way_ms`, where it is known."""
    return latency_ms + shortest_way_ms + LIFETIME_MARGIN_MS


def supersession(piece: Piece, latency_ms: int) -> Supersession:
    """Block 201 of a live bundle.

    Time is cut into periods of a live lifetime, by turns of two keys: a piece drops those of the last period but one,
    which have expired for sure, and never one that may still be in time.
    """
    period = piece.ingest_ms // live_lifetime_ms(latency_ms)
    return Supersession(piece.stream + bytes((period & 1,)), period >> 1, piece.tier)


def judge(waiting: Waiting, bytes_before: int, link: LinkTimes, now: float) -> Worth:
    """What to do with a piece that so many bytes are sent before."""
    arrives = now + _seconds(bytes_before + waiting.size_bytes, link) + link.owd_s
    if arrives > waiting.expires:
        return Worth.DROP
    return Worth.SEND if arrives + link.repair_s <= waiting.expires else Worth.SEND_ONCE


def is_worth_repairing(expires: float, repair_bytes: int, link: LinkTimes, now: float) -> bool:
    """Whether a repair that is sent now arrives in time."""
    return now + _seconds(repair_bytes, link) + link.owd_s <= expires


def repair_ahead(worth: Worth, tier: int, loss: float) -> float:
    """Repair to send along, as a share of the piece."""
    if worth is Worth.DROP or loss <= 0 or (worth is Worth.SEND and tier not in ALWAYS_AHEAD):
        return 0.0
    return min(AHEAD_TIMES_LOSS[Tier(tier)] * loss, AHEAD_MAX)


def plan_sending(
    waiting: Iterable[Waiting], link: LinkTimes, now: float
) -> tuple[list[tuple[Waiting, Worth]], list[Waiting]]:
    """What to send in which order, and what to drop: metadata and key frames before the rest, the newest first."""
    sent: list[tuple[Waiting, Worth]] = []
    dropped: list[Waiting] = []
    before = 0
    for row in sorted(waiting, key=lambda row: (row.tier, -row.sequence)):
        worth = judge(row, before, link, now)
        if worth is Worth.DROP:
            dropped.append(row)
        else:
            sent.append((row, worth))
            before += row.size_bytes
    return sent, dropped


def _seconds(size_bytes: int, link: LinkTimes) -> float:
    return 8 * size_bytes / max(link.rate_bps, 1.0)
