# SPDX-License-Identifier: Apache-2.0
"""The sniffer's process: sees every frame at the middle end of every node's device, outside the node's namespace.

Independent of the back end: its own process and its own AF_PACKET sockets. What a node sends passes here before the
link's emulation, what a node gets passes here after it. Times are the kernel's, taken when the frame passed; before
it answers it reads all that passed before the question.
"""

import collections
import errno
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Final

from netns_lab.errors import LabError
from netns_lab.frame_log import Direction, FrameLog, frame_kind
from netns_lab.helper_process import Answer, Request, answer_request, receive_request
from netns_lab.kernel import (
    FRAME_SIZE_MAX_BYTES,
    PACKET_OUTGOING,
    SO_TIMESTAMPNS,
    frames_dropped,
    inside,
    open_packet_socket,
)

_TIMESPEC: Final = struct.Struct("@ll")
ANCILLARY_BYTES: Final = 128


class Tap:
    """One end that is listened to."""

    def __init__(self, request: Request) -> None:
        self.log: Final = FrameLog()
        self.missed = 0
        with inside(request["namespace"]):
            self.socket: Final = open_packet_socket(request["device"], ignore_outgoing=False)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def drain(self) -> None:
        """Log everything that has passed."""
        offset_s = time.time() - time.monotonic()
        while True:
            try:
                frame, ancillary, _, address = self.socket.recvmsg(FRAME_SIZE_MAX_BYTES, ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # the node took its device down: nothing passes until it is up
                    raise
                break
            seconds, nanoseconds = _TIMESPEC.unpack_from(ancillary[0][2])
            direction = Direction.TO_NODE if address[2] == PACKET_OUTGOING else Direction.FROM_NODE
            time_ns = seconds * 1_000_000_000 + nanoseconds
            self.log.add(time_ns / 1e9 - offset_s, time_ns, direction, frame)

    def count(self, request: Request) -> Answer:
        """Frames, bytes and kinds in an interval, or in all."""
        self.missed += frames_dropped(self.socket)
        direction = Direction(request["direction"])
        if request["since"] is None:
            totals = self.log.totals(direction)
            totals_only: Answer = {"frames": totals.frames, "bytes": totals.size_bytes}
            return totals_only | {"kinds": {}, "missed": self.missed, "last_s": None}
        frames = self.log.frames(direction, request["since"], request["until"] or float("inf"))
        kinds = collections.Counter(frame_kind(frame.head) for frame in frames)
        size_bytes = sum(frame.size_bytes for frame in frames)
        last_s = frames[-1].time_s if frames else None
        counted: Answer = {"frames": len(frames), "bytes": size_bytes, "kinds": dict(kinds)}
        return counted | {"missed": self.missed, "last_s": last_s}


class Sniffer:
    """All taps."""

    def __init__(self, configuration: Request) -> None:
        self.taps: Final = {(tap["bearer"], tap["node"]): Tap(tap) for tap in configuration["taps"]}

    def handle(self, request: Request) -> Answer:
        """One question: count or pcap."""
        key = (request["bearer"], request["node"])
        if key not in self.taps:
            raise LabError(f"the sniffer doesn't listen on bearer {key[0]!r} of node {key[1]!r}")
        tap = self.taps[key]
        tap.drain()
        match request["do"]:
            case "count":
                return tap.count(request)
            case "pcap":
                with Path(request["path"]).open("wb") as file:
                    return {"frames": tap.log.write_pcap(file)}
            case other:
                raise LabError(f"the sniffer knows no command {other!r}")


def run(sniffer: Sniffer, control: socket.socket) -> None:
    """Listen until the lab closes the control socket."""
    poll = select.epoll()
    taps = {tap.socket.fileno(): tap for tap in sniffer.taps.values()}
    for descriptor in (*taps, control.fileno()):
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in taps:
                taps[descriptor].drain()
            elif (request := receive_request(control)) is not None:
                answer_request(control, request, sniffer.handle)
            else:
                return


def main() -> None:
    """Entry of the process: the control socket's descriptor is the only argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    request = receive_request(control)
    if request is None:
        return
    made: list[Sniffer] = []

    def start(configuration: Request) -> Answer:
        made.append(Sniffer(configuration))
        return {}

    answer_request(control, request, start)
    if made:
        run(made[0], control)


if __name__ == "__main__":
    main()
