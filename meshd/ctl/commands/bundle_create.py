# SPDX-License-Identifier: Apache-2.0
"""`meshctl bundle create`: one bundle of version 7 (RFC 9171) from its parts into a file, without a daemon.

For tests of other nodes, for gateways and for links that are a memory stick. What is made is read once more by the
strict parser before it is written, so that no bundle comes out that a meshd would refuse. Fragments are not made here.
"""

import sys
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterable
from typing import Final

from meshd.client.errors import ClientError
from meshd.ctl.arguments import Commands, Parser, add_precedence, destination, duration_ms, suggestion
from meshd.ctl.commands.bundle_file import STANDARD_STREAM, read_bundle_file
from meshd.ctl.output import Output, size

LIFETIME_DEFAULT_MS: Final = 24 * 3600 * 1000
CRC_NAMES: Final = ("none", "crc16", "crc32c")
"""By CRC type."""
UINT_MAX: Final = (1 << 64) - 1
HOP_LIMIT_DEFAULT: Final = 32
HOP_LIMIT_MAX: Final = 255

_EPILOG: Final = """\
FLAGS are names as `bundle dump` shows them, joined by commas: must_not_fragment, is_admin_record,
acknowledgement_requested, status_time_requested, report_reception, report_forwarding, report_delivery,
report_deletion; or a number.

examples:
  meshctl bundle create --source dtn://dpop1/inbox --destination home --payload report.pdf --output report.bundle
  meshctl bundle create --source ipn:5.1 --destination ipn:7.1 --creation-time none --age 90s --payload - > b.cbor
"""


def add_parser(actions: Commands, common: Parser) -> None:
    """Add the action."""
    create = actions.add_parser(
        "create",
        parents=[common],
        help="make a BPv7 bundle; needs no daemon",
        description="Make a BPv7 bundle (RFC 9171) and write it to a file or to standard output.",
        epilog=_EPILOG,
    )
    option = create.add_argument
    option("--source", metavar="EID", required=True, help="source endpoint; dtn:none for an anonymous bundle")
    option("--destination", metavar="EID", type=destination, required=True, help="where to, as for `send`")
    option("--report-to", metavar="EID", default="dtn:none", help="where status reports go (default dtn:none)")
    option("--payload", metavar="FILE", required=True, help="what it carries; - for standard input")
    option("--output", metavar="FILE", default=STANDARD_STREAM, help="where to write it (default -, standard output)")
    option("--lifetime", metavar="D", type=duration_ms, default=LIFETIME_DEFAULT_MS, help="default 24h")
    add_precedence(create)
    option("--flags", metavar="FLAGS", type=_flags, default=0, help="bundle processing control flags")
    option("--crc", choices=CRC_NAMES, default="crc32c", help="of primary and payload block (default crc32c)")
    option("--creation-time", metavar="T", type=_creation_time, help="ISO 8601, DTN ms, or none; default now")
    option("--sequence", metavar="N", type=_WholeNumber(0, UINT_MAX), default=0, help="sequence number (default 0)")
    option("--age", metavar="D", type=duration_ms, help="add a bundle age block; with creation time none default 0")
    option(
        "--hop-limit",
        metavar="N",
        type=_WholeNumber(0, HOP_LIMIT_MAX),
        default=HOP_LIMIT_DEFAULT,
        help=f"1 to {HOP_LIMIT_MAX}, 0 for no hop count block (default {HOP_LIMIT_DEFAULT})",
    )
    create.set_defaults(run=_create)


def _create(args: Namespace, out: Output) -> int:
    from meshd.bundle.codec import build
    from meshd.bundle.eid import parse_eid
    from meshd.bundle.precedence import parse_precedence
    from meshd.bundle.record import bundle_id_text
    from meshd.bundle.scan import scan_untrusted

    if args.output == STANDARD_STREAM and sys.stdout.isatty():
        raise ClientError("a bundle is no text: name a file with --output, or redirect standard output")
    time_ms = _now_ms() if args.creation_time is None else args.creation_time
    data = build(
        source=parse_eid(args.source),
        destination=parse_eid(args.destination),
        report_to=parse_eid(args.report_to),
        flags=args.flags,
        time_ms=time_ms,
        sequence=args.sequence,
        lifetime_ms=args.lifetime,
        payload=read_bundle_file(args.payload),
        precedence=parse_precedence(args.precedence),
        hop_limit=args.hop_limit,
        age_ms=0 if args.age is None and time_ms == 0 else args.age,
        crc_type=CRC_NAMES.index(args.crc),
    )
    header = scan_untrusted(data)
    _write(args.output, data)
    identity = bundle_id_text(header.id)
    if args.output == STANDARD_STREAM:
        out.chatter(f"{identity}, {size(len(data))}")
    elif out.as_json:
        out.data({"id": identity, "file": args.output, "size_bytes": len(data)})
    else:
        out.line(f"{identity}, {size(len(data))} in {args.output}")
    return 0


def _now_ms() -> int:
    from meshd.bundle.dtn_time import dtn_ms_from_unix

    return dtn_ms_from_unix(time.time())


def _write(name: str, data: bytes) -> None:
    if name == STANDARD_STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with open(name, "wb") as file:
        file.write(data)


class _WholeNumber:
    """The type of an option that takes a whole number within bounds."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most

    def __call__(self, text: str) -> int:
        """Parse it."""
        if not (text.isascii() and text.isdigit() and self._least <= int(text) <= self._most):
            raise ArgumentTypeError(f"{text!r} is no whole number from {self._least} to {self._most}")
        return int(text)


def _creation_time(text: str) -> int:
    """DTN time in ms; 0 for `none`."""
    from datetime import datetime

    from meshd.bundle.dtn_time import dtn_ms_from_unix

    if text == "none":
        return 0
    if text.isascii() and text.isdigit() and int(text) <= UINT_MAX:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time; write 2026-01-02T03:04:05Z, DTN ms, or none") from None
    if moment.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} has no zone; write Z at its end for UTC")
    dtn_ms = dtn_ms_from_unix(moment.timestamp())
    if dtn_ms == 0:
        raise ArgumentTypeError(f"{text!r} is not after 2000-01-01T00:00:00Z, where DTN time begins")
    return dtn_ms


def _flags(text: str) -> int:
    """Bundle processing control flags, by number or by names."""
    from meshd.bundle.blocks import BundleFlag

    if text.isascii() and text.isdigit() and int(text) <= UINT_MAX:
        flags = int(text)
    else:
        flags = _flags_by_name(text, {(flag.name or "").lower(): flag.value for flag in BundleFlag})
    if flags & BundleFlag.IS_FRAGMENT:
        raise ArgumentTypeError("fragments are not made here")
    return flags


def _flags_by_name(text: str, known: dict[str, int]) -> int:
    flags = 0
    for name in _words(text):
        if name not in known:
            raise ArgumentTypeError(f"{name!r} is no flag{suggestion(name, known)}")
        flags |= known[name]
    return flags


def _words(text: str) -> Iterable[str]:
    return (word.strip().lower() for word in text.split(",") if word.strip())
