# SPDX-License-Identifier: Apache-2.0
"""`meshctl bundle dump|validate|create`: BPv7 bundles in files, without a daemon."""

from argparse import Namespace

from meshd.control.errors import EXIT_FAILED
from meshd.ctl.arguments import Commands, Parser
from meshd.ctl.commands import bundle_create
from meshd.ctl.commands.bundle_file import read_bundle_file
from meshd.ctl.output import Output


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bundle", parents=[common], help="make, check or show a bundle file", description="Bundles in files."
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
    validate = actions.add_parser(
        "validate",
        parents=[common],
        help="check a BPv7 bundle as strictly as the daemon; needs no daemon",
        description="Check a BPv7 bundle (RFC 9171) as strictly as the daemon does. One line says what is wrong with"
        " it, and the exit code is 1; or that it is sound.",
        epilog="examples:\n  meshctl bundle validate bundle.cbor\n  meshctl --json bundle validate - < bundle.cbor",
    )
    validate.add_argument("file", metavar="FILE", help="the bundle; - for standard input")
    validate.set_defaults(run=_validate)
    bundle_create.add_parser(actions, common)


def _dump(args: Namespace, out: Output) -> int:
    from meshd.bundle.dump import dump_untrusted, render_text

    dump = dump_untrusted(read_bundle_file(args.file))
    if out.as_json:
        out.data(dump)
    else:
        out.line(render_text(dump).rstrip("\n"))
    errors = dump["errors"]
    if errors:
        out.chatter(f"meshctl: {args.file}: {errors[0]}")
    return EXIT_FAILED if errors else 0


def _validate(args: Namespace, out: Output) -> int:
    from meshd.bundle.errors import BundleError
    from meshd.bundle.record import bundle_id_text
    from meshd.bundle.scan import scan_untrusted

    data = read_bundle_file(args.file)
    try:
        header = scan_untrusted(data)
    except BundleError as error:
        found = {"is_sound": False, "reason": error.reason, "message": str(error), "id": None}
        out.answer(found, f"{args.file}: {error.reason}: {error}")
        return EXIT_FAILED
    found = {"is_sound": True, "reason": None, "message": None, "id": bundle_id_text(header.id)}
    out.answer(found, f"{args.file}: sound")
    return 0
