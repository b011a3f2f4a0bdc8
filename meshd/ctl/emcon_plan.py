# SPDX-License-Identifier: Apache-2.0
"""`meshctl emcon plan`: when this node and others may send, by the plans that they advertise."""

from argparse import Namespace
from typing import Any

from meshd.ctl.arguments import Commands, Parser
from meshd.ctl.output import NOTHING, Output, instant
from meshd.ctl.reconnect import open_client


def add_parser(actions: Commands, common: Parser) -> None:
    """Add the action."""
    parser = actions.add_parser(
        "plan",
        parents=[common],
        help="transmit windows, own and others'",
        description="Show when bearers that radiate may send, here and at nodes that advertise their plans.",
    )
    parser.add_argument("node", metavar="NODE", nargs="?", help="only this one")
    parser.set_defaults(run=_run)


def _run(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        reply = client.emcon_plan(args.node)
    if out.as_json:
        out.data(reply)
    elif not reply["plans"]:
        out.line("no node has a plan that is known here")
    else:
        out.table(("NODE", "NOW", "MAY SEND FROM", "UNTIL"), [row for plan in reply["plans"] for row in _rows(plan)])
    return 0


def _rows(plan: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    name = plan["node"] + (" (here)" if plan["own"] else "")
    state = "silent" if plan["silent"] else "may send"
    windows = plan["windows"] or [{"begins_ms": None, "ends_ms": None}]
    return [
        (
            "" if number else name,
            "" if number else state,
            NOTHING if window["begins_ms"] is None else instant(window["begins_ms"]),
            NOTHING if window["ends_ms"] is None else instant(window["ends_ms"]),
        )
        for number, window in enumerate(windows)
    ]
