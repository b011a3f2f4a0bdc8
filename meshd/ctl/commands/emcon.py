# SPDX-License-Identifier: Apache-2.0
"""`meshctl emcon status|set|schedule|break|plan|verify`: emission control, as ordered and as the kernel enforces it."""

from argparse import Namespace
from typing import Any, Final

from meshd.client.client import Client
from meshd.control.errors import ControlError
from meshd.ctl import emcon_break, emcon_plan, emcon_verify
from meshd.ctl.arguments import Commands, Parser, duration_s, instant_ms, suggestion
from meshd.ctl.emcon_limits import posture_words
from meshd.ctl.output import NOTHING, Output, duration, instant, size
from meshd.ctl.reconnect import open_client

_EPILOG: Final = """\
examples:
  meshctl emcon status
  meshctl emcon set quiet-radio
  meshctl emcon set quiet-radio --for 10min --reason "crossing the ridge"
  meshctl emcon set silent --until 2026-05-01T10:00:00Z --announce
  meshctl emcon set silent --dry-run
  meshctl emcon schedule "unrestricted from 00:00 for 5min every 1h"
"""


def add_parsers(commands: Commands, common: Parser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "emcon",
        parents=[common],
        help="show or order emission control",
        description="Show or order emission control: one profile gives each bearer a posture.",
        epilog=_EPILOG,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", parents=[common], help="what is in force", epilog=_EPILOG)
    status.set_defaults(run=_status)
    order = actions.add_parser("set", parents=[common], help="order a profile", epilog=_EPILOG)
    order.add_argument("profile", metavar="PROFILE", help="its name in the configuration, or scheduled")
    _add_order(order)
    order.set_defaults(run=_set)
    schedule = actions.add_parser(
        "schedule", parents=[common], help="order a schedule; without a row, show it", epilog=_EPILOG
    )
    schedule.add_argument("rows", metavar="ROW", nargs="*", help="such as 'unrestricted from 00:00 for 5min every 1h'")
    schedule.add_argument("--otherwise", metavar="PROFILE", default="silent", help="where no row holds: silent")
    schedule.add_argument(
        "--margin", dest="margin_s", metavar="D", type=duration_s, default=2.0, help="windows are shorter by it: 2s"
    )
    _add_order(schedule)
    schedule.set_defaults(run=_schedule)
    emcon_break.add_parser(actions, common)
    emcon_plan.add_parser(actions, common)
    verify = actions.add_parser(
        "verify",
        parents=[common],
        help="compare the counters",
        description="Compare what gate, device and node counted since the posture of each bearer changed. "
        "Exit status 1 where they disagree, or nobody counts.",
        epilog="example:\n  meshctl emcon verify",
    )
    verify.set_defaults(run=emcon_verify.run)


def _add_order(parser: Parser) -> None:
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--for", dest="for_s", metavar="D", type=duration_s, help="end by itself after this long")
    end.add_argument("--until", dest="until_ms", metavar="TIME", type=instant_ms, help="end by itself then, in Zulu")
    parser.add_argument("--reason", metavar="TEXT", help="for the record")
    parser.add_argument("--announce", action="store_true", help="tell neighbours first, where a bearer can")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")


def _order(args: Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("for_s", "until_ms", "reason", "announce")}


def _status(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        _write(client.emcon(), out)
    return 0


def _set(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        try:
            if args.dry_run:
                _write_preview(client.preview_emcon(args.profile), out)
                return 0
            emcon = client.set_emcon(args.profile, **_order(args))
        except ControlError as error:
            raise _with_suggestion(error, args.profile, client) from error
    _write(emcon, out)
    return 0


def _schedule(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        if not args.rows:
            _write_schedule(client.emcon()["schedule"], out)
            return 0
        schedule = {"otherwise": args.otherwise, "margin_s": args.margin_s}
        if args.dry_run:
            _write_preview(client.preview_emcon("scheduled", rows=args.rows, **schedule), out)
            return 0
        _write(client.schedule_emcon(args.rows, **schedule, **_order(args)), out)
    return 0


def _write_preview(preview: dict[str, Any], out: Output) -> None:
    if out.as_json:
        out.data(preview)
        return
    out.table(
        ("BEARER", "POSTURE", "THEN"),
        [(row["bearer"], row["posture"], posture_words(row["then"], row["restriction"])) for row in preview["bearers"]],
    )
    out.line("")
    out.pairs(
        [
            ("cut off", ", ".join(preview["cut_off"]) or NOTHING),
            ("would wait", f"{preview['waiting_bundles']} bundles, {size(preview['waiting_bytes'])}"),
        ]
    )


def _write_schedule(schedule: dict[str, Any] | None, out: Output) -> None:
    if out.as_json:
        out.data({"schedule": schedule})
    elif schedule is None:
        out.line("there is no schedule")
    else:
        opens_ms = schedule["opens_ms"]
        out.pairs(
            [
                *(("row", row) for row in schedule["rows"]),
                ("otherwise", schedule["otherwise"]),
                ("margin", duration(schedule["margin_s"])),
                ("next opening", NOTHING if opens_ms is None else instant(opens_ms)),
            ]
        )


def _with_suggestion(error: ControlError, profile: str, client: Client) -> ControlError:
    """Add the nearest profile to the error of an unknown one."""
    profiles = client.emcon()["profiles"] if error.name in {"not_found", "bad_params"} else []
    if not profiles or profile in profiles:
        return error
    hint = suggestion(profile, profiles) or f"; there are: {', '.join(profiles)}"
    return ControlError(error.name, f"{error.message}{hint}", error.data)


def _write(emcon: dict[str, Any], out: Output) -> None:
    if out.as_json:
        out.data(emcon)
        return
    until_ms = emcon["until_ms"]
    out.pairs(
        [
            ("profile", emcon["profile"]),
            ("since", f"{instant(emcon['since_ms'])}, by {emcon['source']} of {emcon['by'] or NOTHING}"),
            ("until", "further notice" if until_ms is None else instant(until_ms)),
            ("reason", emcon["reason"]),
            ("profiles", ", ".join(emcon["profiles"])),
            ("schedule", "; ".join(emcon["schedule"]["rows"]) if emcon["schedule"] else None),
        ]
    )
    out.line("")
    out.table(("BEARER", "DEVICE", "RADIATING", "POSTURE", "GATE", "SENT", "BLOCKED", "PROBLEM"), _rows(emcon))


def _rows(emcon: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for bearer in emcon["bearers"]:
        gate = bearer["gate"]
        state: tuple[Any, ...] = (None, None, None)
        if gate is not None:
            word = _gate_word(gate, is_restricted=bearer["restriction"] is not None)
            state = word, gate["tx_frames"], gate["blocked_frames"]
        name, device, radiating = bearer["bearer"], bearer["device"], bearer["radiating"]
        posture = posture_words(bearer["posture"], bearer["restriction"])
        rows.append((name, device, radiating, posture, *state, bearer["problem"]))
    return rows


def _gate_word(gate: dict[str, Any], *, is_restricted: bool) -> str:
    return ("limited" if is_restricted else "open") if gate["open"] else "closed"
