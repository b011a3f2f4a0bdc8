# SPDX-License-Identifier: Apache-2.0
"""The `meshctl` command: parses, runs one command against the daemon, and ends with a code that tells what happened.

Nothing that is slow to import is imported at start (trio, asyncio, ssl, cryptography, rich, msgspec,
importlib.metadata), and of the commands only the one that is named: an order to fall silent must not wait for the
parsers of all others.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Iterable
from typing import Final, NoReturn, Protocol

from meshd.base.errors import MeshdError
from meshd.base.version import CONTROL_VERSION, __version__
from meshd.client.connection import DEFAULT_SOCKET, SOCKET_VARIABLE
from meshd.client.errors import ClientError, DaemonUnreachable, ReplyTimeout
from meshd.control.errors import EXIT_FAILED, ControlError
from meshd.ctl.arguments import Commands, Parser
from meshd.ctl.output import Output

EXIT_UNREACHABLE: Final = 3
EXIT_TIMEOUT: Final = 6
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141

_EPILOG: Final = f"""\
examples:
  meshctl status
  meshctl send home report.pdf --precedence FLASH --wait
  meshctl recv --out /srv/inbox --follow
  meshctl explain 3f9a
  meshctl emcon set quiet-radio --for 10min --reason "crossing the ridge"
  meshctl --json links | jq '.[].state'

exit codes: 0 ok, 1 failed, 2 usage, 3 daemon unreachable, 4 refused by policy or EMCON, 5 not found,
6 timeout, 7 unauthorised, 130 interrupted

The socket is --socket, else ${SOCKET_VARIABLE}, else {DEFAULT_SOCKET}.
"""


MODULES: Final = {
    "status": "node",
    "peers": "node",
    "links": "node",
    "send": "send",
    "recv": "recv",
    "bundles": "bundles",
    "explain": "bundles",
    "bundle": "bundle",
    "ping": "ping",
    "trace": "trace",
    "contacts": "contacts",
    "routes": "routes",
    "stream": "stream",
    "emcon": "emcon",
    "audit": "audit",
    "events": "events",
    "pki": "pki",
    "reload": "reload",
}
"""Every command and the module below `meshd.ctl.commands` that has it."""


class _CommandModule(Protocol):
    def add_parsers(self, commands: Commands, common: Parser) -> None: ...


class _UsageError(Exception):
    """The command line is wrong; what to say about it needs the parser of all commands."""


class _QuickParser(Parser):
    """Knows one command only."""

    def error(self, message: str) -> NoReturn:
        """Nothing is said yet."""
        raise _UsageError(message)


def build_parser() -> Parser:
    """Make the parser of all commands."""
    return _build(Parser, dict.fromkeys(MODULES.values()))


def _build(kind: type[Parser], modules: Iterable[str]) -> Parser:
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--socket", metavar="PATH", help="control socket of the daemon")
    common.add_argument("--json", action="store_true", help="write JSON, one object a line")
    parser = kind(
        prog="meshctl",
        description="Control meshd, the delay-tolerant mesh networking daemon.",
        epilog=_EPILOG,
        parents=[common],
    )
    parser.add_argument(
        "--version", action="version", version=f"meshctl {__version__} (control protocol {CONTROL_VERSION})"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in modules:
        module: _CommandModule = importlib.import_module(f"meshd.ctl.commands.{name}")
        module.add_parsers(commands, common)
    return parser


def _parse(argv: list[str]) -> argparse.Namespace:
    """Errors: SystemExit, when it is wrong, or only asks for help."""
    named = next((MODULES[word] for word in argv if word in MODULES), None)
    if named == "send":
        argv = importlib.import_module("meshd.ctl.commands.send").normalise_wait(argv)
    if named is not None:
        try:
            return _build(_QuickParser, [named]).parse_args(argv, argparse.Namespace(socket=None, json=False))
        except _UsageError:
            pass
    return build_parser().parse_args(argv, argparse.Namespace(socket=None, json=False))


def run(argv: list[str]) -> int:
    """Run one command and return the exit code."""
    args = _parse(argv)
    out = Output(as_json=args.json)
    try:
        code: int = args.run(args, out)
    except ControlError as error:
        out.error(error, error.name)
        return error.exit_code
    except DaemonUnreachable as error:
        out.error(error, "unreachable")
        return EXIT_UNREACHABLE
    except ReplyTimeout as error:
        out.error(error, "timeout")
        return EXIT_TIMEOUT
    except MeshdError as error:
        out.error(error, "failed")
        return EXIT_FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        out.error(ClientError(f"{error.filename or 'output'}: {error.strerror}"), "failed")
        return EXIT_FAILED
    return code


def main() -> int:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more when it ends; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return code


if __name__ == "__main__":
    sys.exit(main())
