# SPDX-License-Identifier: Apache-2.0
"""`meshctl pki`: a mission's authority, its nodes' certificates and keys, and what is revoked. Needs no daemon.

What makes certificates is slow to import and stands in `ctl/pki_folder.py`, imported by these commands alone.
"""

from argparse import ArgumentTypeError, Namespace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meshd.ctl.arguments import Commands, Parser, duration_ms
from meshd.ctl.output import Output

if TYPE_CHECKING:
    from meshd.bundle.eid import Eid
    from meshd.ctl.pki_folder import PkiFolder

KEY_KINDS: Final = ("ed25519", "p384")
ROLL_STEPS: Final = ("add", "use", "drop")
DAY_MS: Final = 24 * 3600 * 1000
LIFETIME_MAX_DAYS: Final = 36_500
FOLDER_DEFAULT: Final = "pki"


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the commands."""
    parser = commands.add_parser(
        "pki",
        parents=[common],
        help="make and revoke certificates",
        description="A mission's authority: certificates and keys of its nodes. Needs no daemon.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_init(actions, common)
    _add_issue(actions, common)
    _add_show(actions, common)
    _add_revoke(actions, common)
    _add_roll(actions, common)


def _add_init(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser(
        "init",
        parents=[common],
        help="make the mission's authority",
        description="Make the mission's authority, its revocation list and its link keys in a folder: guard it.",
        epilog="example:\n  meshctl pki init --dir /media/safe/exercise --name 'Exercise 7'",
    )
    _add_folder(parser)
    parser.add_argument("--name", metavar="TEXT", default="meshd mission", help="for people (default: %(default)s)")
    _add_key(parser)
    _add_lifetime(parser, 3650)
    _add_crl_lifetime(parser)
    _add_force(parser)
    parser.set_defaults(run=_init)


def _add_issue(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser(
        "issue",
        parents=[common],
        help="make a node's certificate and keys",
        description="Make what one node needs in a folder of its own, to be moved to the node as its [tls] files.",
        epilog="example:\n  meshctl pki issue --dir /media/safe/exercise dpop1",
    )
    parser.add_argument("node", metavar="NODE", type=_node_id, help="node ID, such as dtn://dpop1/; or dpop1 alone")
    _add_folder(parser)
    _add_key(parser)
    _add_lifetime(parser, 365)
    _add_force(parser)
    parser.set_defaults(run=_issue)


def _add_show(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser(
        "show", parents=[common], help="what there is", description="Show the authority and what it has issued."
    )
    _add_folder(parser)
    parser.set_defaults(run=_show)


def _add_revoke(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser(
        "revoke",
        parents=[common],
        help="revoke certificates, renew the list",
        description="Revoke a certificate by its serial number, or all that a node has; without either renew the list.",
        epilog="example:\n  meshctl pki revoke --dir /media/safe/exercise dpop1\n"
        "Then give crl.pem, link.peers and signing.peers to every node.",
    )
    parser.add_argument("whom", metavar="WHOM", nargs="?", default="", help="node ID, dpop1 alone, or serial number")
    _add_folder(parser)
    _add_crl_lifetime(parser)
    parser.set_defaults(run=_revoke)


def _add_roll(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser(
        "roll",
        parents=[common],
        help="change the link key, one step",
        description="Change the key of radio links without loss: add an epoch, use it, drop the earlier ones. "
        "After each step link.key goes to every node, and `meshctl reload` there makes it count, before the next step.",
        epilog="example:\n  meshctl pki roll --dir /media/safe/exercise add",
    )
    parser.add_argument("step", metavar="STEP", choices=ROLL_STEPS, help="add, use or drop")
    _add_folder(parser)
    parser.set_defaults(run=_roll)


def _add_folder(parser: Parser) -> None:
    parser.add_argument(
        "--dir", metavar="FOLDER", default=FOLDER_DEFAULT, help="the authority's (default: %(default)s)"
    )


def _add_key(parser: Parser) -> None:
    parser.add_argument("--key", metavar="KIND", choices=KEY_KINDS, default=KEY_KINDS[0], help="ed25519 or p384")


def _add_lifetime(parser: Parser, days: int) -> None:
    help_text = f"how long it is valid (default: {days} d)"
    parser.add_argument("--lifetime", metavar="DURATION", type=_lifetime_ms, default=days * DAY_MS, help=help_text)


def _add_crl_lifetime(parser: Parser) -> None:
    help_text = "when the next revocation list is due (default: 30 d)"
    parser.add_argument("--crl-lifetime", metavar="DURATION", type=_lifetime_ms, default=30 * DAY_MS, help=help_text)


def _add_force(parser: Parser) -> None:
    parser.add_argument("--force", action="store_true", help="replace what is there")


def _node_id(text: str) -> "Eid":
    """The type of NODE: a node ID, or what stands between the slashes of one."""
    from meshd.bundle.eid import check_node_id, parse_eid
    from meshd.bundle.errors import EidError

    try:
        return check_node_id(parse_eid(text if ":" in text else f"dtn://{text}/"))
    except EidError as error:
        raise ArgumentTypeError(str(error)) from error


def _lifetime_ms(text: str) -> int:
    """The type of the options that say how long something is valid."""
    number = duration_ms(text)
    if not DAY_MS // 24 <= number <= LIFETIME_MAX_DAYS * DAY_MS:
        raise ArgumentTypeError(f"{text!r} is out of range: 1 h to {LIFETIME_MAX_DAYS} d are possible")
    return number


def _open(args: Namespace) -> "PkiFolder":
    from meshd.ctl.pki_folder import PkiFolder, utc_now

    return PkiFolder(Path(args.dir), utc_now())


def _init(args: Namespace, out: Output) -> int:
    folder = _open(args)
    lifetime, crl_lifetime = timedelta(milliseconds=args.lifetime), timedelta(milliseconds=args.crl_lifetime)
    row = folder.init(args.name, args.key, lifetime, crl_lifetime, force=args.force)
    out.answer(row, f"authority {row['name']} in {row['folder']}, valid until {row['not_after']}: guard ca.key")
    return 0


def _issue(args: Namespace, out: Output) -> int:
    lifetime = timedelta(milliseconds=args.lifetime)
    row = _open(args).issue(args.node, args.key, lifetime, force=args.force)
    out.answer(row, f"{row['node']} in {row['folder']}, valid until {row['not_after']}")
    return 0


def _show(args: Namespace, out: Output) -> int:
    found = _open(args).show()
    if out.as_json:
        out.data(found)
        return 0
    certificates = found.pop("certificates")
    out.pairs([(name.replace("_", " "), value) for name, value in found.items()])
    columns = ("SERIAL", "NODE", "STATE", "UNTIL")
    rows = [(row["serial"], ", ".join(row["nodes"]), row["state"], row["not_after"]) for row in certificates]
    out.table(columns, rows)
    return 0


def _revoke(args: Namespace, out: Output) -> int:
    is_serial = len(args.whom) > 30 and set(args.whom) <= set("0123456789abcdef")
    whom = args.whom if is_serial or not args.whom or ":" in args.whom else f"dtn://{args.whom}/"
    rows = _open(args).revoke(whom, timedelta(milliseconds=args.crl_lifetime))
    if out.as_json:
        out.data({"revoked": rows})
        return 0
    for row in rows:
        out.line(f"revoked {row['serial']} of {', '.join(row['nodes'])}")
    out.chatter(
        "the lists are renewed: give crl.pem, link.peers and signing.peers to every node, then `meshctl reload` there"
    )
    return 0


def _roll(args: Namespace, out: Output) -> int:
    row = _open(args).roll(args.step)
    epochs = ", ".join(map(str, row["epochs"]))
    out.answer(
        row, f"epochs {epochs}, in use {row['current']}: give link.key to every node, then `meshctl reload` there"
    )
    return 0
