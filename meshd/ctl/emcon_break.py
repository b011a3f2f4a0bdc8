# SPDX-License-Identifier: Apache-2.0
"""`meshctl emcon break`: one urgent bundle, or what is urgent for a moment, in spite of silence."""

from argparse import Namespace
from typing import Final

from meshd.ctl.arguments import Commands, Parser, duration_s, size_bytes
from meshd.ctl.output import Output, duration, size
from meshd.ctl.reconnect import open_client

_EPILOG: Final = """\
examples:
  meshctl emcon break --bearer sat0 --bundle 3f9a --reason "casualty report"
  meshctl emcon break --bearer los0 --for 2s --quota "20 kB" --reason "convoy hit"
"""


def add_parser(actions: Commands, common: Parser) -> None:
    """Add the action."""
    parser = actions.add_parser(
        "break",
        parents=[common],
        help="let out what is urgent in spite of silence",
        description="Let bundles of FLASH or above, or one of them, leave bearers that are silent by order. Needs the"
        " right to break silence. Returns when it is over.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--bearer", dest="bearers", metavar="NAME", action="append", required=True, help="which one; several times"
    )
    parser.add_argument("--bundle", metavar="ID", help="this bundle alone")
    parser.add_argument("--for", dest="for_s", metavar="D", type=duration_s, help="no longer than this: 2s")
    parser.add_argument(
        "--quota", dest="quota_bytes", metavar="SIZE", type=size_bytes, help="bytes of frames on each bearer: 64 KiB"
    )
    parser.add_argument("--reason", metavar="TEXT", required=True, help="for the record")
    parser.set_defaults(run=_run)


def _run(args: Namespace, out: Output) -> int:
    order = {name: getattr(args, name) for name in ("bundle", "for_s", "quota_bytes", "reason")}
    with open_client(args) as client:
        reply = client.break_silence(args.bearers, **order)
    if out.as_json:
        out.data(reply)
        return 0
    out.pairs(
        [
            ("bearers", ", ".join(reply["bearers"])),
            ("window", duration(reply["window_s"])),
            ("left", f"{reply['frames']} frames, {size(reply['bytes'])} of {size(reply['quota_bytes'])}"),
            ("ended by", "another order" if reply["ended_by_order"] else "its window; silent again"),
        ]
    )
    return 0
