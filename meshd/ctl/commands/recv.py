# SPDX-License-Identifier: Apache-2.0
"""`meshctl recv`: take messages off the daemon into files, each safe on disk before it is confirmed."""

from argparse import Namespace
from pathlib import Path
from typing import Final

from meshd.base.errors import MeshdError
from meshd.client.client import Client
from meshd.client.errors import ClientError
from meshd.client.replies import ReceivedMessage
from meshd.client.transfer import save_message
from meshd.control.errors import ControlError
from meshd.control.words import DEFAULT_ENDPOINT
from meshd.ctl.arguments import Commands, Parser, count, duration_s
from meshd.ctl.output import Output, size
from meshd.ctl.reconnect import Deadline, Patience, open_client

_EPILOG: Final = """\
Without --follow and --count one message is received. A file is named after the sending node and the message, for
example home-3f9a1c0be2d4.bin; its path goes to stdout once it is safe on disk. A message that was not safe when
this program or meshd stopped comes again, under the same name.

examples:
  meshctl recv
  meshctl recv orders --out /srv/orders --follow
  meshctl recv --count 3 --timeout 10min
"""


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "recv",
        parents=[common],
        help="receive messages into files",
        description="Receive messages into files.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "endpoint",
        metavar="ENDPOINT",
        nargs="?",
        default=DEFAULT_ENDPOINT,
        help=f"application to receive for (default {DEFAULT_ENDPOINT})",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="directory for the files (default .)")
    parser.add_argument("--follow", action="store_true", help="go on for ever, also when meshd restarts")
    parser.add_argument("--count", metavar="N", type=count, help="end after this many messages")
    parser.add_argument("--timeout", metavar="D", type=duration_s, help="wait no longer than this for the next one")
    parser.set_defaults(run=_run)


def _run(args: Namespace, out: Output) -> int:
    if not args.out.is_dir():
        raise ClientError(f"{args.out} is no directory; make it first, or name another with --out")
    return _Reception(args, out).run()


class _Reception:
    """One run of the command, over however many sessions it takes."""

    def __init__(self, args: Namespace, out: Output) -> None:
        self._args = args
        self._out = out
        self._wanted: int | None = args.count or (None if args.follow else 1)
        self._received = 0
        self._deadline = Deadline(args.timeout)
        self._patience = Patience(out)

    def run(self) -> int:
        connected = False
        while not self._complete():
            try:
                with open_client(self._args) as client:
                    connected = True
                    self._receive(client)
            except (ControlError, ClientError) as error:
                if self._drained(error):
                    return 0
                if not (connected and self._args.follow):
                    raise
                self._patience.wait(error, self._deadline)
        return 0

    def _complete(self) -> bool:
        return self._wanted is not None and self._received >= self._wanted

    def _drained(self, error: MeshdError) -> bool:
        """With --follow and no --count a time-out after some messages is a good end."""
        timed_out = isinstance(error, ControlError) and error.name == "timeout"
        return timed_out and self._wanted is None and self._received > 0

    def _receive(self, client: Client) -> None:
        receiver = client.recv_open(self._args.endpoint)
        self._patience.reset()
        while not self._complete():
            message = client.recv_next(receiver, self._deadline.remaining_s())
            with self._out.progress(f"receiving {message.ref}") as progress:
                path = save_message(client, receiver, message, self._args.out, progress)
            self._received += 1
            self._deadline = Deadline(self._args.timeout)
            self._tell(message, path)

    def _tell(self, message: ReceivedMessage, path: Path) -> None:
        if self._out.as_json:
            self._out.data({**message._asdict(), "path": str(path)})
        else:
            self._out.line(str(path))
            self._out.chatter(f"{size(message.size_bytes)} {message.precedence} from {message.source}")
