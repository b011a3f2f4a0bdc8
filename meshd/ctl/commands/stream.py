# SPDX-License-Identifier: Apache-2.0
"""`meshctl stream publish|watch|record|list|stats|stop|remove`: full-motion video."""

from argparse import Namespace
from typing import Any, Final

from meshd.client.streams import Streams
from meshd.control.words import PRECEDENCE_NAMES, STREAM_TIERS
from meshd.ctl.arguments import Commands, Parser, count, duration_ms, duration_s, upper_case
from meshd.ctl.output import Output, instant, size
from meshd.ctl.reconnect import open_client

STANDARD_STREAM: Final = "-"
ADDRESS_SCHEMES: Final = ("udp://", "rtp://")
_EPILOG: Final = """\
Addresses: udp://239.1.1.1:5004@lan0 (multicast on a device), udp://10.0.0.9@232.1.1.1:5004@lan0 (from one source),
udp://0.0.0.0:5004 (unicast); the same with rtp:// for RTP inputs. A file is published at the pace of its clock, a pipe
or - (standard input) as it comes.

examples:
  meshctl stream publish uav1 --input udp://239.1.1.1:5004@lan0 --to convoy --to home --latency 1s --archive 2h
  meshctl stream publish clip --input clip.ts --to home
  meshctl stream watch uav1 --output udp://127.0.0.1:5004
  meshctl stream watch uav1 --output - | ffplay -
  meshctl stream record uav1 uav1.ts
  meshctl stream stats uav1
  meshctl stream stop uav1
"""


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "stream",
        parents=[common],
        help="publish, watch and record video",
        description="Full-motion video (MPEG transport streams): live within a latency, and complete afterwards.",
        epilog=_EPILOG,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_publish(actions, common)
    _add_watch(actions, common)
    _add_record(actions, common)
    _add_list(actions, common)
    _add_stats(actions, common)
    _add_stop(actions, common)
    _add_remove(actions, common)


def _add_publish(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("publish", parents=[common], help="begin a stream", epilog=_EPILOG)
    parser.add_argument("name", metavar="NAME", help="what everybody calls it")
    parser.add_argument("--input", metavar="FROM", required=True, help="address, file, pipe, or - for standard input")
    parser.add_argument(
        "--to", metavar="WHO", action="append", required=True, nargs="+", help="group or node; may be repeated"
    )
    parser.add_argument(
        "--latency", metavar="D", type=duration_ms, default=1000, help="from ingest to playout (default 1s)"
    )
    parser.add_argument(
        "--tiers", choices=STREAM_TIERS, default="auto", help="what is sent live; auto: what each link has room for"
    )
    parser.add_argument(
        "--archive", metavar="D", type=duration_ms, default=7_200_000, help="so much is kept here (default 2h)"
    )
    parser.add_argument("--precedence", metavar="P", type=upper_case, choices=PRECEDENCE_NAMES, default="PRIORITY")
    parser.add_argument("--label", metavar="TEXT", default="", help="marking, shown with the stream everywhere")
    parser.set_defaults(run=_publish)


def _add_watch(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("watch", parents=[common], help="play a stream out", epilog=_EPILOG)
    parser.add_argument("name", metavar="NAME", help="it need not be known yet")
    parser.add_argument(
        "--output", metavar="TO", action="append", required=True, help="UDP addresses, or one file, pipe, or -"
    )
    parser.add_argument("--latency", metavar="D", type=duration_ms, help="another one than the publisher's")
    parser.set_defaults(run=_watch)


def _add_record(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser(
        "record",
        parents=[common],
        help="write a stream to a file, bit for bit as it was ingested",
        description="Write the archive of a stream to a file, as it becomes complete, until the stream has ended.",
        epilog=_EPILOG,
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("file", metavar="FILE", help="a new file, or - for standard output")
    parser.add_argument("--timeout", metavar="D", type=duration_s, help="wait no longer than this (exit code 6)")
    parser.set_defaults(run=_record)


def _add_list(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("list", parents=[common], help="list all streams", epilog=_EPILOG)
    parser.set_defaults(run=_list)


def _add_stats(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("stats", parents=[common], help="figures of streams, live", epilog=_EPILOG)
    parser.add_argument("name", metavar="NAME", nargs="?", help="all streams if left out")
    parser.add_argument("--interval", metavar="D", type=duration_s, default=1.0, help="between two looks (default 1s)")
    parser.add_argument("--count", metavar="N", type=count, help="so many looks; 1 where no terminal is")
    parser.set_defaults(run=_stats)


def _add_stop(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("stop", parents=[common], help="end a stream and its outputs here", epilog=_EPILOG)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--output", metavar="TO", help="only this output")
    parser.set_defaults(run=_stop)


def _add_remove(actions: Commands, common: Parser) -> None:
    parser = actions.add_parser("remove", parents=[common], help="delete the archive of a stream", epilog=_EPILOG)
    parser.add_argument("name", metavar="NAME")
    parser.set_defaults(run=_remove)


def _publish(args: Namespace, out: Output) -> int:
    is_address = args.input.startswith(ADDRESS_SCHEMES)
    params = {
        "name": args.name,
        "input": args.input if is_address else None,
        "to": [word for words in args.to for word in words],
        "latency_ms": args.latency,
        "tiers": args.tiers,
        "window_ms": args.archive,
        "precedence": args.precedence,
        "label": args.label,
    }
    if is_address:
        with open_client(args) as client:
            reply = Streams(client).publish(**params)
        out.answer(reply, f"{args.name} is published to {', '.join(reply['receivers'])} (ID {reply['stream']})")
        return 0
    from meshd.ctl.stream_files import feed_stream

    return feed_stream(args, params, out)


def _watch(args: Namespace, out: Output) -> int:
    addresses = [each for each in args.output if each.startswith(ADDRESS_SCHEMES)]
    if not addresses and len(args.output) == 1:
        from meshd.ctl.stream_files import play_stream

        return play_stream(args, args.output[0], out)
    with open_client(args) as client:
        for address in args.output:
            reply = Streams(client).watch(args.name, address, args.latency)
            later = "" if reply["is_known"] else "; no such stream is known yet"
            out.answer(reply, f"{args.name} goes to {reply['output']} until `meshctl stream stop`{later}")
    return 0


def _record(args: Namespace, out: Output) -> int:
    from meshd.ctl.stream_files import record_stream

    return record_stream(args, out)


def _list(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        rows = Streams(client).list()
    if out.as_json:
        for row in rows:
            out.data(row)
        return 0
    out.table(
        ("NAME", "HERE", "STATE", "FROM", "BEGAN", "SIZE", "ARCHIVE", "LABEL", "ID"),
        [_list_row(row) for row in rows],
    )
    return 0


def _list_row(row: dict[str, Any]) -> tuple[Any, ...]:
    from meshd.ctl.stream_stats import archived, here

    return (
        row["name"],
        here(row),
        row["state"],
        row["source"],
        instant(row["began_ms"]),
        size(row["archived_bytes"]),
        archived(row),
        row["label"],
        row["stream"],
    )


def _stats(args: Namespace, out: Output) -> int:
    from meshd.ctl.stream_stats import show_stats

    return show_stats(args, out)


def _stop(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        reply = Streams(client).stop(args.name, args.output)
    out.answer(reply, f"{args.name} is stopped")
    return 0


def _remove(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        reply = Streams(client).remove(args.name)
    out.answer(reply, f"{size(reply['size_bytes'])} of {args.name} are deleted")
    return 0
