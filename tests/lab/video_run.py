# SPDX-License-Identifier: Apache-2.0
"""Video between real daemons over emulated links: rows of the table as figures, target and verdict.

    python -m tests.lab.video_run [--rows NAME,NAME] [--seed N] [--seconds N]

Each row is a lab of its own (scenarios/video_rows.py), one after the other; the clip is ffmpeg's, with KLV between. On
time is what is shown within the delay of the link one way, the buffer, and 0.05 s that programs may add. SRT is run
over the same link by the same rule, with a latency of the same buffer.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "netns-lab"))

from netns_lab.errors import LabError
from netns_lab.video_clip import make_clip
from tests.lab.radio_run import Bound, Row, RowFailed, say, show

ROOT: Final = Path(__file__).resolve().parents[2]
SCENARIO: Final = Path(__file__).resolve().parent / "scenarios" / "video_rows.py"
SECONDS: Final = 60
LONG_S: Final = 600
TIMEOUT_S: Final = 400.0
"""On top of the video itself."""
LAN: Final = {"rate_bps": 100_000_000, "delay_s": 0.0005, "modem_s": 0.1}
SATCOM: Final = {"rate_bps": 4_000_000, "delay_s": 0.15}
RADIO: Final = {"rate_bps": 4_000_000, "delay_s": 0.02, "loss": 0.01, "receivers": 3, "is_multicast": True}


@dataclass(frozen=True, slots=True)
class Video:
    """What is sent in a row, and what happens meanwhile."""

    net: Mapping[str, Any]
    buffer_ms: int
    """All that a viewer may be behind an arrival over a quiet link."""
    seconds: int = SECONDS
    changes: Sequence[Sequence[Any]] = ()
    """Seconds since the video began, what changes (scenarios/video_rows.py), values."""
    with_srt: bool = False
    speed: int = 1
    """So many seconds of the clip in one."""


class Clips:
    """Clips of ffmpeg's by length, each made once; a context manager. Errors: RowFailed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="meshd-video-")

    def __enter__(self) -> "Clips":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def path(self, seconds: int) -> Path:
        """The clip of this length."""
        found = Path(self._folder.name) / f"{seconds}.ts"
        if not found.exists():
            try:
                data = make_clip(found, seconds)
            except LabError as error:
                raise RowFailed(str(error)) from error
            found.write_bytes(data)
        return found


def run_row(name: str, video: Video, clip: Path, seed: int) -> dict[str, Any]:
    """Its figures. Errors: RowFailed."""
    if video.with_srt and not shutil.which("srt-live-transmit"):
        raise RowFailed(f"{name}: srt-live-transmit is missing; install srt-tools")
    command = [sys.executable, str(ROOT / "netns-lab" / "lab"), "run", "--seed", str(seed), str(SCENARIO)]
    command += [str(clip), json.dumps(asdict(video))]
    timeout_s = video.seconds * 2 + TIMEOUT_S
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise RowFailed(f"{name}: no end after {timeout_s:g} s") from None
    if done.returncode:
        raise RowFailed(f"{name}: {done.stderr.strip()[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def make_row(name: str, video: Video, *bounds: Bound) -> tuple[Row, Video]:
    """Every row's archives have to be what was sent."""
    return Row(name, "video", video.net, bounds=[*bounds, Bound("archive_identical", 1, 1)]), video


def link_rows() -> Iterable[tuple[Row, Video]]:
    """What a link loses, and how far it reaches."""
    clean = [Bound("decoder_errors", 0, 0), Bound("klv_equal", 1, 1), Bound("added_latency_ms", at_most=150)]
    cpu = [Bound("publisher_cpu_pct", at_most=5), Bound("viewer_cpu_pct", at_most=5)]
    overhead = Bound("overhead_points", at_most=8)
    yield make_row("lan", Video(LAN, 140), Bound("on_time_pct", at_least=100), *clean, *cpu, overhead)
    for pct, target in ((3, 99.95), (10, 99.8)):
        video = Video(SATCOM | {"loss": pct / 100}, 1150, with_srt=True)
        yield make_row(f"loss {pct} %", video, Bound("on_time_pct", at_least=target), overhead)
    geo = Video(SATCOM | {"delay_s": 0.3, "loss": 0.05}, 2000)
    yield make_row("geo 5 %", geo, Bound("on_time_pct", at_least=99.8), overhead)


def change_rows() -> Iterable[tuple[Row, Video]]:
    """What happens on the way."""
    cut = Video(SATCOM, 1150, 40, [(15, "cut"), (21, "restore")])
    yield make_row("outage of 6 s", cut, Bound("back_s", at_most=1), Bound("archive_s", at_most=60))
    slow = Video(SATCOM, 1150, 50, [(10, "fall", 500_000), (35, "rise", 4_000_000)])
    waits = [Bound("key_wait_s", at_most=3), Bound("klv_wait_s", at_most=1.5), Bound("thinned_errors", 0, 0)]
    yield make_row("500 kbit/s", slow, *waits)
    flood = Video({"rate_bps": 2_000_000, "delay_s": 0.05}, 1150, seconds=2, speed=24)
    yield make_row("50 Mbit/s into 2", flood)
    yield make_row("multicast to 3", Video(RADIO, 1150), Bound("wire_per_payload", at_most=1.3))
    yield make_row("restarts", disturbed(SECONDS))
    yield make_row("restarts, 10 min", disturbed(LONG_S))


def disturbed(seconds: int) -> Video:
    """Two outages, half of the nodes killed and started again, the publisher silent for a while."""
    part = seconds / 12
    changes: list[tuple[Any, ...]] = [
        (1 * part, "cut"),
        (2 * part, "restore"),
        (3 * part, "kill", "b1"),
        (4 * part, "start", "b1"),
        (5 * part, "emcon", "a", "silent"),
        (7 * part, "emcon", "a", "unrestricted"),
        (8 * part, "kill", "b2"),
        (9 * part, "start", "b2"),
        (10 * part, "cut"),
        (11 * part, "restore"),
    ]
    return Video(RADIO, 1150, seconds, changes)


def main() -> int:
    """The command."""
    rows = [*link_rows(), *change_rows()]
    names = ", ".join(row.name for row, _ in rows).replace("%", "%%")
    parser = argparse.ArgumentParser(description="Video between real daemons over emulated links.")
    parser.add_argument("--rows", help=f"some, with commas between: {names}")
    parser.add_argument("--seed", type=int, default=1, help="of the emulated losses")
    parser.add_argument("--seconds", type=int, help="of video, in rows in which nothing changes")
    arguments = parser.parse_args()
    wanted = arguments.rows.split(",") if arguments.rows else [row.name for row, _ in rows]
    is_met = True
    with Clips() as clips:
        for row, video in rows:
            if row.name not in wanted:
                continue
            is_fixed = video.changes or video.speed > 1 or not arguments.seconds
            seconds = video.seconds if is_fixed else arguments.seconds
            try:
                played = replace(video, seconds=seconds)
                is_met &= show(row, run_row(row.name, played, clips.path(seconds * video.speed), arguments.seed))
            except RowFailed as error:
                say(str(error))
                is_met = False
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
