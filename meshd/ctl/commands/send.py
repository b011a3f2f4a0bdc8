# SPDX-License-Identifier: Apache-2.0
"""`meshctl send`: one file or standard input as one message.

As soon as the daemon has stored the message its ID is printed: it is sent, whatever happens to this program or to the
daemon afterwards. Waiting for a state comes after that and outlives a restart of the daemon.
"""

import os
import stat
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import BinaryIO, Final

from meshd.base.errors import MeshdError
from meshd.client.errors import ClientError, ReplyTimeout
from meshd.client.replies import MessageState, SentMessage
from meshd.client.transfer import send_file
from meshd.control.errors import ERRORS, EXIT_FAILED, ControlError
from meshd.control.words import PRECEDENCE_NAMES, WAIT_STATES
from meshd.ctl.arguments import Commands, Parser, add_precedence, destination, duration_ms, duration_s
from meshd.ctl.output import Output, size
from meshd.ctl.reconnect import Deadline, Patience, open_client

STANDARD_INPUT: Final = "-"
DEFAULT_WAIT_STATE: Final = "delivered"

_EPILOG: Final = """\
DEST is a node (home: its application inbox), a node and an application (home/app), or a full endpoint ID
(dtn://home/app). Durations have a unit: 90s, 10min, 24h, 7d.
The message ID goes to stdout as soon as the message is stored: from then on it is sent, whatever happens here.

examples:
  meshctl send home report.pdf
  meshctl send dtn://home/orders order.txt --precedence FLASH --lifetime 2h --wait
  tar c photos | meshctl send home/archive - --wait forwarded --timeout 10min
"""


def normalise_wait(argv: Sequence[str]) -> list[str]:
    """Give a bare `--wait` its state, so that what follows it is not taken for one."""
    end = argv.index("--") if "--" in argv else len(argv)
    words = list(argv)
    for index in range(end):
        if words[index] == "--wait" and (index + 1 == len(words) or words[index + 1] not in WAIT_STATES):
            words[index] = f"--wait={DEFAULT_WAIT_STATE}"
    return words


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "send", parents=[common], help="send a file", description="Send a file as one message.", epilog=_EPILOG
    )
    parser.add_argument("destination", metavar="DEST", type=destination, help="where to")
    parser.add_argument("file", metavar="FILE", help="the file; - for standard input")
    add_precedence(parser, f"one of {', '.join(PRECEDENCE_NAMES)} (default ROUTINE)")
    parser.add_argument("--lifetime", metavar="D", type=duration_ms, help="drop it when undelivered for this long")
    parser.add_argument(
        "--wait", choices=WAIT_STATES, metavar="STATE", help="wait until it is forwarded, or (default) delivered"
    )
    parser.add_argument("--timeout", metavar="D", type=duration_s, help="wait no longer than this (exit code 6)")
    parser.add_argument("--no-report", action="store_true", help="ask for no delivery report")
    parser.set_defaults(run=_run)


def _run(args: Namespace, out: Output) -> int:
    if args.wait == "delivered" and args.no_report:
        raise ControlError("bad_params", "--wait delivered needs the delivery report that --no-report forbids")
    sent = _send(args, out)
    if out.as_json:
        out.data(sent._asdict())
    else:
        out.line(sent.message)
        out.chatter(f"{size(sent.size_bytes)} {sent.state} for {args.destination}, short reference {sent.ref}")
    if args.wait is None:
        return 0
    return _report_state(_wait(args, out, sent), out, args.wait)


def _send(args: Namespace, out: Output) -> SentMessage:
    with _open_file(args.file) as file, open_client(args) as client:
        status = os.fstat(file.fileno())
        with out.progress(f"sending {args.file}") as progress:
            return send_file(
                client,
                args.destination,
                file,
                size_bytes=status.st_size if stat.S_ISREG(status.st_mode) and file.seekable() else None,
                precedence=args.precedence,
                lifetime_ms=args.lifetime,
                report=not args.no_report,
                progress=progress,
            )


def _open_file(name: str) -> BinaryIO:
    if name == STANDARD_INPUT:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    return open(name, "rb")


def _wait(args: Namespace, out: Output, sent: SentMessage) -> MessageState:
    deadline, patience = Deadline(args.timeout), Patience(out)
    while True:
        try:
            with open_client(args) as client:
                patience.reset()
                return client.wait_message(sent.message, args.wait, deadline.remaining_s())
        except (ControlError, ClientError) as error:
            _explain_timeout(error, args.wait, sent)
            patience.wait(error, deadline)


def _explain_timeout(error: MeshdError, state: str, sent: SentMessage) -> None:
    if isinstance(error, ReplyTimeout) or (isinstance(error, ControlError) and error.name == "timeout"):
        raise ControlError(
            "timeout", f"message {sent.ref} is sent, and not {state} yet; see: meshctl explain {sent.ref}"
        ) from error


def _report_state(state: MessageState, out: Output, wanted: str) -> int:
    """Say where the message got to; the exit code tells whether that is what was wanted."""
    if out.as_json:
        out.data(state._asdict())
    else:
        out.chatter(f"{state.state}: {state.reason}" if state.reason else state.state)
    if state.state in WAIT_STATES[WAIT_STATES.index(wanted) :]:
        return 0
    return ERRORS["refused_by_policy"].exit_code if state.state == "refused" else EXIT_FAILED
