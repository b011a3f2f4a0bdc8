# SPDX-License-Identifier: Apache-2.0
"""`meshctl bundle dump`: any BPv7 bundle as readable text or JSON, without a daemon."""

import sys
from argparse import Namespace
from typing import BinaryIO, Final

from meshd.client.errors import ClientError
from meshd.control.errors import EXIT_FAILED
from meshd.ctl.arguments import Commands, Parser
from meshd.ctl.output import Output

DUMPED_FILE_MAX_BYTES: Final = 256 * 1024 * 1024
STANDARD_INPUT: Final = "-"


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bundle", parents=[common], help="look into a bundle file", description="Look into a bundle file."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    dump = actions.add_parser(
        "dump",
        parents=[common],
        help="show a BPv7 bundle; needs no daemon",
        description="Show a BPv7 bundle (RFC 9171). Exit code 1 when it is malformed or a CRC is wrong.",
        epilog="examples:\n  meshctl bundle dump bundle.cbor\n  meshctl --json bundle dump - < bundle.cbor",
    )
    dump.add_argument("file", metavar="FILE", help="the bundle; - for standard input")
    dump.set_defaults(run=_dump)


def _dump(args: Namespace, out: Output) -> int:
    from meshd.bundle.dump import dump_untrusted, render_text

    dump = dump_untrusted(_read(args.file))
    if out.as_json:
        out.data(dump)
    else:
        out.line(render_text(dump).rstrip("\n"))
    errors = dump["errors"]
    if errors:
        out.chatter(f"meshctl: {args.file}: {errors[0]}")
    return EXIT_FAILED if errors else 0


def _read(name: str) -> bytes:
    if name == STANDARD_INPUT:
        return _read_bounded(sys.stdin.buffer, "standard input")
    with open(name, "rb") as file:
        return _read_bounded(file, name)


def _read_bounded(file: BinaryIO, name: str) -> bytes:
    data = file.read(DUMPED_FILE_MAX_BYTES + 1)
    if len(data) > DUMPED_FILE_MAX_BYTES:
        raise ClientError(f"{name} is above {DUMPED_FILE_MAX_BYTES} bytes: too large to be shown")
    return data
