# SPDX-License-Identifier: Apache-2.0
"""The user-space back end's process: carries frames between the middle ends of a link, each direction through a
LinkEmulator.

AF_PACKET sockets with PACKET_IGNORE_OUTGOING, one epoll, one timerfd, SCHED_FIFO when permitted. The emulator
decides; here are only sockets and the clock. Started by `relay_backend`; needs no privilege beyond its namespaces.
"""

import dataclasses
import errno
import gc
import random
import select
import socket
import sys
import time
from typing import Final

from netns_lab.errors import LabError
from netns_lab.helper_process import Answer, Request, answer_request, receive_request
from netns_lab.kernel import (
    FRAME_SIZE_MAX_BYTES,
    MonotonicTimer,
    become_realtime,
    frames_dropped,
    inside,
    open_packet_socket,
)
from netns_lab.link_emulator import LinkEmulator
from netns_lab.link_profile import parse_profile
from netns_lab.toml_table import TomlTable

FRAMES_PER_TURN_MAX: Final = 64
"""Frames read from one port before the others and the due frames have their turn."""
UNDELIVERABLE_ERRNOS: Final = frozenset({errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN, errno.ENXIO})
"""The member's device is down, gone or full: the frame is lost, as on a real cable."""


class Port:
    """One member's end: frames from it are read here, frames to it wait in its emulator."""

    def __init__(self, link: str, request: Request) -> None:
        self.link: Final = link
        self.node: Final[str] = request["node"]
        profile = parse_profile(request["profile_name"], TomlTable(request["profile"], f"link {link}"))
        self.emulator: Final = LinkEmulator(profile, random.Random(request["seed"]))
        with inside(request["namespace"]):
            self.socket: Final = open_packet_socket(request["device"], ignore_outgoing=True)
        self.others: list[Port] = []
        self.undeliverable = 0
        self.overrun = 0

    def read(self) -> None:
        """Hand what the member sent to all the others' emulators."""
        receive = self.socket.recv
        for _ in range(FRAMES_PER_TURN_MAX):
            try:
                frame = receive(FRAME_SIZE_MAX_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                return
            now = time.monotonic()
            for other in self.others:
                other.emulator.enqueue(frame, now)

    def send_due(self, now: float) -> None:
        """Put on the member's wire what is due."""
        for frame in self.emulator.frames_due(now):
            try:
                self.socket.send(frame)
            except OSError as error:
                if error.errno not in UNDELIVERABLE_ERRNOS:
                    raise
                self.undeliverable += 1

    def report(self) -> dict[str, object]:
        """Counters for the lab's report."""
        self.overrun += frames_dropped(self.socket)
        counters: dict[str, object] = dict(dataclasses.asdict(self.emulator.counters))
        return counters | {
            "link": self.link,
            "towards": self.node,
            "held": self.emulator.held_frames(),
            "undeliverable": self.undeliverable,
            "overrun": self.overrun,
        }


class Relay:
    """All ports of all links, and the commands of the lab."""

    def __init__(self, configuration: Request) -> None:
        self.ports: Final[list[Port]] = []
        for link in configuration["links"]:
            members = [Port(link["name"], request) for request in link["ports"]]
            for port in members:
                port.others = [other for other in members if other is not port]
            self.ports.extend(members)

    def next_due(self) -> float | None:
        """When the first frame of all is due."""
        timers = [timer for port in self.ports if (timer := port.emulator.get_timer()) is not None]
        return min(timers, default=None)

    def handle(self, request: Request) -> Answer:
        """One command: cut, restore, profile or report."""
        match request["do"]:
            case "cut":
                for port in self._towards(request):
                    port.emulator.cut()
            case "restore":
                for port in self._towards(request):
                    port.emulator.restore()
            case "profile":
                profile = parse_profile(request["profile_name"], TomlTable(request["profile"], "profile"))
                for port in self._towards(request):
                    port.emulator.set_profile(profile)
            case "report":
                return {"ports": [port.report() for port in self.ports]}
            case other:
                raise LabError(f"the relay knows no command {other!r}")
        return {}

    def _towards(self, request: Request) -> list[Port]:
        ports = [
            port for port in self.ports if port.link == request["link"] and request["towards"] in (None, port.node)
        ]
        if not ports:
            raise LabError(f"the relay has no link {request['link']!r} towards {request['towards']!r}")
        return ports


def run(relay: Relay, control: socket.socket) -> None:
    """Carry frames until the lab closes the control socket."""
    timer = MonotonicTimer()
    poll = select.epoll()
    handlers = {port.socket.fileno(): port for port in relay.ports}
    for descriptor in (*handlers, timer.fileno(), control.fileno()):
        poll.register(descriptor, select.EPOLLIN)
    armed_s: float | None = None
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in handlers:
                handlers[descriptor].read()
            elif descriptor == timer.fileno():
                timer.acknowledge()
                armed_s = None
            elif (request := receive_request(control)) is not None:
                answer_request(control, request, relay.handle)
            else:
                return
        now = time.monotonic()
        for port in relay.ports:
            port.send_due(now)
        due_s = relay.next_due()
        if due_s != armed_s:
            timer.arm(due_s)
            armed_s = due_s


def main() -> None:
    """Entry of the process: the control socket's descriptor is the only argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    request = receive_request(control)
    if request is None:
        return
    made: list[Relay] = []

    def start(configuration: Request) -> Answer:
        made.append(Relay(configuration))
        return {"scheduler": "SCHED_FIFO" if become_realtime() else "SCHED_OTHER (SCHED_FIFO is not permitted)"}

    answer_request(control, request, start)
    gc.freeze()
    gc.disable()  # frames are bytes in tuples: no cycles, and no pauses
    if made:
        run(made[0], control)


if __name__ == "__main__":
    main()
