# SPDX-License-Identifier: Apache-2.0
"""Looks at the TCP connections of one bearer: how well they carry, and whether the other side still answers.

R of the link's score is what the peer's kernel acknowledged, over the time in which something waited for that. The
delay is half of the least round trip: TCP's smoothed one holds our own queue, which the score counts by itself, and
acknowledgements that the peer holds back. Loss is in R, since TCP repairs it.

On terrestrial lines the peer is called dead when it is silent although it was sent to three times over: long before
TCP gives up, and before keepalives are missed (`cl/tcpclv4/deadlines.py`). Radiating bearers are left in peace: their
neighbours may be silent on order.
"""

from collections.abc import Callable
from typing import Final

import trio

from meshd.bearer.tcp_connection import TcpConnection
from meshd.bearer.tcp_info import TcpInfo, read_tcp_info
from meshd.bearer.tcp_link import TcpLink
from meshd.link.metric import LinkSample
from meshd.link.settings import BearerSettings

LOOK_S: Final = 1.0
"""From one look at an idle connection to the next, and between two measurements;"""
LOOK_BUSY_S: Final = 0.2
"""while something is under way."""
SILENT_S: Final = 1.0
"""A peer is silent when it was not heard for so long,"""
SILENT_RTTS: Final = 4
"""nor for so many round trips,"""
RETRIES: Final = 2
"""and so many repetitions of what it was sent went without an answer."""
TRAFFIC_MIN_BYTES: Final = 16 * 1024
"""Less than this says nothing of a rate."""
FIRST_SAMPLES: Final = 4
"""Told of a new session whether anything has changed or not: a link that returns has to be looked at several times."""
RTT_SHARE: Final = 0.1
RTT_STEP_US: Final = 1000
"""A change of the round trip is worth telling above both of these."""


class LineWatch:
    """Looks after the connections of one bearer."""

    def __init__(
        self,
        settings: BearerSettings,
        link_of: Callable[[TcpConnection], TcpLink | None],
        tell: Callable[[TcpLink, LinkSample], None],
    ) -> None:
        """`link_of` tells where a session belongs; None: nowhere yet. `tell` hears what is measured."""
        self._must_answer = settings.is_line
        self._link_of = link_of
        self._tell = tell

    async def run(self, connection: TcpConnection) -> None:
        """Look after one connection until it is closed."""
        gauge = Gauge()
        free_since = trio.current_time()
        while True:
            info = read_tcp_info(connection.sock)
            if info is None:
                return
            now = trio.current_time()
            if connection.is_frozen:
                free_since = now
            elif self._must_answer and is_silent(info, now - free_since):
                connection.abandon("the peer does not answer any more")
                return
            link = self._link_of(connection)
            if link is not None and not connection.is_extra:
                sample = gauge.take(info, now)
                if sample is not None:
                    self._tell(link, sample)
            await trio.sleep(LOOK_BUSY_S if info.unacked or connection.sent else LOOK_S)


def is_silent(info: TcpInfo, free_s: float) -> bool:
    """Three expected answers are missing: to what was sent, and to each repetition of it."""
    silent_s = min(info.last_heard_ms / 1000, free_s)
    return (
        info.unacked > 0
        and info.retransmits >= RETRIES
        and silent_s >= max(SILENT_S, SILENT_RTTS * info.min_rtt_us / 1e6)
    )


class Gauge:
    """Turns looks at one connection into samples, at most one each LOOK_S, and none when nothing has changed."""

    def __init__(self) -> None:
        self._before: TcpInfo | None = None
        self._told_at = -LOOK_S
        self._told_rtt_us = 0
        self._samples = 0

    def take(self, info: TcpInfo, now: float) -> LinkSample | None:
        """The sample that is due, if any."""
        if now - self._told_at < LOOK_S * 0.9:
            return None
        before = self._before or info
        acked_bytes, busy_us = info.acked_bytes - before.acked_bytes, info.busy_us - before.busy_us
        has_traffic = acked_bytes >= TRAFFIC_MIN_BYTES and busy_us > 0
        step_us = abs(info.min_rtt_us - self._told_rtt_us)
        has_moved = step_us > max(RTT_STEP_US, RTT_SHARE * self._told_rtt_us)
        if not has_traffic and not has_moved and self._samples >= FIRST_SAMPLES:
            return None
        self._before, self._told_at, self._told_rtt_us = info, now, info.min_rtt_us
        self._samples += 1
        goodput_bps = acked_bytes * 8e6 / busy_us if has_traffic else None
        return LinkSample(goodput_bps, info.is_full, rtt_s=info.min_rtt_us / 1e6)
