# SPDX-License-Identifier: Apache-2.0
"""Rendering: tables, the progress of a transfer, and what stands for a value that is not there."""

import io
import sys
from pathlib import Path

import pytest

from meshd.ctl.main import run
from meshd.ctl.output import Output, cell, duration, instant, size
from tests.unit.client.fake_daemon import FakeDaemon

HIDDEN_WITHOUT_RICH = ("rich", "rich.console", "rich.markup", "rich.progress", "meshd.ctl.progress")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_plain_tables_set_numbers_to_the_right() -> None:
    stdout = io.StringIO()
    Output(as_json=False, stdout=stdout).table(("NAME", "BYTES"), [("a", 5), ("long name", 1000), ("none", None)])
    assert stdout.getvalue().splitlines() == [
        "NAME       BYTES",
        "a              5",
        "long name   1000",
        "none           -",
    ]


@pytest.mark.parametrize("with_rich", [True, False])
@pytest.mark.parametrize("total_bytes", [4096, None])
def test_progress_is_shown_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, with_rich: bool, total_bytes: int | None
) -> None:
    stdout, terminal = io.StringIO(), Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    if not with_rich:
        for name in HIDDEN_WITHOUT_RICH:
            monkeypatch.setitem(sys.modules, name, None)
    with Output(as_json=False, stdout=stdout).progress("sending [red]file") as progress:
        assert progress is not None
        progress(2048, total_bytes)
    shown = terminal.getvalue()
    assert ("sending [red]file" in shown) is with_rich
    assert ("\r2 KiB of" in shown) is not with_rich
    assert stdout.getvalue() == ""


def test_progress_is_not_shown_in_a_pipe() -> None:
    stderr = io.StringIO()
    with Output(as_json=False, stderr=stderr).progress("sending") as progress:
        assert progress is None
    assert stderr.getvalue() == ""


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (cell(None), "-"),
        (cell(""), "-"),
        (cell(True), "yes"),
        (cell(0), "0"),
        (size(None), "-"),
        (duration(None), "-"),
        (duration(90.2), "1.5 min"),
        (instant(None), "-"),
        (instant(10**24), f"{10**24} ms"),
    ],
)
def test_values_for_people(shown: str, expected: str) -> None:
    assert shown == expected


def test_a_reload_says_what_needs_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(tmp_path / "control.sock") as daemon:
        daemon.replies["reload"] = lambda _: {"changed": ["route"], "needs_restart": ["node.id"]}
        assert run(["--socket", str(daemon.path), "reload"]) == 0
        assert capsys.readouterr().out == "changed: route\nneeds a restart of meshd: node.id\n"
        daemon.replies["reload"] = lambda _: {"changed": [], "needs_restart": []}
        assert run(["--socket", str(daemon.path), "reload"]) == 0
        assert capsys.readouterr().out == "nothing changed\n"
