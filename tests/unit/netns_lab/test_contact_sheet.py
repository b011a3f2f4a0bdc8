# SPDX-License-Identifier: Apache-2.0
"""The command lines that draw a contact sheet."""

from pathlib import Path

import pytest

from netns_lab import contact_sheet as module
from netns_lab.contact_sheet import Cell, blank_command, cell_command, make_contact_sheet, sheet_command
from netns_lab.errors import LabError
from netns_lab.video_ends import Recording


def test_a_cell_says_who_saw_it_and_when() -> None:
    for command in (
        cell_command(Path("cell.png"), "dpop2", "at 4 s"),
        blank_command(Path("cell.png"), "dpop2", "at 4 s"),
    ):
        filters = command[command.index("-vf") + 1]
        assert "text='dpop2'" in filters
        assert "text='at 4 s'" in filters
        assert command[-1] == "cell.png"


def test_the_last_picture_is_the_one_that_stays() -> None:
    command = cell_command(Path("cell.png"), "dpop2", "now")
    assert command[command.index("-update") + 1] == "1"
    assert command[command.index("-i") + 1] == "-"


@pytest.mark.parametrize("text", ["it's", "50 %", "12:30", "back\\slash"])
def test_words_that_would_steer_ffmpeg_are_refused(text: str) -> None:
    with pytest.raises(LabError, match="label"):
        cell_command(Path("cell.png"), text, "now")


def test_the_sheet_has_a_row_for_each_instant() -> None:
    command = sheet_command("cell%03d.png", 3, 6, Path("sheet.png"))
    assert command[command.index("-vf") + 1].startswith("tile=3x6:")


def test_who_has_no_picture_gets_a_blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], data: bytes = b"") -> None:
        ran.append(command)
        if "-update" in command and not data:
            raise LabError("nothing to decode")
        Path(command[-1]).touch()

    monkeypatch.setattr(module, "run_ffmpeg", run)
    row = [Cell(Recording(), 1.0, name, "at 1 s") for name in ("source", "dpop2")]
    make_contact_sheet([row], tmp_path, tmp_path / "sheet.png")
    assert [("lavfi" in command, command[-1]) for command in ran] == [
        (False, str(tmp_path / "cell000.png")),
        (True, str(tmp_path / "cell000.png")),
        (False, str(tmp_path / "cell001.png")),
        (True, str(tmp_path / "cell001.png")),
        (False, str(tmp_path / "sheet.png")),
    ]
