# SPDX-License-Identifier: Apache-2.0
"""`meshctl contacts ls|add|rm|import|export`: the contact plan, by which bundles are routed ahead of time."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, Final

from meshd.control.methods import CONTACTS_LISTED_DEFAULT, CONTACTS_LISTED_MAX, PLAN_FORMS
from meshd.ctl.arguments import Commands, Parser, count, node_id
from meshd.ctl.output import NOTHING, Output, instant
from meshd.ctl.reconnect import open_client

STANDARD_STREAM: Final = "-"
_ION_SUFFIXES: Final = {".ion", ".ionrc", ".ionadmin", ".contacts", ".rc"}
_EPILOG: Final = """\
examples:
  meshctl contacts ls --to home
  meshctl contacts add dpop1 home --bearer satcom0 --start 2026-05-01T10:00:00Z --end 2026-05-01T11:00:00Z \\
      --rate "2 Mbit/s" --delay "0.27 s"
  meshctl contacts rm 3f9a1c0b
  meshctl contacts import plan.toml --replace
  meshctl contacts import contacts.ionrc --node 1=dtn://dpop1/ --node 2=dtn://home/
  meshctl contacts export > plan.toml
"""


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "contacts",
        parents=[common],
        help="show or edit the contact plan",
        description="Show or edit the contact plan: when which node can send to which other one.",
        epilog=_EPILOG,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_ls(actions, common)
    _add_add(actions, common)
    _add_rm(actions, common)
    _add_import(actions, common)
    _add_export(actions, common)


def _add_ls(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("ls", parents=[common], help="list the plan", epilog=_EPILOG)
    parser.add_argument("--from", dest="sender", metavar="NODE", type=node_id, help="only contacts in which it sends")
    parser.add_argument(
        "--to", dest="receiver", metavar="NODE", type=node_id, help="only contacts in which it receives"
    )
    parser.add_argument(
        "--limit", metavar="N", type=count, default=CONTACTS_LISTED_DEFAULT, help="list at most so many"
    )
    parser.set_defaults(run=_ls)


def _add_add(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("add", parents=[common], help="add a contact", epilog=_EPILOG)
    parser.add_argument("sender", metavar="FROM", type=node_id, help="node that sends")
    parser.add_argument("receiver", metavar="TO", type=node_id, help="node that receives")
    parser.add_argument("--bearer", metavar="NAME", help="the sender's bearer")
    parser.add_argument("--start", metavar="TIME", default="+0 s", help="UTC or from now on (+90 s); now if left out")
    parser.add_argument("--end", metavar="TIME", help="UTC or from now on; none if left out")
    parser.add_argument("--rate", metavar="RATE", required=True, help="such as '2 Mbit/s'")
    parser.add_argument("--delay", metavar="D", default="0 s", help="one way, such as '0.27 s'")
    parser.add_argument("--loss", metavar="SHARE", default="0 %", help="of what is sent, such as '2 %%'")
    parser.add_argument("--confidence", metavar="SHARE", default="100 %", help="that it takes place, such as '90 %%'")
    parser.add_argument("--radiates", action="store_true", help="the sender can be located by it")
    parser.add_argument("--new-nodes", action="store_true", help="allow nodes that are not known yet")
    parser.set_defaults(run=_add)


def _add_rm(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("rm", parents=[common], help="remove contacts", epilog=_EPILOG)
    parser.add_argument("refs", metavar="REF", nargs="*", help="names of contacts, as ls shows them")
    parser.add_argument("--from", dest="sender", metavar="NODE", type=node_id, help="all in which it sends")
    parser.add_argument("--to", dest="receiver", metavar="NODE", type=node_id, help="all in which it receives")
    parser.add_argument("--all", action="store_true", help="the whole plan")
    parser.set_defaults(run=_rm)


def _add_import(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("import", parents=[common], help="add contacts from a file", epilog=_EPILOG)
    parser.add_argument("file", metavar="FILE", help="a plan, - for standard input")
    _add_form(parser, "by the file's name")
    parser.add_argument("--replace", action="store_true", help="in place of the plan, not beside it")
    parser.add_argument("--new-nodes", action="store_true", help="allow nodes that are not known yet")
    parser.set_defaults(run=_import)


def _add_export(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("export", parents=[common], help="write the plan as text", epilog=_EPILOG)
    _add_form(parser, "toml")
    parser.set_defaults(run=_export)


def _add_form(parser: Parser, default: str) -> None:
    parser.add_argument("--form", choices=PLAN_FORMS, help=f"TOML or commands of ION; {default} if left out")
    parser.add_argument(
        "--node", dest="nodes", metavar="N=NODE", action="append", help="node that a number of the ION form means"
    )


def _ls(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        params = {"limit": min(args.limit, CONTACTS_LISTED_MAX), "from": args.sender, "to": args.receiver}
        reply = client.contacts(params)
    if out.as_json:
        for contact in reply["contacts"]:
            out.data(contact)
        return 0
    out.table(
        ("REF", "FROM", "TO", "BEARER", "STATE", "START", "END", "RATE", "DELAY", "LOSS", "CONFIDENCE", "RADIATES"),
        [_row(contact) for contact in reply["contacts"]],
    )
    left = reply["total"] - len(reply["contacts"])
    if left:
        out.chatter(f"and {left} more: see --limit, --from and --to")
    return 0


def _row(contact: dict[str, Any]) -> tuple[Any, ...]:
    from meshd.base.units import render_rate_bps

    return (
        contact["ref"],
        contact["from"],
        contact["to"],
        contact["bearer"],
        contact["state"],
        instant(contact["start_ms"]),
        NOTHING if contact["end_ms"] is None else instant(contact["end_ms"]),
        render_rate_bps(contact["rate_bps"]),
        f"{contact['delay_s']:g} s",
        f"{contact['loss'] * 100:g} %",
        f"{contact['confidence'] * 100:g} %",
        contact["radiates"],
    )


def _add(args: Namespace, out: Output) -> int:
    names = ("bearer", "start", "end", "rate", "delay", "loss", "confidence", "radiates", "new_nodes")
    params = {"from": args.sender, "to": args.receiver, **{name: getattr(args, name) for name in names}}
    with open_client(args) as client:
        reply = client.add_contact(params)
    out.answer(reply, f"added: {reply['ref']}")
    return 0


def _rm(args: Namespace, out: Output) -> int:
    params = {"refs": args.refs or None, "from": args.sender, "to": args.receiver, "all": args.all}
    with open_client(args) as client:
        reply = client.remove_contacts(params)
    out.answer(reply, f"removed: {reply['removed']}, left: {reply['total']}")
    return 0


def _import(args: Namespace, out: Output) -> int:
    is_stream = args.file == STANDARD_STREAM
    data = sys.stdin.buffer.read() if is_stream else Path(args.file).read_bytes()
    form = args.form or ("ion" if Path(args.file).suffix in _ION_SUFFIXES else "toml")
    options = {"form": form, "nodes": args.nodes, "replace": args.replace, "new_nodes": args.new_nodes}
    with open_client(args) as client:
        reply = client.import_contacts(data, name="standard input" if is_stream else args.file, **options)
    for warning in reply["warnings"]:
        out.chatter(f"meshctl: {warning}")
    out.answer(reply, f"contacts of the plan: {reply['total']}")
    return 0


def _export(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        data, warnings = client.export_contacts(form=args.form or "toml", nodes=args.nodes)
    for warning in warnings:
        out.chatter(f"meshctl: {warning}")
    if out.as_json:
        out.data({"plan": data.decode()})
    elif data:
        out.line(data.decode().removesuffix("\n"))
    return 0
