# SPDX-License-Identifier: Apache-2.0
"""The live view of `meshctl stream stats`, and the words that it shares with `meshctl stream list`."""

import sys
import time
from argparse import Namespace
from collections import deque
from typing import Any, Final

from meshd.base.units import render_rate_bps
from meshd.client.streams import Streams
from meshd.ctl.output import NOTHING, Output, instant
from meshd.ctl.reconnect import open_client

_TIERS: Final = "META+KEY+REST kbit/s"
_PLAYED: Final = ("SHOWN", "ON TIME", "LATELY", "LATENCY")
_COLUMNS: Final = ("NAME", "HERE", "STATE", "RATE", _TIERS, *_PLAYED, "MISSING", "ARCHIVE", "PROBLEM")
_HOME: Final = "\x1b[H\x1b[J"
"""To the top left corner, and clear."""
_LATELY_S: Final = 10.0
_MS_PER_S: Final = 1000


class Lately:
    """What share of the cuts was on time in the last seconds, by what looks at the counters have shown."""

    def __init__(self, interval_s: float) -> None:
        self._looks: Final = max(2, round(_LATELY_S / max(interval_s, 0.1)) + 1)
        self._counts: dict[str, deque[tuple[int, int]]] = {}

    def take(self, row: dict[str, Any]) -> float | None:
        """Look at a stream; None: nothing was due since the first look."""
        playout = row["playout"]
        if playout is None:
            self._counts.pop(row["stream"], None)
            return None
        whole: int = playout["whole_cuts"]
        counts = self._counts.setdefault(row["stream"], deque(maxlen=self._looks))
        counts.append((whole, whole + playout["partial_cuts"] + playout["missing_cuts"]))
        due = counts[-1][1] - counts[0][1]
        return 100 * (whole - counts[0][0]) / due if due > 0 else None


def show_stats(args: Namespace, out: Output) -> int:
    """Look so often, or on a terminal until interrupted."""
    is_live = sys.stdout.isatty() and not out.as_json
    looks = args.count
    if looks is None and not is_live:
        looks = 1
    lately = Lately(args.interval)
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
                out.line(f"{instant(time.time_ns() // 1_000_000)}, every {args.interval:g} s; Ctrl-C ends")
            out.table(_COLUMNS, [_row(row, lately.take(row)) for row in rows])
    return 0


def here(row: dict[str, Any]) -> str:
    """What this node does with a stream."""
    outputs = len(row["outputs"])
    return f"{row['role']}, {outputs} output{'s' * (outputs != 1)}" if outputs else str(row["role"])


def archived(row: dict[str, Any]) -> str:
    """How much of what is known of a stream its archive has."""
    if row["is_complete"]:
        return "complete"
    known = row["archived_pieces"] + row["missing_pieces"]
    if not known:
        return NOTHING
    # Nothing is rounded up to what it is not.
    share = int(1000 * row["archived_pieces"] / known) / 10
    return f"{share:g} %"


def _row(row: dict[str, Any], lately_pct: float | None) -> tuple[Any, ...]:
    playout = row["playout"] or {}
    return (
        row["name"],
        here(row),
        row["state"],
        render_rate_bps(row["rate_bps"]) if row.get("rate_bps") else NOTHING,
        "+".join(str(round(rate / 1000)) for rate in row["tiers_bps"].values()) or NOTHING,
        _shown(row),
        _percent(playout.get("on_time_pct")),
        _percent(lately_pct),
        _latency(playout),
        NOTHING if row["role"] == "published" else row["missing_pieces"],
        archived(row),
        row["input_problem"] or row["archive_problem"] or NOTHING,
    )


def _shown(row: dict[str, Any]) -> str:
    """What is played out at present."""
    if not row["playout"] or row["state"] != "live":
        return NOTHING
    if not row.get("rate_bps"):
        return "nothing"
    if not row["playout"]["is_thinned"]:
        return "all"
    return "key frames" if row["tiers_bps"].get("key-frames") else "metadata"


def _percent(value: float | None) -> str:
    """Rounded down, since 100 % is a promise."""
    return NOTHING if value is None else f"{int(100 * value) / 100:.2f} %"


def _latency(playout: dict[str, Any]) -> str:
    latency_ms = playout.get("latency_ms")
    if latency_ms is None:
        return NOTHING
    return f"{latency_ms / _MS_PER_S:.2f} s by {'KLV' if playout['latency_of'] == 'klv' else 'ingest'}"
