# SPDX-License-Identifier: Apache-2.0
"""`meshctl events`: what happens in the daemon, as it happens."""

from argparse import Namespace
from typing import Final

from meshd.client.client import Client
from meshd.client.errors import ClientError
from meshd.client.replies import Event
from meshd.control.errors import ControlError
from meshd.ctl.arguments import Commands, Parser, count
from meshd.ctl.output import Output, instant
from meshd.ctl.reconnect import Deadline, Patience, open_client

REPLAYED_DEFAULT: Final = 100

_EPILOG: Final = """\
A reader that is too slow loses events, never holds up meshd, and is told how many it lost.

examples:
  meshctl events
  meshctl events --follow --kind link --kind emcon
  meshctl events --follow --replay 20 --json
"""


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "events",
        parents=[common],
        help="recent events, or all as they happen",
        description="Show the recent events, or with --follow all as they happen.",
        epilog=_EPILOG,
    )
    parser.add_argument("--follow", action="store_true", help="go on for ever, also when meshd restarts")
    parser.add_argument("--kind", metavar="K", action="append", help="only this kind and those below it; repeatable")
    parser.add_argument(
        "--replay",
        metavar="N",
        type=count,
        help=f"begin with this many recent events (default {REPLAYED_DEFAULT}, with --follow none)",
    )
    parser.set_defaults(run=_run)


def _run(args: Namespace, out: Output) -> int:
    if args.follow:
        return _follow(args, out)
    with open_client(args) as client:
        client.subscribe(args.kind, args.replay or REPLAYED_DEFAULT)
        _write_all(client, out, timeout_s=0.0)
    return 0


def _follow(args: Namespace, out: Output) -> int:
    patience, replay, connected = Patience(out), args.replay or 0, False
    while True:
        try:
            with open_client(args) as client:
                client.subscribe(args.kind, replay)
                connected, replay = True, 0
                patience.reset()
                _write_all(client, out, timeout_s=None)
        except (ControlError, ClientError) as error:
            if not connected:
                raise
            patience.wait(error, Deadline(None))


def _write_all(client: Client, out: Output, timeout_s: float | None) -> None:
    while (event := client.next_event(timeout_s)) is not None:
        _write(event, out)


def _write(event: Event, out: Output) -> None:
    if out.as_json:
        out.data(event._asdict())
        return
    if event.lost:
        out.chatter(f"meshctl: {event.lost} events lost here: this reader was too slow")
    fields = " ".join(f"{name}={value}" for name, value in event.fields.items())
    out.line(f"{instant(event.time_ms)}  {event.kind:<20} {fields}".rstrip())
