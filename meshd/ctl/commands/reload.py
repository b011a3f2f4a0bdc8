# SPDX-License-Identifier: Apache-2.0
"""`meshctl reload`: let the daemon read its configuration again."""

from argparse import Namespace

from meshd.ctl.arguments import Commands, Parser
from meshd.ctl.output import Output
from meshd.ctl.reconnect import open_client


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "reload",
        parents=[common],
        help="read the configuration again",
        description="Let meshd read its configuration again. A bad file changes nothing and is an error (exit code 1).",
        epilog="example:\n  meshd --check-config /etc/meshd/meshd.toml && meshctl reload",
    )
    parser.set_defaults(run=_reload)


def _reload(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        reply = client.reload()
    if out.as_json:
        out.data(reply)
        return 0
    out.line("\n".join(f"changed: {key}" for key in reply["changed"]) or "nothing changed")
    for key in reply["needs_restart"]:
        out.line(f"needs a restart of meshd: {key}")
    return 0
