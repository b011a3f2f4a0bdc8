# SPDX-License-Identifier: Apache-2.0
"""`meshctl trace`: the way of one bundle to a node, hop by hop, from what the nodes on it report.

Reports come in any order, and some may not come: each names the node before it, so the way is put together from this
node onwards, and what does not join it is shown behind it.
"""

import os
import time
from argparse import Namespace
from typing import Any, Final, NamedTuple

from meshd.bundle.errors import BundleError
from meshd.bundle.trace_report import (
    REPORT_MAX_BYTES,
    TRACE_NAME,
    TRACE_SERVICE,
    TraceReport,
    decode_trace_report_untrusted,
)
from meshd.client.client import Client
from meshd.control.errors import ERRORS, ControlError
from meshd.ctl.arguments import Commands, Parser, add_patience, add_precedence
from meshd.ctl.output import NOTHING, Output
from meshd.ctl.reconnect import open_client
from meshd.ctl.services import answers_endpoint, service_endpoint

TAG_BYTES: Final = 8
TIMEOUT_DEFAULT_S: Final = 10.0
REPORTS_MAX: Final = 1000
"""More nodes than these are on no way."""

_COLUMNS: Final = ("HOP", "FROM", "TO", "BEARER", "WAITED", "LINK", "TOTAL")
_EPILOG: Final = """\
NODE is a node (home, ipn:3) or the full endpoint ID of a trace service. The exit code is 0 when the bundle arrived, 6
when its destination did not report in time; the hops that are known are shown either way.

examples:
  meshctl trace home
  meshctl trace ipn:3 --timeout 2min --json
"""


class Report(NamedTuple):
    """What one node said."""

    node: str
    said: TraceReport


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "trace",
        parents=[common],
        help="show the way to a node, hop by hop",
        description="Send a bundle to the trace service of a node and show which way it took, and where it waited.",
        epilog=_EPILOG,
    )
    parser.add_argument("node", metavar="NODE", type=trace_service, help="where to")
    add_patience(parser, TIMEOUT_DEFAULT_S, "how long to wait for the destination")
    add_precedence(parser, "of the bundle")
    parser.set_defaults(run=_run)


def trace_service(text: str) -> str:
    """As for ping: `home` to dtn://home/trace, `ipn:3` to ipn:3.8."""
    return service_endpoint(text, TRACE_NAME, TRACE_SERVICE)


def _run(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        own = str(client.hello["node"])
        reports = _gather(client, own, args)
    rows = make_hops(own, reports)
    is_there = any(report.said.is_last for report in reports)
    if out.as_json:
        out.data({"destination": args.node, "arrived": is_there, "hops": rows})
    elif rows:
        out.table(_COLUMNS, [_cells(row) for row in rows])
    if not is_there:
        out.chatter(f"{args.node} did not report within {args.timeout:g} s: see `meshctl explain` at the last node")
        return ERRORS["timeout"].exit_code
    return 0


def _gather(client: Client, own: str, args: Namespace) -> list[Report]:
    """Send, and wait until the destination has reported and so have all before it, or time is over."""
    tag = os.urandom(TAG_BYTES)
    endpoint = answers_endpoint(own, TRACE_NAME, tag)
    receiver = client.recv_open(endpoint)
    message = {
        "destination": args.node,
        "precedence": args.precedence,
        "lifetime_ms": max(1, round(args.timeout * 1000)),
        "report": False,
        "endpoint": endpoint,
        "data": tag,
    }
    client.call("send.message", message)
    until = time.monotonic() + args.timeout
    reports: dict[str, Report] = {}
    while len(reports) < REPORTS_MAX and not _is_whole(own, list(reports.values())):
        try:
            received = client.recv_next(receiver, max(0.0, until - time.monotonic()), data_max_bytes=REPORT_MAX_BYTES)
        except ControlError as error:
            if error.name != "timeout":
                raise
            break
        client.recv_confirm(receiver, received.message)
        report = _read(received.source, received.data or b"")
        if report is not None:
            reports.setdefault(report.node, report)
    return list(reports.values())


def _read(source: str, data: bytes) -> Report | None:
    """None: somebody else's message to this endpoint."""
    try:
        said = decode_trace_report_untrusted(data)
    except BundleError:
        return None
    node = source[: source.rfind(".")] + ".0" if source.startswith("ipn:") else source[: source.rfind("/") + 1]
    return Report(node, said)


def _is_whole(own: str, reports: list[Report]) -> bool:
    way = _order(own, reports)
    return bool(way) and way[-1].said.is_last and _is_joined(own, way)


def _is_joined(own: str, way: list[Report]) -> bool:
    before = [own, *(report.node for report in way)]
    return all(report.said.previous_node in ("", node) for report, node in zip(way, before, strict=False))


def _order(own: str, reports: list[Report]) -> list[Report]:
    """From this node onwards; what does not join comes behind, by its age."""
    left = sorted(reports, key=lambda report: (report.said.age_ms, report.said.received_ms))
    way: list[Report] = []
    node = own
    while (follower := next((each for each in left if each.said.previous_node in ("", node)), None)) is not None:
        left.remove(follower)
        way.append(follower)
        node = follower.node
    return way + left


def make_hops(own: str, reports: list[Report]) -> list[dict[str, Any]]:
    """A row for each hop; what can't be known is None: after a gap, or where a node has no clock."""
    rows: list[dict[str, Any]] = []
    before: Report | None = None
    for number, (node, said) in enumerate(_order(own, reports), 1):
        start_ms, age_ms = (said.created_ms, 0) if before is None else (before.said.received_ms, before.said.age_ms)
        is_known = said.previous_node in ("", own if before is None else before.node)
        waited_ms = said.age_ms - age_ms
        rows.append(
            {
                "hop": number,
                "from": said.previous_node or own,
                "to": node,
                "bearer": said.bearer or None,
                "waited_ms": waited_ms if is_known else None,
                "link_ms": said.received_ms - start_ms - waited_ms if is_known and start_ms else None,
                "total_ms": said.received_ms - said.created_ms if said.created_ms else None,
            }
        )
        before = Report(node, said)
    return rows


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    times = (f"{row[name] / 1000:.3f} s" if row[name] is not None else NOTHING for name in _TIMES)
    return (str(row["hop"]), row["from"], row["to"], row["bearer"] or NOTHING, *times)


_TIMES: Final = ("waited_ms", "link_ms", "total_ms")
