# SPDX-License-Identifier: Apache-2.0
"""Video between real daemons over emulated links: rows of the table as figures, target and verdict.

    python -m tests.lab.video_run [--rows NAME,NAME] [--seed N]

Each row is a lab of its own (scenarios/video_rows.py), one after the other. On time is what is played out
within the delay of the link one way, the buffer, and the 0.15 s that a clean network may add.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.radio_run import Bound, Row, RowFailed, say, show

ROOT: Final = Path(__file__).resolve().parents[2]
SCENARIO: Final = Path(__file__).resolve().parent / "scenarios" / "video_rows.py"
TIMEOUT_S: Final = 300.0
SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Video:
    """What is sent in a row."""

    buffer_ms: int
    seconds: int = SECONDS


def run_row(row: Row, video: Video, seed: int) -> dict[str, Any]:
    """Its figures. Errors: RowFailed."""
    command = [sys.executable, str(ROOT / "netns-lab" / "lab"), "run", "--seed", str(seed), str(SCENARIO)]
    command += [json.dumps(dict(row.net)), str(video.seconds), str(video.buffer_ms)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise RowFailed(f"{row.name}: no end after {TIMEOUT_S:g} s") from None
    if done.returncode:
        raise RowFailed(f"{row.name}: {done.stderr.strip()[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def make_row(name: str, net: Mapping[str, Any], on_time_pct: float, *more: Bound) -> Row:
    """Every row's archive has to be what was sent."""
    bounds = [Bound("on_time_pct", at_least=on_time_pct), Bound("archive_identical", 1, 1), *more]
    return Row(name, "video", net, bounds=bounds)


def make_rows() -> list[tuple[Row, Video]]:
    """The table."""
    lan = {"rate_bps": 100_000_000, "delay_s": 0.0005, "modem_s": 0.1}
    satcom = {"rate_bps": 4_000_000, "delay_s": 0.15}
    return [
        (
            make_row("lan", lan, 100, Bound("publisher_cpu_pct", at_most=5), Bound("viewer_cpu_pct", at_most=5)),
            Video(300),
        ),
        (make_row("loss 3 %", satcom | {"loss": 0.03}, 99.95), Video(1000)),
        (make_row("loss 10 %", satcom | {"loss": 0.1}, 99.8), Video(1000)),
        (make_row("geo 5 %", satcom | {"delay_s": 0.3, "loss": 0.05}, 99.8), Video(1850)),
    ]


def main() -> int:
    """The command."""
    rows = make_rows()
    names = ", ".join(row.name for row, _ in rows).replace("%", "%%")
    parser = argparse.ArgumentParser(description="Video between real daemons over emulated links.")
    parser.add_argument("--rows", help=f"some, with commas between: {names}")
    parser.add_argument("--seed", type=int, default=1, help="of the emulated losses")
    arguments = parser.parse_args()
    wanted = arguments.rows.split(",") if arguments.rows else [""]
    is_met = True
    for row, video in rows:
        if not row.name.startswith(tuple(wanted)):
            continue
        try:
            is_met &= show(row, run_row(row, video, arguments.seed))
        except RowFailed as error:
            say(str(error))
            is_met = False
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
