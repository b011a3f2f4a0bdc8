# SPDX-License-Identifier: Apache-2.0
"""`meshctl routes`: every way that a bundle could take from this node, with its arithmetic."""

from argparse import Namespace
from typing import Any, Final

from meshd.client.errors import ClientError
from meshd.control.methods import ROUTES_LIFETIME_MS, ROUTES_TO_MAX
from meshd.ctl.arguments import Commands, Parser, add_precedence, duration_ms, node_id, size_bytes
from meshd.ctl.output import NOTHING, Output, instant
from meshd.ctl.reconnect import open_client

_EPILOG: Final = """\
examples:
  meshctl routes
  meshctl routes to home --size "5 MB" --precedence FLASH
  meshctl routes to dpop4 --at 2026-05-01T10:00:00Z
"""


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "routes",
        parents=[common],
        help="which ways bundles take, and why",
        description="Every way that a bundle could take from this node: when it would arrive, how sure that is, and why"
        " one is preferred to the others.",
        epilog=_EPILOG,
    )
    parser.add_argument("to", metavar="to NODE", nargs="*", help="only to this node, and hop by hop")
    parser.add_argument("--size", metavar="SIZE", type=size_bytes, default=1024, help="of the bundle (default 1 KiB)")
    add_precedence(parser)
    parser.add_argument("--at", metavar="TIME", help="UTC or from now on (+90 s); now if left out")
    parser.add_argument(
        "--lifetime", metavar="D", type=duration_ms, default=ROUTES_LIFETIME_MS, help="of the bundle (default 24 h)"
    )
    parser.set_defaults(run=_routes)


def _routes(args: Namespace, out: Output) -> int:
    node = _node(args.to)
    params = {
        "to": node,
        "size_bytes": args.size,
        "precedence": args.precedence,
        "at": args.at,
        "lifetime_ms": args.lifetime,
    }
    with open_client(args) as client:
        reply = client.routes(params)
    if out.as_json:
        for route in reply["routes"]:
            out.data(route)
        return 0
    out.table(
        ("TO", "RANK", "STATE", "VIA", "ARRIVES", "TAKES", "PROBABILITY", "WHY"),
        [_row(route) for route in reply["routes"]],
    )
    if node is not None:
        for route in reply["routes"]:
            _write_hops(route, out)
    if reply["nodes"] > ROUTES_TO_MAX and node is None:
        out.chatter(f"{ROUTES_TO_MAX} of {reply['nodes']} nodes; name one to see its routes")
    return 0


def _node(words: list[str]) -> str | None:
    """`to home`, or `home`."""
    if not words:
        return None
    if len(words) == 1 and words[0] != "to":
        return node_id(words[0])
    if len(words) == 2 and words[0] == "to":
        return node_id(words[1])
    raise ClientError(f"{' '.join(words)!r}: write `meshctl routes to NODE`, or `meshctl routes` for all nodes")


def _row(route: dict[str, Any]) -> tuple[Any, ...]:
    if not route["hops"]:
        return route["to"], route["rank"], route["state"], NOTHING, NOTHING, NOTHING, NOTHING, route["why"]
    return (
        route["to"],
        route["rank"],
        route["state"],
        route["via"],
        instant(route["arrival_ms"]),
        f"{route['takes_s']:.1f} s",
        f"{route['confidence']:.2f}",
        route["why"],
    )


def _write_hops(route: dict[str, Any], out: Output) -> None:
    from meshd.base.units import render_rate_bps

    for number, hop in enumerate(route["hops"], 1):
        bearer = f" on {hop['bearer']}" if hop["bearer"] else ""
        out.line(
            f"  {route['rank']}.{number} {hop['from']} to {hop['to']}{bearer} ({hop['kind']},"
            f" probability {hop['confidence']:.2f}): waits {hop['wait_s']:.1f} s behind {hop['before_bytes']} bytes,"
            f" {hop['send_s']:.3f} s at {render_rate_bps(hop['rate_bps'])}, {hop['delay_s']:.3f} s under way,"
            f" there {instant(hop['arrival_ms'])}"
        )
