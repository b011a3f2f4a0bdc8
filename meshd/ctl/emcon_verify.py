# SPDX-License-Identifier: Apache-2.0
"""`meshctl emcon verify`: what gate, device and node counted, beside each other."""

from argparse import Namespace
from typing import Any, Final

from meshd.control.errors import EXIT_FAILED
from meshd.ctl.output import Output, duration
from meshd.ctl.reconnect import open_client

_COLUMNS: Final = ("BEARER", "DEVICE", "POSTURE", "FOR", "GATE", "DEVICE SENT", "BLOCKED", "BUNDLES SENT", "VERDICT")


def run(args: Namespace, out: Output) -> int:
    """The command; it fails where something disagrees, or can't be told."""
    with open_client(args) as client:
        verdict = client.verify_emcon()
    if out.as_json:
        out.data(verdict)
    else:
        out.table(_COLUMNS, [_row(bearer) for bearer in verdict["bearers"]])
    return 0 if verdict["good"] else EXIT_FAILED


def _row(bearer: dict[str, Any]) -> tuple[Any, ...]:
    gate = {None: None, True: "open", False: "closed"}[bearer["gate_open"]]
    return (
        bearer["bearer"],
        bearer["device"],
        bearer["posture"],
        duration(bearer["for_s"]),
        gate,
        bearer["device_frames"],
        bearer["blocked_frames"],
        bearer["node_bundles"],
        bearer["verdict"],
    )
