# SPDX-License-Identifier: Apache-2.0
"""A contact sheet: what several viewers of a video had before them at the same instants, one row an instant.

Each picture is the last one that a decoder makes of what the viewer had been given by then, so a viewer without news
shows a picture that stands still; the burned-in clock says how old it is. ffmpeg does it all: decoder, `drawtext`,
`tile`.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netns_lab.errors import LabError
from netns_lab.ffmpeg import run_ffmpeg
from netns_lab.video_ends import Recording

CELL_WIDTH: Final = 480
CELL_HEIGHT: Final = 270
_FORBIDDEN: Final = "'\\:%"
"""Steer drawtext."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture: what a viewer had before him at an instant."""

    seen: Recording
    at_s: float
    """On the clock of time.monotonic()."""
    viewer: str
    """What to write above."""
    words: str
    """And below."""


def _label(text: str, place: str) -> str:
    if any(character in text for character in _FORBIDDEN):
        raise LabError(f"a label of the contact sheet has one of {_FORBIDDEN}: {text}")
    box = "fontsize=19:fontcolor=white:box=1:boxcolor=black@0.75:boxborderw=5"
    return f"drawtext=font=Sans:text='{text}':x=8:y={place}:{box}"


def _labels(viewer: str, words: str) -> str:
    return f"{_label(viewer, '8')},{_label(words, 'h-th-8')}"


def cell_command(path: Path, viewer: str, words: str) -> list[str]:
    """The command line of ffmpeg that reads a transport stream and leaves its last picture."""
    filters = f"scale={CELL_WIDTH}:{CELL_HEIGHT},{_labels(viewer, words)}"
    output = ["-fps_mode", "passthrough", "-update", "1", str(path)]
    return ["ffmpeg", "-v", "fatal", "-y", "-f", "mpegts", "-i", "-", "-map", "0:v:0", "-vf", filters, *output]


def blank_command(path: Path, viewer: str, words: str) -> list[str]:
    """The command line of ffmpeg that makes the picture of a viewer who has none."""
    filters = f"{_labels(viewer, words)},{_label('no picture', '(h-th)/2')}"
    source = f"color=gray:size={CELL_WIDTH}x{CELL_HEIGHT}"
    return ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-vf", filters, "-frames:v", "1", str(path)]


def sheet_command(cells: str, columns: int, rows: int, path: Path) -> list[str]:
    """The command line of ffmpeg that puts the pictures together; `cells` is a pattern such as `cell%03d.png`."""
    tile = f"tile={columns}x{rows}:padding=6:margin=6:color=white"
    return ["ffmpeg", "-v", "error", "-y", "-i", cells, "-vf", tile, "-frames:v", "1", str(path)]


def make_contact_sheet(rows: Sequence[Sequence[Cell]], folder: Path, path: Path) -> None:
    """Write the sheet to `path`, with scratch files in `folder`. LabError when ffmpeg fails."""
    cells = [cell for row in rows for cell in row]
    for number, cell in enumerate(cells):
        picture = folder / f"cell{number:03d}.png"
        # What can't be decoded is no picture; that ffmpeg works at all is shown by the blank one.
        with contextlib.suppress(LabError):
            run_ffmpeg(cell_command(picture, cell.viewer, cell.words), cell.seen.window(cell.at_s))
        if not picture.exists():
            run_ffmpeg(blank_command(picture, cell.viewer, cell.words))
    run_ffmpeg(sheet_command(str(folder / "cell%03d.png"), len(cells) // len(rows), len(rows), path))
