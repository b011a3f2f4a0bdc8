# SPDX-License-Identifier: Apache-2.0
"""Video over links with loss: meshd beside SRT, and what it adds on a clean one.

ffmpeg's 720p30 of 2 Mbit/s with KLV, over 300 ms there and back and 4 Mbit/s, with 1.15 s of buffer in all; SRT's own
programs run over the same emulated link just before, from the same source, judged by the same rule
(tests/lab/video_run.py). Archives are compared bit by bit. With --quick some seconds of video, two labs beside each
other. Needs ffmpeg and srt-tools (`tools/setup.sh video`).
"""

import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.support.harness import BenchError, print_table, run_main
from tests.lab.radio_run import RowFailed
from tests.lab.video_run import Clips, link_rows, run_row

TOOLS: Final = {"ffmpeg": "ffmpeg", "srt-live-transmit": "srt-tools"}
ROWS: Final = ("loss 3 %", "loss 10 %", "lan")
QUICK_S: Final = 8
JOBS: Final = {True: 2, False: 1}

Figures = Mapping[str, float]


def check_tools() -> None:
    """Errors: BenchError."""
    missing = [f"{name} (package {package})" for name, package in TOOLS.items() if not shutil.which(name)]
    if missing:
        raise BenchError(f"missing: {', '.join(missing)}; install with `tools/setup.sh video`")


def run_all(quick: bool) -> dict[str, Figures]:
    """All rows. Errors: BenchError."""
    videos = {row.name: video for row, video in link_rows()}
    chosen = {name: videos[name] for name in ROWS}
    if quick:
        chosen = {name: replace(video, seconds=QUICK_S) for name, video in chosen.items()}
    with Clips() as clips, ThreadPoolExecutor(JOBS[quick]) as pool:
        try:
            paths = {video.seconds: clips.path(video.seconds) for video in chosen.values()}
            results = {
                name: pool.submit(run_row, name, video, paths[video.seconds], 1) for name, video in chosen.items()
            }
            return {name: result.result() for name, result in results.items()}
        except RowFailed as error:
            pool.shutdown(cancel_futures=True)
            raise BenchError(str(error)) from error


def measure(quick: bool) -> dict[str, float | None]:
    """All figures; prints the table."""
    check_tools()
    found = run_all(quick)
    lan, losses = found["lan"], {pct: found[f"loss {pct} %"] for pct in (3, 10)}
    rows: list[tuple[str, ...]] = [("loss", "on time %", "SRT", "played %", "SRT", "wire/payload", "SRT")]
    for pct, figures in losses.items():
        names = ("on_time_pct", "played_pct", "wire_per_payload")
        rows.append((f"{pct} %", *(f"{figures[head + name]:.3f}" for name in names for head in ("", "srt_"))))
    print_table("720p30 and KLV over 4 Mbit/s and 300 ms, 1.15 s of buffer", rows)
    result: dict[str, float | None] = {f"on_time_pct_{pct}": each["on_time_pct"] for pct, each in losses.items()}
    result |= {f"srt_on_time_pct_{pct}": each["srt_on_time_pct"] for pct, each in losses.items()}
    result["archive_identical"] = min(each["archive_identical"] for each in found.values())
    result["added_latency_ms"] = lan["added_latency_ms"]
    result["overhead_points"] = max(each["overhead_points"] for each in found.values())
    print_table("", [("figure", "now"), *((name, f"{value:.3f}") for name, value in result.items())])
    return result


if __name__ == "__main__":
    sys.exit(run_main("Video over links with loss, meshd beside SRT.", measure))
