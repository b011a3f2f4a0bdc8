# SPDX-License-Identifier: Apache-2.0
"""`meshctl emcon status|set`: emission control, as ordered and as the kernel enforces it."""

from argparse import Namespace
from typing import Any, Final

from meshd.client.client import Client
from meshd.control.errors import ControlError
from meshd.ctl.arguments import Commands, Parser, duration_s, suggestion
from meshd.ctl.output import NOTHING, Output, instant
from meshd.ctl.reconnect import open_client

_EPILOG: Final = """\
examples:
  meshctl emcon status
  meshctl emcon set quiet-radio
  meshctl emcon set quiet-radio --for 10min --reason "crossing the ridge"
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
    order.add_argument("profile", metavar="PROFILE", help="its name in the configuration")
    order.add_argument("--for", dest="for_s", metavar="D", type=duration_s, help="end by itself after this long")
    order.add_argument("--reason", metavar="TEXT", help="for the record")
    order.set_defaults(run=_set)


def _status(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        _write(client.emcon(), out)
    return 0


def _set(args: Namespace, out: Output) -> int:
    with open_client(args) as client:
        try:
            emcon = client.set_emcon(args.profile, for_s=args.for_s, reason=args.reason)
        except ControlError as error:
            raise _with_suggestion(error, args.profile, client) from error
    _write(emcon, out)
    return 0


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
        ]
    )
    out.line("")
    out.table(("BEARER", "DEVICE", "RADIATING", "POSTURE", "GATE", "SENT", "BLOCKED", "PROBLEM"), _rows(emcon))


def _rows(emcon: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for bearer in emcon["bearers"]:
        gate = bearer["gate"]
        state = (None, None, None) if gate is None else (_gate_word(gate), gate["tx_frames"], gate["blocked_frames"])
        name, device, radiating = bearer["bearer"], bearer["device"], bearer["radiating"]
        rows.append((name, device, radiating, bearer["posture"], *state, bearer["problem"]))
    return rows


def _gate_word(gate: dict[str, Any]) -> str:
    return "open" if gate["open"] else "closed"
