# SPDX-License-Identifier: Apache-2.0
"""`meshctl status`, `peers` and `links`: how the node and its surroundings are."""

from argparse import Namespace
from typing import Any, Final

from meshd.ctl.arguments import Commands, Parser, instant_ms, node_id
from meshd.ctl.output import NOTHING, Output, duration, instant, size
from meshd.ctl.reconnect import open_client

FOUNTAIN_COLUMNS: Final = (
    "BEARER",
    "NEIGHBOUR",
    "PEER",
    "RATE",
    "RTT",
    "LOSS OUT",
    "LOSS IN",
    "REPAIR",
    "OBJECTS OUT / IN",
    "DAMAGED",
    "NOT SENT",
)

SCORE_COLUMNS: Final = (
    "BEARER",
    "NEIGHBOUR",
    "GOODPUT",
    "LOSS OUT",
    "LOSS IN",
    "DELAY",
    "AVAILABLE",
    "1 KiB TAKES",
    "1 MiB TAKES",
)


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the three commands."""
    status = commands.add_parser(
        "status",
        parents=[common],
        help="how the node is",
        description="Show how the node is: clock, store, links, messages, emission control.",
        epilog="example:\n  meshctl status --json | jq .queued",
    )
    status.set_defaults(run=_status)
    peers = commands.add_parser(
        "peers",
        parents=[common],
        help="the neighbours",
        description="List the neighbours: up, down, silent (by order: nothing is wrong with them), or one-way (heard, "
        "but does not hear this node).",
        epilog="examples:\n  meshctl peers\n  meshctl peers set-silent dpop2 --until 2026-05-01T10:00:00Z",
    )
    peers.set_defaults(run=_peers)
    actions = peers.add_subparsers(dest="action", metavar="ACTION")
    silent = actions.add_parser("set-silent", parents=[common], help="say that a neighbour is silent on order")
    silent.add_argument("node", metavar="NODE", type=node_id, help="the neighbour")
    silent.add_argument("--until", dest="until_ms", metavar="TIME", type=instant_ms, help="in Zulu")
    silent.set_defaults(run=_set_silent)
    speaking = actions.add_parser("clear-silent", parents=[common], help="say that it is not")
    speaking.add_argument("node", metavar="NODE", type=node_id, help="the neighbour")
    speaking.set_defaults(run=_clear_silent)
    links = commands.add_parser(
        "links",
        parents=[common],
        help="the links",
        description="List the links: a bearer and one neighbour on it; and what each is expected to take for a bundle.",
        epilog="example:\n  meshctl --json links | jq '.links[].state'",
    )
    links.add_argument("--verbose", action="store_true", help="what fountain links measure, too")
    links.set_defaults(run=_links)


def _status(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        status = client.status()
    if out.as_json:
        out.data(status)
    else:
        out.pairs(list(_status_rows(status)))
    return 0


def _audit_text(audit: dict[str, Any] | None) -> str:
    """The head of the audit log: whoever notes it can prove later that nothing before it was changed."""
    if audit is None or audit["head"] is None:
        return str((audit or {}).get("problem") or NOTHING)
    return f"{audit['head']} (takes no entries: {audit['problem']})" if audit["problem"] else str(audit["head"])


def _status_rows(status: dict[str, Any]) -> list[tuple[str, Any]]:
    store, links, queued, emcon = status["store"], status["links"], status["queued"], status["emcon"]
    clock, messages = status["clock"], status["messages"]
    trust = "trusted" if clock["trusted"] else "not trusted"
    postures = ", ".join(f"{bearer} {posture}" for bearer, posture in emcon["postures"].items())
    return [
        ("node", status["node"]),
        ("version", status["version"]),
        ("up for", f"{duration(status['uptime_s'])} (process {status['pid']})"),
        ("clock", f"{instant(clock['time_ms'])}, {trust}"),
        ("emcon", f"{emcon['profile'] or NOTHING}: {postures or 'no bearers'}"),
        ("audit", _audit_text(status.get("audit"))),
        ("links", f"{links['up']} of {links['total']} up"),
        ("tls", ", ".join(f"{bearer} {policy}" for bearer, policy in status["tls"].items()) or NOTHING),
        ("queued", f"{queued['bundles']} bundles, {size(queued['bytes'])}"),
        ("store", f"{store['bundles']} bundles, {size(store['bytes'])} of {size(store['quota_bytes'])}"),
        ("messages", ", ".join(f"{number} {state}" for state, number in messages.items()) or NOTHING),
        ("memory", size(status["memory_bytes"])),
    ]


def _peers(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        peers = client.peers()
    if out.as_json:
        out.data({"peers": peers})
        return 0
    rows = [
        (
            peer["node"],
            peer["state"],
            ", ".join(f"{bearer['bearer']} {bearer['state']}" for bearer in peer["bearers"]),
            peer["queued_bundles"],
            size(peer["queued_bytes"]),
            _ago(peer["last_heard_s"]),
        )
        for peer in peers
    ]
    out.table(("NODE", "STATE", "BEARERS", "QUEUED", "BYTES", "LAST HEARD"), rows)
    return 0


def _set_silent(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        client.set_silent(args.node, args.until_ms)
    out.chatter(f"{args.node} counts as silent")
    return 0


def _clear_silent(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        client.clear_silent(args.node)
    out.chatter(f"{args.node} does not count as silent any more")
    return 0


def _links(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        links = client.links()
    if out.as_json:
        out.data({"links": links})
        return 0
    rows = [
        (
            link["bearer"],
            link["neighbour"],
            link["state"],
            link["posture"],
            duration(link["since_s"]),
            f"{link['queued_bundles']} / {size(link['queued_bytes'])}",
            f"{link['sent_bundles']} / {size(link['sent_bytes'])}",
            f"{link['received_bundles']} / {size(link['received_bytes'])}",
            link["reason"],
        )
        for link in links
    ]
    columns = ("BEARER", "NEIGHBOUR", "STATE", "POSTURE", "FOR", "QUEUED", "SENT", "RECEIVED", "REASON")
    out.table(columns, rows)
    out.line("")
    out.table(SCORE_COLUMNS, [_score_row(link) for link in links])
    if args.verbose:
        out.line("")
        out.table(FOUNTAIN_COLUMNS, [_fountain_row(link) for link in links if link["fountain"]])
    return 0


def _score_row(link: dict[str, Any]) -> tuple[Any, ...]:
    score = link["score"]
    return (
        link["bearer"],
        link["neighbour"],
        f"{score['rate_bps'] / 1000:.4g} kbit/s",
        f"{score['loss_out']:.1%}",
        f"{score['loss_in']:.1%}",
        f"{score['owd_s'] * 1000:.1f} ms",
        f"{score['availability']:.1%}",
        f"{score['expected_1kib_s']:.3f} s",
        f"{score['expected_1mib_s']:.3f} s",
    )


def _fountain_row(link: dict[str, Any]) -> tuple[Any, ...]:
    figures = link["fountain"]
    return (
        link["bearer"],
        link["neighbour"],
        figures["peer"],
        f"{figures['rate_bps'] / 1000:.4g} kbit/s",
        f"{figures['rtt_s'] * 1000:.0f} ms",
        f"{figures['loss_out']:.1%}",
        f"{figures['loss_in']:.1%}",
        f"{figures['repair_overhead']:.1%}",
        f"{figures['open_objects_out']} / {figures['open_objects_in']}",
        figures["decode_failures"],
        figures["lost_here"],
    )


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration(seconds)} ago"
