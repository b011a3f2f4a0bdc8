# SPDX-License-Identifier: Apache-2.0
"""The input of a stream: datagrams from a socket into the cutter, and warnings for people when it is no good.

Damage is never an error: what comes is archived and sent as it is. What is told: that nothing comes, that it is no
transport stream, that it has no tables and so can't be thinned, and that RTP packets are missing.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from meshd.daemon.dtn_clock import monotonic_s
from meshd.daemon.streams.publication import Publication
from meshd.daemon.streams.udp_socket import TURN_DATAGRAMS, UdpInput
from meshd.stream.rtp import RtpError, RtpOrder, parse_rtp_untrusted

GATHER_S: Final = 0.015
"""What comes within this time is taken together."""
LOOK_S: Final = 2.0
"""After so long without what should be there it is told."""

Report = Callable[[str, Mapping[str, Any]], None]


class InputWatch:
    """Of one stream: says once what is wrong, and once that it is right again."""

    def __init__(self, publication: Publication, report: Report) -> None:
        self._publication = publication
        self._report = report
        self._looked_at = monotonic_s()
        self._bytes = 0
        self._garbage = 0
        self._began = False
        self.problem: str | None = None
        self.datagram_problem: str | None = None
        """What is wrong with the datagrams themselves, since the last look."""

    def look(self, now: float) -> None:
        """Once in a while."""
        if now - self._looked_at < LOOK_S:
            return
        cutter = self._publication.cutter
        total, garbage = self._publication.meter.total_bytes, cutter.sync.garbage_bytes
        came, spoilt = total - self._bytes, garbage - self._garbage
        self._looked_at, self._bytes, self._garbage = now, total, garbage
        problem, self.datagram_problem = self.datagram_problem, None
        if problem is None and not came:
            problem = "nothing comes in" if not self._began else "nothing comes in any more"
        elif problem is None and 2 * spoilt > came:
            problem = "it is no MPEG transport stream: it is archived and sent as it is, and can't be thinned"
        elif problem is None and not cutter.tiers.programs.roles:
            problem = "it has no tables (PAT and PMT) that say what is in it: it can't be thinned"
        self._began |= bool(came)
        if problem != self.problem:
            self.problem = problem
            name = self._publication.about.announcement.name
            if problem is not None:
                self._report("stream.input_alarm", {"name": name, "reason": f"input of stream {name!r}: {problem}"})
            else:
                self._report("stream.input_good", {"name": name})


class Ingest:
    """From a socket."""

    def __init__(self, socket: UdpInput, publication: Publication, watch: InputWatch, *, is_rtp: bool) -> None:
        """Owns the socket."""
        self._socket = socket
        self._publication = publication
        self.watch = watch
        self._is_rtp = is_rtp
        self.order = RtpOrder()
        self.bad_datagrams = 0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look)
                while True:
                    await trio.lowlevel.wait_readable(self._socket.socket)
                    while datagrams := self._socket.receive():
                        self._take(datagrams)
                        await trio.sleep(GATHER_S if len(datagrams) < TURN_DATAGRAMS else 0)
        finally:
            self._socket.close()

    async def _look(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            self.watch.look(monotonic_s())

    def _take(self, datagrams: list[bytes]) -> None:
        data = b"".join(map(self._payload, datagrams)) if self._is_rtp else b"".join(datagrams)
        if data:
            self._publication.feed(data, monotonic_s())

    def _payload(self, datagram: bytes) -> bytes:
        try:
            packet = parse_rtp_untrusted(datagram)
        except RtpError as error:
            self.bad_datagrams += 1
            self.watch.datagram_problem = str(error)
            return b""
        self.order.take(packet.sequence)
        return packet.payload
