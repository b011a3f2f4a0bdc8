# SPDX-License-Identifier: Apache-2.0
"""`meshctl audit show|verify`: who did what on this node, and whether the record of it is whole."""

import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Final

from meshd.control.errors import EXIT_FAILED
from meshd.ctl.arguments import Commands, Parser, count, duration_ms
from meshd.ctl.output import NOTHING, Output, instant
from meshd.ctl.reconnect import open_client

LAST_DEFAULT: Final = 50
_EPILOG: Final = """\
examples:
  meshctl audit show --since 24h
  meshctl audit show --last 1000 --json > audit.jsonl
  meshctl audit verify
  meshctl audit verify --head 17:ab12...        a head that was noted before
  meshctl audit verify --file /media/copy/audit.db
"""
_SHOWN: Final = ("profile", "reason", "text", "by", "until_ms", "for_s")
"""What is told first of an entry's details."""


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "audit",
        parents=[common],
        help="show or check the audit log",
        description="Show or check the audit log: orders, other actions of operators, refusals, and what emission"
        " control did. For the roles security and admin.",
        epilog=_EPILOG,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", parents=[common], help="the newest entries", epilog=_EPILOG)
    show.add_argument("--since", dest="since_ms", metavar="D", type=duration_ms, help="not older than this")
    show.add_argument("--last", metavar="N", type=count, default=LAST_DEFAULT, help=f"at most so many ({LAST_DEFAULT})")
    show.set_defaults(run=_show)
    verify = actions.add_parser("verify", parents=[common], help="check the hash chain", epilog=_EPILOG)
    verify.add_argument("--head", metavar="HEAD", help="a head noted before: its row must be there, unchanged")
    verify.add_argument("--file", metavar="PATH", type=Path, help="check this log, without the daemon")
    verify.set_defaults(run=_verify)


def _show(args: Namespace, out: Output) -> int:
    since_ms = None if args.since_ms is None else int(time.time() * 1000) - args.since_ms
    with open_client(args) as client:
        entries = client.audit_entries(args.last, since_ms)
    if out.as_json:
        for entry in entries:
            out.data(entry)
    else:
        out.table(("NUMBER", "TIME", "WHO", "ROLE", "ACTION", "OUTCOME", "DETAILS"), [_row(entry) for entry in entries])
    return 0


def _verify(args: Namespace, out: Output) -> int:
    if args.file is None:
        with open_client(args) as client:
            verdict = client.verify_audit(args.head)
    else:
        verdict = _verify_file(args.file, args.head)
    if out.as_json:
        out.data(verdict)
    else:
        for problem in verdict["problems"]:
            out.line(f"problem: {problem}")
        word = "good" if verdict["good"] else "BROKEN"
        out.line(f"{word}: {verdict['rows']} entries, head {verdict['head'] or NOTHING}")
    return 0 if verdict["good"] else EXIT_FAILED


def _verify_file(path: Path, head: str | None) -> dict[str, Any]:
    """Errors: AuditError, HeadError, FileNotFoundError."""
    from meshd.security.audit_chain import parse_anchor_untrusted
    from meshd.store.audit_log import verify_file

    path.stat()
    return verify_file(path, None if head is None else parse_anchor_untrusted(head)).describe()


def _row(entry: dict[str, Any]) -> tuple[Any, ...]:
    trust = "" if entry.get("clock_trusted") else " ?"
    return (
        entry["number"],
        instant(entry.get("time_ms")) + trust,
        _who(entry),
        entry.get("role"),
        entry.get("action"),
        entry.get("outcome"),
        _details(entry),
    )


def _who(entry: dict[str, Any]) -> str:
    if entry.get("uid") is None:
        return "meshd"
    return f"{entry.get('user') or NOTHING} (uid {entry['uid']}, pid {entry['pid']})"


def _details(entry: dict[str, Any]) -> str:
    details = entry.get("details") or {}
    names = [*(name for name in _SHOWN if name in details), *(name for name in details if name not in _SHOWN)]
    shown = [f"{name}={_text(details[name])}" for name in names if details[name] is not None]
    lost = [f"{name}={entry[name]}" for name in ("entries_lost", "refusals_left_out") if name in entry]
    return " ".join([*shown, *lost])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
