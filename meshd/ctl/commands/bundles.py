# SPDX-License-Identifier: Apache-2.0
"""`meshctl bundles ls|show|cancel` and `explain`: the bundles that the node holds."""

from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from meshd.control.methods import BUNDLES_LISTED_DEFAULT
from meshd.ctl.arguments import Commands, Parser, count, destination
from meshd.ctl.output import Output, instant, size
from meshd.ctl.reconnect import open_client

_BUNDLE_HELP: Final = "full ID, or the beginning (4 digits or more) of the short reference"
_TIMES: Final = ("expiry_ms", "received_ms")


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add both commands."""
    parser = commands.add_parser(
        "bundles",
        parents=[common],
        help="list, show or cancel bundles",
        description="List, show or cancel the bundles that the node holds.",
        epilog="examples:\n  meshctl bundles ls --to home\n  meshctl bundles show 3f9a\n  meshctl bundles cancel 3f9a",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("ls", parents=[common], help="list them")
    listing.add_argument("--to", metavar="DEST", type=destination, help="only those for this destination")
    listing.add_argument("--state", metavar="STATE", help="only those in this state")
    listing.add_argument("--limit", metavar="N", type=count, default=BUNDLES_LISTED_DEFAULT, help="at most this many")
    listing.set_defaults(run=_list)
    for name, help_text, function in (
        ("show", "all about one bundle", _show),
        ("cancel", "delete a bundle, or all parts of a message, from this node", _cancel),
    ):
        action = actions.add_parser(name, parents=[common], help=help_text, description=help_text)
        action.add_argument("bundle", metavar="BUNDLE", help=_BUNDLE_HELP)
        action.set_defaults(run=function)
    explain = commands.add_parser(
        "explain",
        parents=[common],
        help="why a bundle is where it is",
        description="Say in words why a bundle is where it is and what it waits for.",
        epilog="example:\n  meshctl explain 3f9a",
    )
    explain.add_argument("bundle", metavar="BUNDLE", help=_BUNDLE_HELP)
    explain.set_defaults(run=_explain)


def _list(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        reply = client.bundles(limit=args.limit, destination=args.to, state=args.state)
    if out.as_json:
        out.data(reply)
        return 0
    rows = [
        (
            row["ref"],
            row["state"],
            row["precedence"],
            row["size_bytes"],
            row["source"],
            row["destination"],
            _part(row["part"]),
            instant(row["expiry_ms"]),
        )
        for row in reply["bundles"]
    ]
    out.table(("REF", "STATE", "PRECEDENCE", "BYTES", "SOURCE", "DESTINATION", "PART", "EXPIRES"), rows)
    if reply["total"] > len(rows):
        out.chatter(f"{len(rows)} of {reply['total']} bundles; --limit shows more")
    return 0


def _part(part: dict[str, Any] | None) -> str | None:
    if part is None:
        return None
    return f"{part['index']} (last)" if part["last"] else str(part["index"])


def _show(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        bundle = client.show_bundle(args.bundle)
    if out.as_json:
        out.data(bundle)
        return 0
    out.pairs([(_label(key), _value(key, value)) for key, value in bundle.items() if key != "history"])
    _write_history(bundle.get("history", ()), out)
    return 0


def _label(key: str) -> str:
    return key.removesuffix("_ms").removesuffix("_bytes").replace("_", " ")


def _value(key: str, value: Any) -> Any:
    if key in _TIMES:
        return instant(value)
    if key == "size_bytes":
        return size(value)
    if key == "part":
        return _part(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _cancel(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        cancelled = client.cancel_bundle(args.bundle)
    if out.as_json:
        out.data({"cancelled": cancelled})
    else:
        out.chatter(f"{cancelled} bundle{'' if cancelled == 1 else 's'} cancelled")
    return 0


def _explain(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        explanation = client.explain_bundle(args.bundle)
    if out.as_json:
        out.data(explanation)
        return 0
    out.line(f"{explanation['id']} ({explanation['ref']}) is {explanation['state']}: {explanation['summary']}")
    for step in explanation["steps"]:
        out.line(f"  {step}")
    _write_history(explanation["history"], out)
    return 0


def _write_history(history: Sequence[dict[str, Any]], out: Output) -> None:
    if history:
        out.line("history:")
    for item in history:
        out.line(f"  {instant(item['time_ms'])}  {item['what']}")
