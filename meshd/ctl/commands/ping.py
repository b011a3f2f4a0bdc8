# SPDX-License-Identifier: Apache-2.0
"""`meshctl ping`: small messages to a node's echo service, and how long each took there and back.

The time begins when the daemon is told to send and ends when it announces the answer; both daemons have everything on
their disks by then. An answer goes to an endpoint that only this run has.
"""

import os
import re
import time
from argparse import ArgumentTypeError, Namespace
from math import sqrt
from typing import Any, Final

from meshd.base.limits import PART_SIZE_BYTES
from meshd.client.client import Client
from meshd.client.replies import ReceivedMessage, pick
from meshd.control.errors import ERRORS, ControlError
from meshd.ctl.arguments import Commands, Parser, add_patience, add_precedence, count, duration_s
from meshd.ctl.output import Output
from meshd.ctl.reconnect import open_client
from meshd.ctl.services import answers_endpoint, service_endpoint

TAG_BYTES: Final = 8
SEQUENCE_BYTES: Final = 4
SIZE_MIN_BYTES: Final = TAG_BYTES + SEQUENCE_BYTES
SIZE_DEFAULT_BYTES: Final = 64
INTERVAL_DEFAULT_S: Final = 1.0
TIMEOUT_DEFAULT_S: Final = 10.0

_EPILOG: Final = """\
NODE is a node (home, ipn:3) or the full endpoint ID of an echo service. Without --count it goes on until it is
interrupted. The exit code is 0 when at least one answer came, 6 when none did.

examples:
  meshctl ping home
  meshctl ping home -c 5 -i 200ms --size 1000
  meshctl ping home -c 100 -i 0
  meshctl ping ipn:3 -c 3 --timeout 2min --json
"""


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "ping",
        parents=[common],
        help="measure round trips to a node",
        description="Send small messages to the echo service of a node and show how long the answers take.",
        epilog=_EPILOG,
    )
    parser.add_argument("node", metavar="NODE", type=echo_service, help="whom to ask")
    parser.add_argument("-c", "--count", metavar="N", type=count, help="end after so many (default: go on)")
    parser.add_argument(
        "-i",
        "--interval",
        metavar="S",
        type=_interval_s,
        default=INTERVAL_DEFAULT_S,
        help="from one to the next (default 1s); 0: as soon as the answer is there",
    )
    parser.add_argument(
        "--size",
        metavar="BYTES",
        type=_size_bytes,
        default=SIZE_DEFAULT_BYTES,
        help=f"of each message (default {SIZE_DEFAULT_BYTES})",
    )
    add_patience(parser, TIMEOUT_DEFAULT_S, "an answer that takes longer is lost")
    add_precedence(parser, "of each")
    parser.set_defaults(run=_run)


def echo_service(text: str) -> str:
    """`home` and `dtn://home/` to dtn://home/echo, `ipn:3` and `ipn:3.0` to ipn:3.7; a full endpoint ID as it is."""
    return service_endpoint(text, "echo", "7")


def _interval_s(text: str) -> float:
    """A duration; a bare number is seconds, as other programs of this name have it."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    return duration_s(text)


def _size_bytes(text: str) -> int:
    size_bytes = count(text)
    if not SIZE_MIN_BYTES <= size_bytes <= PART_SIZE_BYTES:
        raise ArgumentTypeError(f"{text} is out of range: {SIZE_MIN_BYTES} to {PART_SIZE_BYTES} bytes")
    return size_bytes


def _run(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        run = PingRun(client, args.node, args.size, args.precedence, args.timeout, out)
        try:
            run.ping(args.count, args.interval)
        except KeyboardInterrupt:
            out.chatter("")
        run.show_statistics()
    return 0 if run.times_ms else ERRORS["timeout"].exit_code


class PingRun:
    """One run: what is under way, and the times so far."""

    def __init__(
        self, client: Client, destination: str, size_bytes: int, precedence: str, timeout_s: float, out: Output
    ) -> None:
        self._client = client
        self._destination = destination
        self._size_bytes = size_bytes
        self._precedence = precedence
        self._timeout_s = timeout_s
        self._out = out
        self._tag = os.urandom(TAG_BYTES)
        self._endpoint = answers_endpoint(client.hello["node"], "ping", self._tag)
        self._receiver = client.recv_open(self._endpoint)
        self._sent_at: dict[int, float] = {}
        self._asks_ahead = False
        self._asked: int | None = None
        """The daemon is asked already for the next message that comes."""
        self._began_at = time.monotonic()
        self.sent = 0
        self.duplicates = 0
        self.times_ms: list[float] = []

    def ping(self, number: int | None, interval_s: float) -> None:
        """Send so many (None: for ever), one each interval, taking answers meanwhile; interval 0: one after another."""
        while number is None or self.sent < number:
            due_at = time.monotonic() + interval_s
            patience_until = due_at if interval_s else time.monotonic() + self._timeout_s
            self._asks_ahead = not interval_s and (number is None or self.sent + 1 < number)
            self._send(patience_until)
            while self._sent_at and time.monotonic() < patience_until:
                self._receive(patience_until)
            if number is None or self.sent < number:
                time.sleep(max(0.0, due_at - time.monotonic()))
        while self._sent_at and time.monotonic() < self._give_up_at():
            self._receive(self._give_up_at())

    def show_statistics(self) -> None:
        """As ping(8) does."""
        figures = self.statistics()
        if self._out.as_json:
            self._out.data(figures)
            return
        self._out.line(
            f"--- {self._destination}: {figures['sent']} sent, {figures['received']} received,"
            f" {figures['loss_percent']:.0f}% lost, {figures['time_s']:.1f} s"
        )
        if self.times_ms:
            self._out.line(
                "rtt min/avg/max/mdev = {min_ms:.3f}/{avg_ms:.3f}/{max_ms:.3f}/{mdev_ms:.3f} ms".format(**figures)
            )

    def statistics(self) -> dict[str, Any]:
        """What `--json` ends with; times are None without an answer."""
        times, received = self.times_ms, len(self.times_ms)
        average = sum(times) / received if received else None
        deviation = sqrt(sum((each - (average or 0.0)) ** 2 for each in times) / received) if received else None
        return {
            "destination": self._destination,
            "sent": self.sent,
            "received": received,
            "duplicates": self.duplicates,
            "loss_percent": 100 * (self.sent - received) / self.sent if self.sent else 0.0,
            "time_s": time.monotonic() - self._began_at,
            "min_ms": min(times, default=None),
            "avg_ms": average,
            "max_ms": max(times, default=None),
            "mdev_ms": deviation,
        }

    def _give_up_at(self) -> float:
        """When the last answer that may come is lost."""
        return max(self._sent_at.values(), default=time.monotonic()) + self._timeout_s

    def _send(self, until: float) -> None:
        """Send one, and take the first answer before `until`: the daemon is asked for it before it can be there."""
        content = self._tag + self.sent.to_bytes(SEQUENCE_BYTES, "big")
        message = {
            "destination": self._destination,
            "precedence": self._precedence,
            "lifetime_ms": max(1, round(self._timeout_s * 1000)),
            "report": False,
            "endpoint": self._endpoint,
            "data": content.ljust(self._size_bytes, b"\0"),
        }
        asked = self._ask(until)
        self._sent_at[self.sent] = time.monotonic()
        self.sent += 1
        sending = self._client.start("send.message", message)
        self._finish_receiving(asked)
        self._client.finish(sending)

    def _receive(self, until: float) -> None:
        self._finish_receiving(self._ask(until))

    def _ask(self, until: float) -> int:
        """For the next message; the number of the request, which may have been sent before."""
        asked, self._asked = self._asked, None
        if asked is not None:
            return asked
        wait_s = max(0.0, until - time.monotonic())
        wish = {"receiver": self._receiver, "timeout_s": wait_s, "data_max_bytes": PART_SIZE_BYTES}
        return self._client.start("recv.next", wish)

    def _finish_receiving(self, asked: int) -> None:
        try:
            reply = self._client.finish(asked, self._timeout_s + 60.0)
        except ControlError as error:
            if error.name != "timeout":
                raise
            return
        now = time.monotonic()
        message = ReceivedMessage(*pick(reply, ReceivedMessage._fields))
        content = (message.data or b"")[:SIZE_MIN_BYTES]
        wish = {"receiver": self._receiver, "message": message.message}
        confirming = self._client.start("recv.confirm", wish)
        if self._asks_ahead:
            self._asked = self._ask(now + self._timeout_s)
        self._client.finish(confirming)
        self._take(message, content, now)

    def _take(self, message: ReceivedMessage, content: bytes, now: float) -> None:
        number = int.from_bytes(content[TAG_BYTES:], "big")
        sent_at = self._sent_at.pop(number, None) if content[:TAG_BYTES] == self._tag else None
        if sent_at is None:
            self.duplicates += 1
            return
        rtt_ms = (now - sent_at) * 1000
        self.times_ms.append(rtt_ms)
        if self._out.as_json:
            self._out.data(
                {"sequence": number, "from": message.source, "size_bytes": message.size_bytes, "rtt_ms": rtt_ms}
            )
        else:
            self._out.line(f"{message.size_bytes} bytes from {message.source}: seq={number} time={rtt_ms:.3f} ms")
