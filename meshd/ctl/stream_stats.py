# SPDX-License-Identifier: Apache-2.0
"""The live view of `meshctl stream stats`."""

import sys
import time
from argparse import Namespace
from typing import Any, Final

from meshd.base.units import render_rate_bps
from meshd.client.streams import Streams
from meshd.ctl.output import NOTHING, Output
from meshd.ctl.reconnect import open_client

_COLUMNS: Final = ("NAME", "STATE", "RATE", "TIERS", "ON TIME", "MISSING", "FILLED", "LATENCY", "OUTPUTS", "PROBLEM")
_HOME: Final = "\x1b[H\x1b[J"
"""To the top left corner, and clear."""


def show_stats(args: Namespace, out: Output) -> int:
    """Look so often, or on a terminal until interrupted."""
    is_live = sys.stdout.isatty() and not out.as_json
    looks = args.count
    if looks is None and not is_live:
        looks = 1
    with open_client(args) as client:
        number = 0
        while looks is None or number < looks:
            if number:
                time.sleep(args.interval)
            number += 1
            rows = Streams(client).list(args.name)
            if out.as_json:
                for row in rows:
                    out.data(row)
                continue
            if is_live:
                sys.stdout.write(_HOME)
            out.table(_COLUMNS, [_row(row) for row in rows])
    return 0


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    playout = row["playout"] or {}
    on_time, latency_ms = playout.get("on_time_pct"), playout.get("latency_ms")
    done = row["whole_spans"] / row["spans"] if row["spans"] else 0.0
    return (
        row["name"],
        row["state"],
        render_rate_bps(row.get("rate_bps") or 1) if row.get("rate_bps") else NOTHING,
        " ".join(f"{name} {render_rate_bps(rate)}" for name, rate in row["tiers_bps"].items() if rate) or NOTHING,
        NOTHING if on_time is None else f"{on_time:.2f} %",
        row["missing_pieces"],
        "all" if row["is_complete"] else f"{100 * done:.0f} %",
        NOTHING if latency_ms is None else f"{latency_ms} ms ({playout['latency_of']})",
        len(row["outputs"]),
        row["input_problem"] or row["archive_problem"] or NOTHING,
    )
