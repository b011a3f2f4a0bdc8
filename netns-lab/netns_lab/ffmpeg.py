# SPDX-License-Identifier: Apache-2.0
"""Running ffmpeg, and what it says of a video."""

import subprocess
from dataclasses import dataclass
from typing import Final

from netns_lab.errors import LabError

TIMEOUT_S: Final = 120.0
_READ: Final = ("ffmpeg", "-v", "error", "-f", "mpegts", "-i", "-", "-map", "0:v:0")
_DECODE: Final = (*_READ, "-fps_mode", "passthrough", "-f", "framemd5", "-")


def run_ffmpeg(command: list[str], data: bytes = b"") -> None:
    """Run it to its end, with `data` as its input. LabError with its own words when it fails."""
    done = _run(command, data)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()[-2000:]
        raise LabError(f"ffmpeg: exit {done.returncode}: {words} (it needs libx264, and a font for drawtext)")


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pictures of a transport stream."""

    pictures: list[str]
    """A digest of each."""
    complaints: int
    """Lines of the decoder's."""


def decode(data: bytes) -> Decoded:
    """What a player makes of it; nothing, of what can't be decoded."""
    done = _run(list(_DECODE), data)
    rows = [line for line in done.stdout.decode().splitlines() if not line.startswith("#")]
    return Decoded([row.rpartition(",")[2].strip() for row in rows], len(done.stderr.splitlines()))


def _run(command: list[str], data: bytes) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise LabError("ffmpeg is missing; install ffmpeg and fonts-dejavu-core") from None
